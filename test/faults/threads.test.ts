/**
 * Backends that are killed, ended, cancelled, cut off or stopped while the threads of their kernels compute: what is left of
 * them, and whether others compute the same bits on as many threads. FAULT_SEED repeats a run, TEST_LONG=1 is a long one,
 * FAULT_ROUNDS says how many faults there are at random moments.
 */
import { existsSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { random } from '../../bench/random.ts';
import { lacksOwn } from '../db/harness.ts';
import { threadTime } from '../db/processor-time.ts';
import { LONG } from '../long.ts';
import { query } from '../scale/servers.ts';
import {
  coresOf,
  kernelThreads,
  kernelTime,
  processesOf,
  sharedMemoryOf,
  systemVSegments,
  temporaryFilesOf,
} from './kernel-threads.ts';
import type { Session } from './server.ts';
import { failure, FaultServer, largeModel, MODEL, MOMENTS_MS, SESSION_ENDED } from './server.ts';

const SEED = Number(process.env.FAULT_SEED ?? 1);
const next = random(SEED);
/** Threads of a session at most; three sessions can have three cores each at once where their calls may have 3, 6 and 9. */
const MOST_THREADS = 9;
/** More than the cores of a small machine, and as many. */
const THREADS = [2, 3];
const INTERRUPTS = LONG ? 60 : 2; // of each kind and number of threads
const ROUNDS = Number(process.env.FAULT_ROUNDS ?? (LONG ? 60 : 3));
/** Within this a backend ends what it computes; of the processor, and asserted four times (test/db/cancel.test.ts). */
const LATENCY_MS = 250;
/** Longer than anything here takes that does not hang. */
const HANG_MS = 60_000;
const QUERY_CANCELED = '57014';
const INTERNAL_ERROR = 'XX000';

const PROMPTS = { prefill: `repeat('Tell a very long story. ', 250)`, decode: `'Once upon a time'` } as const;
const SHORT = `repeat('Tell a very long story. ', 5)`;
type Work = keyof typeof PROMPTS;
const WORKS = Object.keys(PROMPTS) as Work[];
/** What `npm test` tries of what is alike. */
const [SOME_WORKS, SOME_THREADS] = LONG ? [WORKS, THREADS] : [['prefill'] as const, [3]];

const OPTIONS = { raw: true, temperature: 0, cache: false, record: false };
const generate = (prompt: string, options: object): string =>
  `select hartonomous.generate(${prompt}, '${MODEL}', options => '${JSON.stringify({ ...OPTIONS, ...options })}') as text`;

/** A call that goes on until somebody ends it: reading a prompt first, or writing at once. */
const endless = (work: Work, threads?: number): string =>
  generate(PROMPTS[work], {
    num_predict: -1,
    num_ctx: 2048,
    logit_bias: { 0: -1000, 2: -1000 },
    ...(threads === undefined ? {} : { num_thread: threads }),
  });

/** A text and the logits behind some tokens, to the last bit. */
const ask = (threads: number): string =>
  `${generate(SHORT, { num_predict: 6, num_thread: threads })},
    md5(hartonomous.logits(array(select 100 + g from generate_series(1, 20) g), '${MODEL}', '{"num_thread": ${threads}}')::text) as logits`;

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const started = performance.now(); !condition(); await sleep(10)) {
    if (performance.now() - started > HANG_MS) throw new Error(`${what}: not after ${HANG_MS} ms`);
  }
}

interface Call extends Session {
  /** How the call ends. */
  running: Promise<string>;
}

describe.skipIf(lacksOwn('kernels'))('while threads of kernels compute', () => {
  let server: FaultServer;
  let answer: Record<string, unknown>[];
  /** Temporary files of the server that nobody uses. */
  let files: string[];
  /** Shared memory that its processes had at any time. */
  const shared = new Set<string>();
  const stopped = new Set<number>();

  beforeAll(async () => {
    server = await FaultServer.start(largeModel());
    await query(server.url, `alter database hartonomous set hartonomous_v8.threads = ${MOST_THREADS}`);
    answer = await query(server.url, ask(1));
    files = temporaryFilesOf(server.dataFolder);
    console.log(`seed ${SEED}`);
  }, 300_000);

  afterAll(() => {
    for (const pid of stopped) process.kill(pid, 'SIGCONT');
    server.cluster.destroy();
  });

  /** Begin a call, and wait until its threads compute. */
  async function start(work: Work, threads: number, session?: Session): Promise<Call> {
    const on = session ?? (await server.open());
    const before = kernelTime(on.pid);
    const running = failure(on.client.query(endless(work, threads)));
    await until('threads compute', () => kernelThreads(on.pid).length === threads - 1 && kernelTime(on.pid) > before);
    return { ...on, running };
  }

  /** Processes and threads of backends, which will not be there any more; what else the server has is noted. */
  function note(...backends: Session[]): number[] {
    for (const name of sharedMemoryOf(processesOf(server.dataFolder))) shared.add(name);
    return backends.flatMap(({ pid }) => [pid, ...kernelThreads(pid)]);
  }

  async function cancel(pid: number): Promise<void> {
    await query(server.url, 'select pg_cancel_backend($1)', [pid]);
  }

  async function terminate(pid: number): Promise<void> {
    await query(server.url, 'select pg_terminate_backend($1)', [pid]);
  }

  /** Milliseconds of the processor that a backend's own thread takes until a call of it has ended. */
  async function computedUntil(call: Call): Promise<number> {
    const before = threadTime(call.pid);
    let computed = 0;
    let ended = false;
    void call.running.finally(() => (ended = true));
    while (!ended) {
      try {
        computed = threadTime(call.pid) - before;
      } catch {
        break; // the process is gone
      }
      await sleep(5);
    }
    return computed;
  }

  /** A call that has been begun ends soon after it is asked to; how. */
  async function ends(call: Call, by: (pid: number) => Promise<void>): Promise<string> {
    const asked = performance.now();
    const computed = computedUntil(call);
    await by(call.pid);
    const how = await call.running;
    const ms = await computed;
    if (LONG) console.log(`${how} after ${Math.round(performance.now() - asked)} ms, ${ms} ms of the processor`);
    expect(ms).toBeLessThan(4 * LATENCY_MS);
    return how;
  }

  /** None of these processes and threads is there, nor a core that is held, nor memory or a file that nobody uses. */
  async function expectNothingLeft(gone: readonly number[]): Promise<void> {
    await until('processes and threads end', () => !gone.some((id) => existsSync(`/proc/${id}`)));
    // Who has seen that a backend was killed lets nobody in before the recovery.
    await server.waitUntilUp();
    await until('cores are free', () => {
      const { held, waiting } = coresOf(server.dataFolder);
      return held + waiting === 0;
    });
    await until('shared memory is freed', () => {
      const used = new Set(sharedMemoryOf(processesOf(server.dataFolder)));
      return ![...shared].some((name) => !used.has(name) && existsSync(name));
    });
    expect(temporaryFilesOf(server.dataFolder)).toEqual(files);
    expect(systemVSegments(processesOf(server.dataFolder)[0]!)).toBe(1);
  }

  /** A session computes the same bits, on all the threads that it may have. */
  async function expectAnswer({ client, pid }: Session, threads: number): Promise<void> {
    expect((await client.query(ask(threads))).rows).toEqual(answer);
    expect(kernelThreads(pid)).toHaveLength(threads - 1);
  }

  /** The same of a session of its own. */
  async function expectAnswers(): Promise<void> {
    await server.waitUntilUp();
    for (const threads of SOME_THREADS) {
      const session = await server.open();
      await expectAnswer(session, threads);
      await session.client.end();
      await until('a session ends', () => !existsSync(`/proc/${session.pid}`));
    }
  }

  test('a call holds its cores as long as it computes, and the numbers of threads give the same bits', async () => {
    const call = await start('decode', 3);
    expect(coresOf(server.dataFolder)).toEqual({ held: 3, waiting: 0 });
    await cancel(call.pid);
    expect(await call.running).toBe(QUERY_CANCELED);
    expect(coresOf(server.dataFolder)).toEqual({ held: 0, waiting: 0 });
    await call.client.end();
    await expectAnswers();
  });

  const KILLS = SOME_WORKS.flatMap((work) =>
    SOME_THREADS.flatMap((threads) => MOMENTS_MS.map((ms) => [work, threads, ms] as const)),
  );
  test.each(KILLS)(
    'a backend is killed in %s with %i threads, %i ms on: the server recovers, nothing is left, and the bits are the same',
    async (work, threads, ms) => {
      const call = await start(work, threads);
      await sleep(ms);
      const gone = note(call);
      process.kill(call.pid, 'SIGKILL');
      expect(await call.running).toMatch(SESSION_ENDED);
      await expectNothingLeft(gone);
      await expectAnswers();
      await server.expectUnharmed();
    },
  );

  test('three backends are killed at once: the server recovers, nothing is left, and the bits are the same', async () => {
    const calls = [await start('decode', 3)];
    for (const threads of [6, 9]) {
      // They take what is left: three cores each where there are no more than nine.
      const session = await server.open();
      const running = failure(session.client.query(endless('decode', threads)));
      await until('threads compute', () => kernelThreads(session.pid).length >= 2 && kernelTime(session.pid) > 0);
      calls.push({ ...session, running });
    }
    const gone = note(...calls);
    expect(gone.length).toBeGreaterThanOrEqual(9);
    for (const { pid } of calls) process.kill(pid, 'SIGKILL');
    for (const { running } of calls) expect(await running).toMatch(SESSION_ENDED);
    await expectNothingLeft(gone);
    await expectAnswers();
    await server.expectUnharmed();
  });

  test('an engine is killed: the server recovers, nothing is left, and the next engine gives the same bits', async () => {
    const engine = `select pid from pg_stat_activity where backend_type = 'hartonomous engine'`;
    const asking = await server.open({ settings: ['set hartonomous_v8.engine = on'] });
    const running = failure(asking.client.query(endless('decode')));
    let pid = 0;
    for (const started = performance.now(); pid === 0; await sleep(20)) {
      pid = ((await query(server.url, engine))[0]?.pid as number | undefined) ?? 0;
      if (performance.now() - started > HANG_MS) throw new Error('no engine has started');
    }
    await until('threads of the engine compute', () => kernelTime(pid) > 0);
    const gone = note(asking, { ...asking, pid });
    expect(shared.size, 'shared memory of the request').toBeGreaterThan(0);
    process.kill(pid, 'SIGKILL');
    expect(await running).toMatch(SESSION_ENDED);
    await expectNothingLeft(gone);
    const again = await server.open({ settings: ['set hartonomous_v8.engine = on'] });
    expect((await again.client.query(generate(SHORT, { num_predict: 6 }))).rows).toEqual([{ text: answer[0]!.text }]);
    expect(await query(server.url, engine)).toHaveLength(1);
    await terminate((await query(server.url, engine))[0]!.pid as number);
    await again.client.end();
    await expectNothingLeft([]);
    await expectAnswers();
  });

  test.each(THREADS)(
    'calls are cancelled with %i threads: each ends soon, and the session goes on with its threads',
    async (threads) => {
      const session = await server.open();
      for (let i = 0; i < INTERRUPTS; i++) {
        const call = await start(WORKS[i % WORKS.length]!, threads, session);
        await sleep(300 * next());
        expect(await ends(call, cancel)).toBe(QUERY_CANCELED);
        await expectAnswer(session, threads);
      }
      // Idle, it holds no core: another session has its threads at once.
      await expectNothingLeft([]);
      await expectAnswers();
      await session.client.end();
    },
  );

  test.each(THREADS)(
    'sessions are ended (pg_terminate_backend) with %i threads: each ends soon, and others go on',
    async (threads) => {
      const other = await server.open();
      for (let i = 0; i < INTERRUPTS; i++) {
        const call = await start(WORKS[i % WORKS.length]!, threads);
        await sleep(300 * next());
        const gone = note(call);
        expect(await ends(call, terminate)).toMatch(SESSION_ENDED);
        await expectNothingLeft(gone);
        await expectAnswer(other, threads);
      }
      await other.client.end();
    },
  );

  test.each(SOME_WORKS)(
    'the client goes away in %s: the backend ends with its threads, and others go on',
    async (work) => {
      const other = await server.open();
      const call = await start(work, 3, await server.open({ parameters: '-c client_connection_check_interval=100ms' }));
      const gone = note(call);
      cut(call.client);
      await call.running;
      await expectNothingLeft(gone);
      await expectAnswer(other, 3);
      await other.client.end();
    },
  );

  test('a backend is stopped (SIGSTOP) with all cores: others compute, and it goes on where it was', async () => {
    const asked = generate(`repeat('Tell a very long story. ', 60)`, { num_predict: 2, num_thread: 3 });
    const [one, other] = [await server.open(), await server.open()];
    const running = one.client.query(asked);
    await until('threads compute', () => kernelTime(one.pid) > 0);
    stop(one.pid);
    expect(coresOf(server.dataFolder).held).toBe(3);
    expect((await other.client.query(ask(3))).rows).toEqual(answer);
    expect(readFileSync(`/proc/${one.pid}/status`, 'utf8')).toMatch(/^State:\s+T/m);
    expect(coresOf(server.dataFolder).held).toBe(3);
    goOn(one.pid);
    expect((await other.client.query(asked)).rows).toEqual((await running).rows);
    await Promise.all([one.client.end(), other.client.end()]);
    await expectNothingLeft([one.pid, other.pid]);
  });

  test('the file of shared weights is cut short: that session ends, others go on, and the bits are the same', async () => {
    const other = await server.open();
    for (const threads of SOME_THREADS) {
      const call = await start('prefill', threads);
      const gone = note(call);
      for (const file of files.filter((name) => /\/[0-9a-f]{64}_[0-9a-f]{8}$/.test(name)))
        truncateSync(join(server.dataFolder, file), 65536);
      expect(await call.running).toBe(INTERNAL_ERROR);
      await until('processes and threads end', () => !gone.some((id) => existsSync(`/proc/${id}`)));
      // A server that recovered would have ended it.
      expect((await other.client.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
      await expectAnswers();
      await expectNothingLeft(gone);
    }
    await other.client.end();
  });

  const FAULTS: Record<string, (call: Call) => Promise<string>> = {
    cancel: (call) => ends(call, cancel),
    terminate: (call) => ends(call, terminate),
    cut: async (call) => {
      cut(call.client);
      return await call.running;
    },
    kill: async (call) => {
      process.kill(call.pid, 'SIGKILL');
      return await call.running;
    },
    stop: async (call) => {
      stop(call.pid);
      await sleep(500 * next());
      goOn(call.pid);
      return await ends(call, cancel);
    },
    'stop and kill': async (call) => {
      stop(call.pid);
      await sleep(500 * next());
      process.kill(call.pid, 'SIGKILL');
      stopped.delete(call.pid);
      return await call.running;
    },
  };

  test(`${ROUNDS} faults at random moments beside sessions that compute: their answers are what they are alone`, async () => {
    const kinds = Object.keys(FAULTS);
    const seen: string[] = [];
    const findings: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      // Each kind in turn, in another order each time.
      if (round % kinds.length === 0) kinds.sort(() => next() - 0.5);
      const kind = kinds[round % kinds.length]!;
      const kills = kind.includes('kill');
      const work = WORKS[Math.floor(next() * WORKS.length)]!;
      const threads = THREADS[Math.floor(next() * THREADS.length)]!;
      const call = await start(
        work,
        threads,
        await server.open({ parameters: '-c client_connection_check_interval=100ms' }),
      );
      let over = false;
      const neighbours = await Promise.all([6, 9].map(async (most) => ({ ...(await server.open()), most })));
      const answering = neighbours.map(async ({ client, most }) => {
        while (!over) {
          try {
            const { rows } = await client.query(ask(most));
            if (!isDeepStrictEqual(rows, answer)) findings.push(`beside ${kind}: ${JSON.stringify(rows)}`);
          } catch (error) {
            const { code, message } = error as pg.DatabaseError;
            if (!kills || !SESSION_ENDED.test(code ?? message)) findings.push(`beside ${kind}: ${message}`);
            return;
          }
        }
      });
      await sleep(600 * next());
      const gone = note(call, ...(kills ? neighbours : []));
      const how = await FAULTS[kind]!(call);
      seen.push(`${kind} in ${work} with ${threads}: ${how}`);
      expect(how, kind).toMatch(kind === 'cancel' || kind === 'stop' ? QUERY_CANCELED : SESSION_ENDED);
      over = true;
      await Promise.all(answering);
      expect(findings).toEqual([]);
      await Promise.all([call, ...neighbours].map(({ client }) => client.end().catch(() => undefined)));
      await expectNothingLeft([...gone, call.pid, ...neighbours.map(({ pid }) => pid)]);
      await expectAnswers();
    }
    console.log(seen.join('\n'));
    await server.expectUnharmed();
  }, 3_600_000);

  test('the server stops, and no process, shared memory or temporary file of it is left', async () => {
    const call = await start('decode', 3);
    const gone = [...note(call), ...processesOf(server.dataFolder)];
    const postmaster = processesOf(server.dataFolder)[0]!;
    server.control('-m', 'fast', '-w', 'stop');
    expect(await call.running).toMatch(SESSION_ENDED);
    await until('processes and threads end', () => !gone.some((id) => existsSync(`/proc/${id}`)));
    expect([...shared].filter((name) => existsSync(name))).toEqual([]);
    expect(systemVSegments(postmaster)).toBe(0);
    expect(coresOf(server.dataFolder)).toEqual({ held: 0, waiting: 0 });
    expect(temporaryFilesOf(server.dataFolder)).toEqual(files);
  });

  function stop(pid: number): void {
    stopped.add(pid);
    process.kill(pid, 'SIGSTOP');
  }

  function goOn(pid: number): void {
    process.kill(pid, 'SIGCONT');
    stopped.delete(pid);
  }
});

/** Close a client's socket as a machine that goes down does not, and a program that ends does. */
function cut(client: pg.Client): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}
