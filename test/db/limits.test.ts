/** What an operator allows, and how it is seen that it holds. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import type { TestDatabase } from './harness.ts';
import { createDatabase, ingestFile, roleName } from './harness.ts';

// New ones for each test: no rollback, no connection and no other test takes back what was counted for a role.
let [anna, ben] = ['', ''];
const OVER_LIMIT = '53400';

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('llama-260k/llama-260k-q8_0.gguf'), 'stories');
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen');
});

afterAll(async () => {
  await database.drop();
});

beforeEach(async () => {
  [anna, ben] = [roleName('anna'), roleName('ben')];
  for (const role of [anna, ben]) await database.createRole(role, 'hartonomous_user');
  client = await connect(anna);
});

afterEach(async () => {
  await client.end();
  await database.pool.query('delete from hartonomous.limits');
  await database.pool.query('delete from hartonomous.runs');
});

async function connect(role: string): Promise<pg.Client> {
  const connection = new pg.Client({ connectionString: database.url });
  await connection.connect();
  await connection.query(`set role ${role}`);
  return connection;
}

async function limit(name: string, value: number | null, role = '*'): Promise<void> {
  await database.pool.query('select hartonomous.set_limit($1, $2, $3)', [name, value, role]);
}

const COMPLETE = 'select hartonomous.complete($1, $2, $3) as answer';

async function complete(options: object, model = 'stories', on = client): Promise<Record<string, unknown>> {
  const { rows } = await on.query<{ answer: Record<string, unknown> }>(COMPLETE, [
    'Once upon a time',
    model,
    JSON.stringify({ raw: true, num_predict: 4, temperature: 0, logit_bias: { 2: -1000 }, ...options }),
  ]);
  return rows[0].answer;
}

async function refused(work: Promise<unknown>, message: string): Promise<void> {
  await expect(work).rejects.toMatchObject({ code: OVER_LIMIT, message });
}

describe('a limit', () => {
  it('on context refuses what asks for more and lowers what asks for nothing', async () => {
    await limit('max_context', 32);
    await refused(complete({ num_ctx: 33 }), 'option num_ctx is 33, limit max_context is 32');
    const answer = await complete({ num_predict: -1 });
    expect(Number(answer.prompt_tokens) + Number(answer.eval_count)).toBe(33);
    await refused(
      client.query('select hartonomous.logits(array_fill(5, array[33]), $1)', ['stories']),
      'logits got 33 tokens, limit max_context is 32',
    );
  });

  it('on the tokens of an answer refuses what asks for more and lowers what asks for nothing, in batches too', async () => {
    await limit('max_tokens_per_answer', 3);
    await refused(complete({ num_predict: 4 }), 'option num_predict is 4, limit max_tokens_per_answer is 3');
    await refused(
      complete({ num_predict: null, max_tokens: 5 }),
      'option max_tokens is 5, limit max_tokens_per_answer is 3',
    );
    expect((await complete({ num_predict: -1 })).eval_count).toBe(3);
    const { rows } = await client.query(
      `select eval_count from hartonomous.generate('{Once,Lily}'::text[], 'stories', '{"raw": true, "logit_bias": {"2": -1000}}')`,
    );
    expect(rows).toEqual([{ eval_count: 3 }, { eval_count: 3 }]);
  });

  it('on models keeps as many as allowed, and refuses one that is too large before reading it', async () => {
    await limit('max_loaded_models', 1);
    await complete({});
    await complete({}, 'qwen');
    expect((await client.query('select model from hartonomous.loaded_models')).rows).toEqual([{ model: 'qwen' }]);
    await limit('max_loaded_models', null);
    await limit('max_model_bytes', 500_000);
    await complete({});
    expect((await client.query('select model from hartonomous.loaded_models')).rows).toEqual([{ model: 'stories' }]);
    await expect(complete({}, 'qwen')).rejects.toThrow(/^model qwen takes \d+ bytes, limit max_model_bytes is 500000$/);
  });

  it('on calls and tokens of an hour holds for a role, in its backend and over backends whose runs were recorded', async () => {
    await limit('max_calls_per_hour', 2, anna);
    await complete({});
    await complete({});
    await refused(complete({}), `role ${anna} made 2 calls within an hour, limit max_calls_per_hour is 2`);
    await client.query(`set role ${ben}`);
    for (let i = 0; i < 3; i++) await complete({});
    await limit('max_tokens_per_hour', 20);
    await client.query(`set role ${anna}`);
    await limit('max_calls_per_hour', null, anna);
    const other = await connect(anna);
    try {
      await complete({ record: true, cache: false, num_predict: 15 }, 'stories', other);
      await expect(complete({}, 'stories', other)).rejects.toThrow(/limit max_tokens_per_hour is 20$/);
      await expect(complete({})).rejects.toThrow(/limit max_tokens_per_hour is 20$/);
    } finally {
      await other.end();
    }
  });

  it('counts the tokens of a call that was cancelled', async () => {
    await complete({});
    await limit('max_tokens_per_hour', 50);
    await client.query('set statement_timeout = 2000');
    const endless = `select hartonomous.generate(array_fill('Once'::text, array[200]), 'stories', '{"raw": true, "num_predict": 400}')`;
    await expect(client.query(endless)).rejects.toMatchObject({ code: '57014' });
    await client.query('set statement_timeout = 0');
    await expect(complete({})).rejects.toThrow(/limit max_tokens_per_hour is 50$/);
  });

  it('on recording decides for the caller, and old runs go as new ones are recorded', async () => {
    const runs = async (): Promise<number> =>
      Number((await database.pool.query<{ n: string }>('select count(*) as n from hartonomous.runs')).rows[0].n);
    await limit('recording', 0);
    await complete({ record: true });
    expect(await runs()).toBe(0);
    await limit('recording', 1);
    await complete({ record: false });
    expect(await runs()).toBe(1);
    await database.pool.query(`update hartonomous.runs set created_at = now() - interval '8 days'`);
    await limit('retention_days', 9);
    await complete({});
    expect(await runs()).toBe(2);
    await limit('retention_days', 7);
    await complete({});
    expect(await runs()).toBe(2);
  });

  it('on retention makes no recording wait for another that deletes the same', async () => {
    await complete({ record: true });
    await database.pool.query(`update hartonomous.runs set created_at = now() - interval '8 days'`);
    await limit('retention_days', 7);
    const other = await connect(ben);
    try {
      await other.query('begin');
      await complete({ record: true }, 'stories', other);
      await client.query(`set statement_timeout = '20s'`);
      await complete({ record: true });
      // Nor does an admin that prunes wait: what another transaction holds is left.
      const pruned = await database.pool.query(`select hartonomous.prune_runs('-1 day', true) as n`);
      expect(pruned.rows).toEqual([{ n: '1' }]);
    } finally {
      await other.end();
    }
  });

  it('is set by an admin only, seen by those to whom it applies, and known by name', async () => {
    await limit('max_context', 64);
    await limit('max_context', 32, anna);
    await limit('max_context', 16, ben);
    await expect(client.query(`select hartonomous.set_limit('max_context', 1)`)).rejects.toThrow(/permission denied/);
    await expect(client.query('select * from hartonomous.limits')).rejects.toThrow(/permission denied/);
    const { rows } = await client.query('select role_name, value from hartonomous.limit_list order by value');
    expect(rows).toEqual([
      { role_name: anna, value: '32' },
      { role_name: '*', value: '64' },
    ]);
    await refused(complete({ num_ctx: 64 }), 'option num_ctx is 64, limit max_context is 32');
    await limit('engine_priority', 3, anna);
    await expect(client.query(`select hartonomous.set_limit('engine_priority', 9)`)).rejects.toThrow(
      /permission denied/,
    );
    const { rows: priorities } = await client.query(
      `select role_name, value, meaning from hartonomous.limit_list where name = 'engine_priority'`,
    );
    expect(priorities).toEqual([{ role_name: anna, value: '3', meaning: expect.stringContaining('higher') as string }]);
    await expect(limit('max_size', 1)).rejects.toMatchObject({ code: '22023' });
    await expect(limit('max_context', -1)).rejects.toMatchObject({ code: '22023' });
  });
});

describe('run_latency', () => {
  it('has percentiles and rates of the runs that the caller sees', async () => {
    for (let i = 0; i < 3; i++) await complete({ record: true, cache: false });
    await client.query(`set role ${ben}`);
    await complete({ record: true });
    await client.query(`set role ${anna}`);
    const { rows } = await client.query<Record<string, unknown>>('select * from hartonomous.run_latency');
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({ model: 'stories', kind: 'complete', runs: '3' });
    const { p50_ms: p50, p90_ms: p90, p99_ms: p99 } = rows[0] as Record<string, number>;
    expect(p50).toBeGreaterThan(0);
    expect(p90).toBeGreaterThanOrEqual(p50);
    expect(p99).toBeGreaterThanOrEqual(p90);
    const spans = await client.query<{ total: number }>('select total_ns / 1e6 as total from hartonomous.run_list');
    const sorted = spans.rows.map((row) => Number(row.total)).sort((a, b) => a - b);
    expect(p50).toBeCloseTo(sorted[1], 6);
  });
});
