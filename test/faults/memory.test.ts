/** Memory runs out: of V8's heap, of one process, of all processes of the server, and of the group that a container gives it. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { serverUser } from '../../cli/cluster/cluster.ts';
import type { Session } from './server.ts';
import { ASK, failure, FaultServer, largeModel, SESSION_ENDED } from './server.ts';

const MEBIBYTE = 1024 * 1024;
/** Prompt of about 2,000 tokens, whose key/value cache takes some 90 MB. */
const LONG = `select hartonomous.complete(repeat('Tell a very long story. ', 330),
  options => '{"raw": true, "num_predict": 1, "num_ctx": 2100, "cache": false}')`;
const OUT_OF_MEMORY = '53200';

let server: FaultServer;
beforeAll(async () => {
  server = await FaultServer.start(largeModel());
}, 300_000);
afterAll(() => server.cluster.destroy());

/** Bytes that /proc says of a process: VmSize is all its addresses, VmData what it may write to alone. */
function bytesOf(pid: number, what: 'VmSize' | 'VmData'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`${what}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024;
}

/** Limit a process as ulimit does. The soft limit alone, as the process's own user: that may be raised again. */
function limit(pid: number, what: 'as' | 'data', bytes: number | 'unlimited'): void {
  execFileSync('prlimit', ['--pid', String(pid), `--${what}=${bytes}:`], { ...serverUser(), cwd: '/' });
}

async function expectAnswer({ client }: Session): Promise<void> {
  expect((await client.query(ASK)).rows).toEqual(server.answer);
}

describe('memory runs out', () => {
  test('of the JavaScript heap: an error, and the session goes on', async () => {
    const session = await server.open();
    const many = `select hartonomous.detokenize(array_fill(100, array[20000000]))`;
    expect(await failure(session.client.query(many))).toBe(inject('language') === 'upstream' ? 'XX000' : OUT_OF_MEMORY);
    await expectAnswer(session);
    await session.client.end();
  });

  test('for a model that is loaded: an error, and the session goes on when there is some again', async () => {
    const session = await server.open();
    await session.client.query(`select hartonomous.token_count('one two three')`); // starts V8, which reserves addresses of its own
    // Far less than the model's memory takes, and enough for what V8's compiling threads take beside it.
    limit(session.pid, 'as', bytesOf(session.pid, 'VmSize') + 48 * MEBIBYTE);
    expect(await failure(session.client.query(ASK))).toBe(OUT_OF_MEMORY);
    limit(session.pid, 'as', 'unlimited');
    await expectAnswer(session);
    await session.client.end();
  });

  test('for a WebAssembly memory that grows: an error or the end of this session, and the others go on', async () => {
    // Without segments, whose memory has its final size from the start.
    const session = await server.open({ parameters: '-c hartonomous_v8.extras=off' });
    const other = await server.open();
    await expectAnswer(session);
    await expectAnswer(other);
    limit(session.pid, 'data', bytesOf(session.pid, 'VmData') + 8 * MEBIBYTE);
    const outcome = await failure(session.client.query(LONG));
    if (inject('language') === 'upstream' && SESSION_ENDED.test(String(outcome))) {
      // V8 found no memory for itself and ended the process: PL/V8 has no answer to that, so all sessions end.
      expect(await failure(other.client.query('select pg_sleep(60)'))).toMatch(SESSION_ENDED);
    } else {
      // 54000 is V8 that finds no memory for itself in the middle of collecting garbage.
      expect([OUT_OF_MEMORY, '54000']).toContain(outcome);
      await expectAnswer(other);
    }
    await session.client.end().catch(() => undefined);
    await other.client.end().catch(() => undefined);
    await server.expectUnharmed();
  });

  test('under a limit on every process of the server: errors, and no process ends', async () => {
    const postmaster = Number(readFileSync(join(server.dataFolder, 'postmaster.pid'), 'utf8').split('\n')[0]);
    limit(postmaster, 'data', 100 * MEBIBYTE);
    const sessions = [await server.open(), await server.open(), await server.open()];
    limit(postmaster, 'data', 'unlimited');
    for (const { client } of sessions) await client.query('set statement_timeout = 60000');
    const outcomes = await Promise.all(sessions.map(({ client }) => failure(client.query(ASK))));
    expect(outcomes).toEqual(sessions.map(() => OUT_OF_MEMORY));
    for (const { client } of sessions)
      expect((await client.query(`select hartonomous.token_count('one') as n`)).rows).toEqual([{ n: 1 }]);
    for (const { client, pid } of sessions) {
      limit(pid, 'data', 'unlimited');
      expect((await client.query(ASK)).rows).toEqual(server.answer);
      await client.end();
    }
    await server.expectUnharmed();
  });

  test('of a container: the kernel kills the backend, all sessions end, and the server recovers', async (context) => {
    const group = MemoryGroup.make();
    if (group === null) return context.skip();
    try {
      const session = await server.open({ parameters: '-c hartonomous_v8.extras=off' });
      const other = await server.open();
      await session.client.query(`select hartonomous.token_count('one two three')`);
      group.take(session.pid, 40 * MEBIBYTE);
      expect(await failure(session.client.query(ASK))).toMatch(SESSION_ENDED);
      expect(await failure(other.client.query('select pg_sleep(60)'))).toMatch(SESSION_ENDED); // as soon as the server knows
      await server.expectUnharmed();
    } finally {
      await group.remove();
    }
  });
});

/** A control group whose processes together may not take more than some memory; Linux kills one where they would. */
class MemoryGroup {
  private constructor(
    private readonly folder: string,
    private readonly limitFile: string,
  ) {}

  /** Null, and a line that says so, where this user may not make one. */
  static make(): MemoryGroup | null {
    const versions = [
      ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'],
      ['/sys/fs/cgroup', 'memory.max'],
    ] as const;
    for (const [root, limitFile] of versions) {
      const folder = join(root, `hartonomous-test-${process.pid}`);
      try {
        mkdirSync(folder);
      } catch {
        continue;
      }
      if (existsSync(join(folder, limitFile))) return new MemoryGroup(folder, limitFile);
      rmdirSync(folder);
    }
    console.log('skipped: this user may not make a control group with a memory limit');
    return null;
  }

  take(pid: number, bytes: number): void {
    writeFileSync(join(this.folder, this.limitFile), String(bytes));
    writeFileSync(join(this.folder, 'cgroup.procs'), String(pid));
  }

  async remove(): Promise<void> {
    for (let tries = 0; tries < 100; tries++) {
      try {
        return rmdirSync(this.folder);
      } catch {
        await sleep(50); // a process is still about to end
      }
    }
  }
}
