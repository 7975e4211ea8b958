/** What a fault does to the caller, to the other sessions and to the data; docs/reliability.md has the table. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { runServerProgram, serverUser } from '../../cli/cluster/cluster.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { install } from '../../cli/install/install.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { ingestFile } from '../db/harness.ts';
import { smollm2File } from '../golden/smollm2-file.ts';
import { query, startPrimary } from '../scale/servers.ts';

/** Moments at which a step is hit, from its first statement to near its end. */
const MOMENTS_MS = [20, 120, 300];
const MODEL = 'smollm2';
/** A small model, for what does not need a long call. */
const SMALL = join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf');
const ASK = `select hartonomous.generate('The capital of France is', options => '{"raw": true, "temperature": 0, "num_predict": 6}') as text`;
const ENDLESS = `select hartonomous.generate('Once upon a time', options =>
  '{"raw": true, "temperature": 0, "num_predict": -1, "num_ctx": 2048, "record": true, "logit_bias": {"2": -1000, "0": -1000}}')`;

let server: { cluster: Cluster; url: string };
let file: string;
let expected: Record<string, unknown>[];

beforeAll(async () => {
  server = await startPrimary();
  const golden = JSON.parse(readFileSync(new URL('../golden/smollm2-135m-q4_1.json', import.meta.url), 'utf8')) as {
    sha256: string;
  };
  file = smollm2File(golden.sha256);
  await ingestFile(server.url, file, MODEL);
  expected = await query(server.url, ASK);
}, 300_000);

afterAll(() => server.cluster.destroy());

interface Session {
  client: pg.Client;
  pid: number;
}

async function open(settings: string[] = []): Promise<Session> {
  const client = new pg.Client({ connectionString: server.url });
  client.on('error', () => undefined);
  await client.connect();
  for (const setting of settings) await client.query(setting);
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return { client, pid: rows[0]!.pid };
}

/** SQLSTATE, or the message of an error that has none, of a statement that has to fail. */
async function failure(running: Promise<unknown>): Promise<string> {
  try {
    await running;
  } catch (error) {
    return (error as pg.DatabaseError).code ?? (error as Error).message;
  }
  throw new Error('the statement ended by itself');
}

function control(...args: string[]): void {
  const data = join(server.cluster.home, 'data');
  const done = runServerProgram('pg_ctl', ['-D', data, ...args]);
  if (done.status !== 0) throw new Error(`pg_ctl ${args.join(' ')}: ${done.output}`);
}

async function waitForServer(): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    try {
      await query(server.url, 'select 1');
      return;
    } catch {
      await sleep(50);
    }
  }
  throw new Error('the server did not come back');
}

/** Everything is as it was: the answer, the model, the data model's invariants. */
async function expectUnharmed(): Promise<void> {
  await waitForServer();
  expect(await query(server.url, ASK)).toEqual(expected);
  expect(await query(server.url, 'select name from hartonomous.model_list')).toEqual([{ name: MODEL }]);
  expect(await query(server.url, 'select * from hartonomous.check_integrity(false)')).toEqual([]);
}

async function killed(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await sleep(50);
}

describe('a backend is killed (SIGKILL)', () => {
  test.each(MOMENTS_MS)('%i ms into loading and generating: all sessions end, the server recovers', async (moment) => {
    const { client, pid } = await open();
    const other = await open();
    const running = failure(client.query(ENDLESS));
    await sleep(moment);
    await killed(pid);
    expect(await running).toMatch(/Connection terminated|57P0|ECONNRESET/);
    await other.client.end().catch(() => undefined);
    await expectUnharmed();
  });

  test.each(MOMENTS_MS)('%i ms into an ingest: nothing is visible, and the repeat completes', async (moment) => {
    const { client, pid } = await open();
    const running = failure(ingest(client, SMALL, { name: 'second', replace: true }));
    await sleep(moment);
    await killed(pid);
    await running;
    await expectUnharmed();
    const again = await open();
    await ingest(again.client, SMALL, { name: 'second', replace: true });
    expect(await verify(again.client, 'second')).toMatchObject({ differences: [] });
    await again.client.query(`select hartonomous.remove_model('second')`);
    await again.client.end();
    await expectUnharmed();
  });

  test.each(MOMENTS_MS)('%i ms into an install: the next one completes it', async (moment) => {
    await query(server.url, `create database fresh template template0 encoding 'UTF8'`);
    const url = new URL(server.url);
    url.pathname = '/fresh';
    const client = new pg.Client({ connectionString: url.toString() });
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const running = install(client).then(
      () => 'installed',
      () => 'failed',
    );
    await sleep(moment);
    await killed(rows[0]!.pid);
    await running;
    await waitForServer();
    const again = new pg.Client({ connectionString: url.toString() });
    await again.connect();
    await install(again);
    await again.end();
    const objects = `select count(*)::integer as n from pg_proc where pronamespace = 'hartonomous'::regnamespace`;
    expect(await query(url.toString(), objects)).toEqual(await query(server.url, objects));
    await query(server.url, 'drop database fresh with (force)');
    await expectUnharmed();
  });
});

describe('the server is stopped during a generation', () => {
  test('smart: the statement ends as it would have', async () => {
    const { client } = await open();
    const running = client.query(ASK);
    control('-m', 'smart', '-W', 'stop');
    expect((await running).rows).toEqual(expected);
    await client.end();
    await sleep(500);
    await server.cluster.up();
    await expectUnharmed();
  });

  test.each(['fast', 'immediate'])('%s: the statement fails, and after the start all is there', async (mode) => {
    const { client } = await open();
    const running = failure(client.query(ENDLESS));
    await sleep(300);
    control('-m', mode, '-w', 'stop');
    expect(await running).toMatch(/57P01|57P02|Connection terminated|ECONNRESET/);
    await server.cluster.up();
    await expectUnharmed();
  });
});

describe('the connection is cut during a generation', () => {
  test('the backend ends, and nothing is recorded', async () => {
    const before = await query(server.url, 'select count(*) from hartonomous.run_list');
    const { client, pid } = await open([`set client_connection_check_interval = '200ms'`]);
    const running = failure(client.query(ENDLESS));
    await sleep(300);
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    await running;
    for (let tries = 0; ; tries++) {
      const [row] = await query(server.url, 'select count(*)::integer as n from pg_stat_activity where pid = $1', [
        pid,
      ]);
      if (row?.n === 0) break;
      if (tries === 200) throw new Error('the backend of the cut connection still runs');
      await sleep(50);
    }
    expect(await query(server.url, 'select count(*) from hartonomous.run_list')).toEqual(before);
    await expectUnharmed();
  });
});

describe('a time limit of PostgreSQL', () => {
  test('statement_timeout ends the statement, and the session answers the next one', async () => {
    const { client } = await open([`set statement_timeout = '400ms'`]);
    expect(await failure(client.query(ENDLESS))).toBe('57014');
    await client.query('reset statement_timeout');
    expect((await client.query(ASK)).rows).toEqual(expected);
    await client.end();
  });

  test('lock_timeout ends a call that waits for a lock', async () => {
    const blocker = await open();
    await blocker.client.query('begin');
    await blocker.client.query('lock table hartonomous.models in access exclusive mode');
    const { client } = await open([`set lock_timeout = '200ms'`]);
    expect(await failure(client.query(ASK))).toBe('55P03');
    await blocker.client.query('rollback');
    expect((await client.query(ASK)).rows).toEqual(expected);
    await client.end();
    await blocker.client.end();
  });

  test('idle_in_transaction_session_timeout takes the recorded run back with the transaction', async () => {
    const before = await query(server.url, 'select count(*) from hartonomous.run_list');
    const { client } = await open([`set idle_in_transaction_session_timeout = '200ms'`]);
    await client.query('begin');
    await client.query(ASK.replace('"raw"', '"record": true, "raw"'));
    await sleep(1000);
    expect(await failure(client.query('commit'))).toMatch(/25P03|Connection terminated|not queryable/);
    expect(await query(server.url, 'select count(*) from hartonomous.run_list')).toEqual(before);
    await expectUnharmed();
  });
});

describe('memory runs out', () => {
  test('of WebAssembly memory: an error, and the session goes on when there is some again', async () => {
    const { client, pid } = await open();
    await client.query(`select hartonomous.token_count('one two three')`); // starts V8, which reserves its own address space
    // The soft limit alone, as the process's own user: that may be raised again.
    const limit = (bytes: string): void => {
      execFileSync('prlimit', ['--pid', String(pid), `--as=${bytes}:`], { ...serverUser(), cwd: '/' });
    };
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const used = Number(/VmSize:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
    limit(String(used + 8 * 1024 * 1024));
    expect(await failure(client.query(ASK))).toBe('53200');
    limit('unlimited');
    expect((await client.query(ASK)).rows).toEqual(expected);
    await client.end();
  });

  test('of the JavaScript heap: an error, and the session goes on', async () => {
    const { client } = await open();
    const many = `select hartonomous.tokenize(repeat('a b ', 60000000))`;
    expect(await failure(client.query(many))).toMatch(/53200|54000|22/);
    expect((await client.query(ASK)).rows).toEqual(expected);
    await client.end();
  });
});
