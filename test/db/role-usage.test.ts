/** What roles used, and what stays when somebody's text is erased. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import type { TestDatabase } from './harness.ts';
import { connectAs, createDatabase, ingestFile, roleName } from './harness.ts';

const [anna, ben, admin] = [roleName('anna'), roleName('ben'), roleName('admin')];
let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-q8_0.gguf'), 'stories');
  for (const role of [anna, ben]) await database.createRole(role, 'hartonomous_user');
  await database.createRole(admin, 'hartonomous_admin');
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await database.drop();
});
afterEach(() => database.pool.query('truncate hartonomous.runs, hartonomous.past_usage cascade'));

async function as<T extends pg.QueryResultRow>(role: string, sql: string): Promise<T[]> {
  await client.query(`set role ${role}`);
  try {
    return (await client.query<T>(sql)).rows;
  } finally {
    await client.query('reset role');
  }
}

const CALL = `select hartonomous.generate('Once', 'stories',
  '{"raw": true, "num_predict": 3, "record": true, "cache": false, "system": "be brief", "logit_bias": {"2": -1000}}')`;
const USAGE = `select role, day = (now() at time zone 'UTC')::date as today, model, calls::int, prompt_tokens::int,
  tokens::int, seconds > 0 as took from hartonomous.role_usage order by role`;

test('role_usage adds up calls, tokens and seconds by day and model, of runs that were deleted too', async () => {
  await as(anna, CALL);
  await as(anna, CALL);
  await as(ben, CALL);
  const row = (role: string, calls: number): object => ({
    role,
    today: true,
    model: 'stories',
    calls,
    prompt_tokens: 2 * calls,
    tokens: 3 * calls,
    took: true,
  });
  expect(await as(anna, USAGE)).toEqual([row(anna, 2)]);
  expect(await as(admin, USAGE)).toEqual([row(anna, 2), row(ben, 1)]);
  await as(anna, `select hartonomous.prune_runs('-1 day')`);
  expect(await as(anna, 'select from hartonomous.run_list')).toEqual([]);
  await as(anna, CALL);
  expect(await as(anna, USAGE)).toEqual([row(anna, 3)]);
  expect(await as(admin, USAGE)).toEqual([row(anna, 3), row(ben, 1)]);
});

test('erase_runs takes away what was said, and leaves who called what, when and how much', async () => {
  await as(anna, CALL);
  await as(ben, CALL);
  await as(anna, `select hartonomous.explain(max(id), 0) from hartonomous.run_list`);
  const facts = `select caller, kind, model, done_reason, prompt_eval_count, eval_count, created_at, total_ns, build_id
    from hartonomous.run_list`;
  const before = await as(anna, facts);
  await expect(as(anna, `select hartonomous.erase_runs('${anna}')`)).rejects.toMatchObject({ code: '42501' });
  expect(await as(admin, `select hartonomous.erase_runs('${anna}')::int as n`)).toEqual([{ n: 1 }]);
  expect(await as(anna, facts)).toEqual(before);
  expect(
    await as(
      anna,
      'select prompt_ids, output_ids, options, sampling, erased_at is not null as erased from hartonomous.run_list',
    ),
  ).toEqual([{ prompt_ids: [], output_ids: [], options: {}, sampling: {}, erased: true }]);
  for (const view of [
    'run_token_list',
    'explanations',
    'explanation_components',
    'explanation_inputs',
    'head_influence',
  ])
    expect(await as(anna, `select from hartonomous.${view}`), view).toEqual([]);
  await expect(as(anna, 'select hartonomous.explain(max(id), 0) from hartonomous.run_list')).rejects.toThrow(
    /was erased/,
  );
  expect((await as(ben, 'select from hartonomous.run_token_list')).length).toBe(5);
  expect(await as(admin, `select hartonomous.erase_runs('${anna}')::int as n`)).toEqual([{ n: 0 }]);
  await expect(as(admin, `select hartonomous.erase_runs('nobody_at_all')`)).rejects.toThrow(
    'role nobody_at_all has left no runs',
  );
});

test('erase_runs takes away explanations that are being written, and none is written after it', async () => {
  await as(anna, CALL);
  const { rows } = await client.query<{ id: string }>('select max(id) as id from hartonomous.runs');
  const [explaining, erasing] = [await connectAs(database.url, anna), await connectAs(database.url, admin)];
  try {
    await explaining.query('begin');
    await explaining.query('select hartonomous.explain($1, 0)', [rows[0]!.id]);
    const erased = erasing.query(`select hartonomous.erase_runs('${anna}')`);
    const waits = `select from pg_stat_activity where wait_event_type = 'Lock' and query like '%erase_runs(''${anna}'')%' and pid <> pg_backend_pid()`;
    while ((await client.query(waits)).rowCount === 0);
    await explaining.query('commit');
    await erased;
    expect((await client.query('select from hartonomous.explained_tokens')).rows).toEqual([]);
  } finally {
    await explaining.end();
    await erasing.end();
  }
});
