/** Which backends hold a model is known to every session, and stop_model frees it in all of them. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { connectAlone, createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const FILE = modelPath('llama-260k/llama-260k-q8_0.gguf');
const ASK = `select hartonomous.generate('Once', 'stories', '{"raw": true, "num_predict": 1, "temperature": 0}')`;
const user = roleName('onlooker');

let database: TestDatabase;
const clients: pg.Client[] = [];

async function session(): Promise<pg.Client & { processID: number }> {
  const client = (await connectAlone(database.url)) as pg.Client & { processID: number };
  clients.push(client);
  return client;
}

async function holders(client: pg.Client, model = 'stories'): Promise<number[]> {
  const { rows } = await client.query<{ pid: number }>(
    'select pid from hartonomous.loaded_everywhere where model = $1 order by pid',
    [model],
  );
  return rows.map((row) => row.pid);
}

/** Advisory locks of a backend. One that was taken twice would outlive its unlock. */
async function advisoryLocks(client: pg.Client, pid: number): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    `select count(*)::integer as n from pg_locks where locktype = 'advisory' and pid = $1`,
    [pid],
  );
  return rows[0]!.n;
}

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(user, 'hartonomous_user');
  await ingestFile(database.url, FILE, 'stories');
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-f16.gguf'), 'other');
});

afterAll(async () => {
  for (const client of clients) await client.end();
  await database.drop();
});

describe('loaded_everywhere', () => {
  test('shows every backend that holds a model, to an ordinary user too', async () => {
    const [one, two, watcher] = [await session(), await session(), await session()];
    await watcher.query(`set role ${user}`);
    expect(await holders(watcher)).toEqual([]);
    await one.query(ASK);
    await two.query(ASK);
    const pids = [one.processID, two.processID].sort((a, b) => a - b);
    expect(await holders(watcher)).toEqual(pids);
    await one.query(`select hartonomous.unload('stories')`);
    expect(await holders(watcher)).toEqual([two.processID]);
    await two.end();
    await expect.poll(() => holders(watcher), { timeout: 5000 }).toEqual([]);
  });

  test('keeps one lock a model however often it is called, and in a transaction that fails', async () => {
    const [one, watcher] = [await session(), await session()];
    await one.query('begin');
    await one.query(ASK);
    await expect(one.query('select 1/0')).rejects.toThrow('division by zero');
    await one.query('rollback');
    expect(await holders(watcher)).toEqual([one.processID]);
    for (let i = 0; i < 3; i++) await one.query(ASK);
    await one.query(ASK.replace('"raw"', '"precision": "f32", "raw"'));
    expect(await advisoryLocks(watcher, one.processID)).toBe(1);
    await one.query('select hartonomous.unload()');
    expect(await advisoryLocks(watcher, one.processID)).toBe(0);
  });

  test('shows a backend again at a call after discard all', async () => {
    const [one, watcher] = [await session(), await session()];
    await one.query(ASK);
    await one.query('discard all');
    expect(await holders(watcher)).toEqual([]);
    await sleep(1100);
    await one.query(ASK);
    expect(await holders(watcher)).toEqual([one.processID]);
    await one.query('select hartonomous.unload()');
  });

  test('hides a model that was removed', async () => {
    const [one, watcher] = [await session(), await session()];
    await one.query(ASK.replace('stories', 'other'));
    expect(await holders(watcher, 'other')).toEqual([one.processID]);
    await watcher.query(`select hartonomous.remove_model('other')`);
    expect(await holders(watcher, 'other')).toEqual([]);
    await one.query('select * from hartonomous.loaded_models');
    expect(await advisoryLocks(watcher, one.processID)).toBe(0);
  });
});

describe('stop_model', () => {
  test('frees the model in every backend at its next call', async () => {
    const [one, two, watcher] = [await session(), await session(), await session()];
    await one.query(ASK);
    await two.query(ASK);
    const { rows } = await watcher.query(`select hartonomous.stop_model('stories') as n`);
    expect(rows).toEqual([{ n: '2' }]);
    expect((await one.query('select * from hartonomous.loaded_models')).rows).toEqual([]);
    expect(await holders(watcher)).toEqual([two.processID]);
    const calls = async (client: pg.Client): Promise<unknown> =>
      (await client.query('select calls from hartonomous.loaded_models')).rows;
    await two.query(ASK);
    expect(await calls(two), 'loaded afresh').toEqual([{ calls: '1' }]);
    await two.query(ASK);
    expect(await calls(two), 'and kept').toEqual([{ calls: '2' }]);
  });

  test('is not for everybody, and names a model that does not exist', async () => {
    const client = await session();
    await expect(client.query(`select hartonomous.stop_model('nobody')`)).rejects.toThrow(
      'model nobody does not exist',
    );
    await client.query(`set role ${user}`);
    await expect(client.query(`select hartonomous.stop_model('stories')`)).rejects.toThrow(/permission denied/);
  });
});

test('show_model tells everything of one model', async () => {
  const { rows } = await database.pool.query(`select hartonomous.show_model('stories') as model`);
  expect(rows[0]).toMatchObject({
    model: { name: 'stories', architecture: 'llama', storage_types: { F32: 11 }, metadata: { 'llama.block_count': 5 } },
  });
  await expect(database.pool.query(`select hartonomous.show_model('nobody')`)).rejects.toThrow(
    'model nobody does not exist',
  );
});
