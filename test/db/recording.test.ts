import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = fileURLToPath(new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url));
const OPTIONS = { raw: true, num_predict: 3, seed: 11 };
/** Roles belong to the cluster: these are this run's own. */
const roles = {
  alice: roleName('alice'),
  bob: roleName('bob'),
  bi: roleName('bi'),
  keeper: roleName('keeper'),
};

let database: TestDatabase;
let session: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(roles.alice, 'hartonomous_user');
  await database.createRole(roles.bob, 'hartonomous_user');
  await database.createRole(roles.bi, 'hartonomous_reader');
  await database.createRole(roles.keeper, 'hartonomous_admin');
  await ingestFile(database.url, TINY, 'tiny');
  session = new pg.Client({ connectionString: database.url });
  await session.connect();
});

afterAll(async () => {
  await session.end();
  await database.drop();
});

beforeEach(async () => {
  await database.pool.query('delete from hartonomous.runs');
  await database.pool.query('delete from hartonomous.run_grants');
  await database.pool.query(`delete from hartonomous.settings where name = 'record'`);
  await session.query('reset role');
  await session.query(`set hartonomous.record = ''`);
});

async function as(role: string, sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  await session.query(`set role ${role}`);
  try {
    return (await session.query(sql, values)).rows as Record<string, unknown>[];
  } finally {
    await session.query('reset role');
  }
}

const chat = `select hartonomous.chat('[{"role": "user", "content": "Hello"}]', options => '{"num_predict": 2}') as answer`;
const complete = (options: object = {}): [string, unknown[]] => [
  `select hartonomous.complete('Hello', options => $1) as answer`,
  [JSON.stringify({ ...OPTIONS, ...options })],
];

async function runs(): Promise<number> {
  return Number((await database.pool.query('select count(*) as n from hartonomous.runs')).rows[0].n);
}

describe('a run is recorded', () => {
  test('by chat without being asked, by complete only when asked', async () => {
    const [row] = (await session.query<{ answer: { run_id?: number } }>(chat)).rows;
    expect(row?.answer.run_id).toBeGreaterThan(0);
    await session.query(...complete());
    expect(await runs()).toBe(1);
    await session.query(...complete({ record: true }));
    expect(await runs()).toBe(2);
  });

  test('as the option says, else the session, else the stored setting', async () => {
    await session.query(`insert into hartonomous.settings (name, value) values ('record', 'true')`);
    await session.query(...complete());
    expect(await runs()).toBe(1);
    await session.query(`set hartonomous.record = 'off'`);
    await session.query(...complete());
    await session.query(chat);
    expect(await runs()).toBe(1);
    await session.query(...complete({ record: true }));
    expect(await runs()).toBe(2);
    await session.query(`set hartonomous.record = 'on'`);
    await session.query(...complete({ record: false }));
    expect(await runs()).toBe(2);
  });

  test('not in a read-only transaction, which answers all the same', async () => {
    await session.query('begin read only');
    const [row] = (await session.query<{ answer: { run_id?: number; message: { content: string } } }>(chat)).rows;
    await session.query('commit');
    expect(row?.answer.message.content).toMatch(/\S/);
    expect(row?.answer.run_id).toBeUndefined();
    expect(await runs()).toBe(0);
  });

  test('with every setting that decides a draw, and the logit of each token', async () => {
    await session.query(...complete({ record: true, top_k: 7 }));
    const [run] = (await database.pool.query('select * from hartonomous.run_list')).rows;
    expect(run.sampling).toMatchObject({ temperature: 0.8, top_k: 7, top_p: 0.9, seed: 11, precision: 'auto' });
    expect(run.held_as).toBe('q8_0');
    expect(run.build_id).toMatch(/^[0-9a-f]{16}$/);
    const { rows } = await database.pool.query(
      `select t.step, t.logit, (hartonomous.logits(r.prompt_ids || r.output_ids[:t.step]))[t.token_id + 1] as replayed
       from hartonomous.run_token_list t join hartonomous.run_list r on r.id = t.run_id where not t.is_prompt`,
    );
    expect(rows.length).toBe(3);
    for (const row of rows) expect(row.logit).toBe(row.replayed);
  });
});

describe('recorded runs', () => {
  beforeEach(async () => {
    await as(roles.alice, ...complete({ record: true }));
    await as(roles.bob, ...complete({ record: true }));
  });

  const seen = async (role: string, view = 'run_list'): Promise<unknown[]> =>
    (await as(role, `select distinct caller from hartonomous.${view} order by 1`)).map((row) => row.caller);

  test('are seen by a reader once an admin grants them, and no longer when that is taken back', async () => {
    expect(await seen(roles.bi)).toEqual([]);
    await as(roles.keeper, 'select hartonomous.grant_runs($1, $2)', [roles.bi, roles.alice]);
    expect(await seen(roles.bi)).toEqual([roles.alice]);
    expect(await seen(roles.bi, 'run_token_list')).toEqual([roles.alice]);
    await as(roles.keeper, `select hartonomous.grant_runs('hartonomous_reader')`);
    expect(await seen(roles.bi)).toEqual([roles.alice, roles.bob]);
    expect(await seen(roles.alice)).toEqual([roles.alice]);
    await as(roles.keeper, `select hartonomous.revoke_runs('hartonomous_reader')`);
    await as(roles.keeper, 'select hartonomous.revoke_runs($1, $2)', [roles.bi, roles.alice]);
    expect(await seen(roles.bi)).toEqual([]);
  });

  test('are granted by admins only, to roles that exist', async () => {
    await expect(as(roles.bi, `select hartonomous.grant_runs('hartonomous_reader')`)).rejects.toThrow(
      /permission denied/,
    );
    await expect(as(roles.keeper, `select hartonomous.grant_runs('nobody_here')`)).rejects.toThrow(
      'role nobody_here does not exist',
    );
    await expect(as(roles.keeper, `select hartonomous.grant_runs('hartonomous_reader', 'alcie')`)).rejects.toThrow(
      'role alcie does not exist and has left no runs',
    );
  });

  test('tell a reader whose runs it was granted, and an admin all such grants', async () => {
    const granted = (role: string) => as(role, 'select reader, caller from hartonomous.run_grant_list order by 1, 2');
    await as(roles.keeper, 'select hartonomous.grant_runs($1, $2), hartonomous.grant_runs($3, $1)', [
      roles.bi,
      roles.alice,
      roles.bob,
    ]);
    const toReader = { reader: roles.bi, caller: roles.alice };
    expect(await granted(roles.bi)).toEqual([toReader]);
    expect(await granted(roles.alice)).toEqual([]);
    expect(await granted(roles.keeper)).toEqual(
      expect.arrayContaining([toReader, { reader: roles.bob, caller: roles.bi }]),
    );
    await as(roles.keeper, 'select hartonomous.revoke_runs($1, $2), hartonomous.revoke_runs($3, $1)', [
      roles.bi,
      roles.alice,
      roles.bob,
    ]);
    expect(await granted(roles.keeper)).toEqual([]);
  });

  test("go by age: a user's own, and everybody's for an admin", async () => {
    expect(await as(roles.alice, 'select hartonomous.prune_runs() as n')).toEqual([{ n: '0' }]);
    await expect(as(roles.alice, `select hartonomous.prune_runs('0', everybody => true)`)).rejects.toThrow(
      /may prune its own runs only/,
    );
    expect(await as(roles.alice, `select hartonomous.prune_runs('0') as n`)).toEqual([{ n: '1' }]);
    expect(await runs()).toBe(1);
    expect(await as(roles.keeper, `select hartonomous.prune_runs('0', everybody => true) as n`)).toEqual([{ n: '1' }]);
    expect((await database.pool.query('select count(*)::int as n from hartonomous.run_tokens')).rows[0].n).toBe(0);
  });
});

test('the texts of a run add up to prompt and answer, whatever bytes its tokens have', async () => {
  const [answer] = await as(
    roles.alice,
    `select hartonomous.generate_regex('Emoji: ü😀', '😀漢字é', 'tiny', '{"record": true, "seed": 1, "raw": true}') as text`,
  );
  expect(answer).toEqual({ text: '😀漢字é' });
  const [added] = await as(
    roles.alice,
    `select string_agg(text, '' order by position) filter (where is_prompt) as prompt,
       string_agg(text, '' order by position) filter (where not is_prompt) as answer,
       string_agg(token, '' order by position) filter (where not is_prompt) like '%' || chr(65533) || '%' as parts
     from hartonomous.run_token_list where run_id = (select max(id) from hartonomous.run_list)`,
  );
  expect(added).toEqual({ prompt: 'Emoji: ü😀', answer: '😀漢字é', parts: true });
  expect(await as(roles.alice, 'select prompt, answer from hartonomous.run_text_list')).toEqual([
    { prompt: 'Emoji: ü😀', answer: '😀漢字é' },
  ]);
  expect(await as(roles.bob, 'select * from hartonomous.run_text_list')).toEqual([]);
  await as(roles.alice, chat);
  const [said] = await as(roles.alice, 'select prompt from hartonomous.run_text_list order by id desc limit 1');
  expect(said!.prompt).toBe(
    (await as(roles.alice, `select hartonomous.render_chat('[{"role": "user", "content": "Hello"}]') as p`))[0]!.p,
  );
});

test('a run is dated when its call began, not its transaction', async () => {
  await session.query('begin');
  await session.query('select pg_sleep(0.05)');
  await session.query(...complete({ record: true }));
  await session.query('select pg_sleep(0.05)');
  const { rows } = await session.query(
    `select created_at > now() + interval '40 ms' as later, created_at < clock_timestamp() - interval '40 ms' as past
     from hartonomous.run_list`,
  );
  await session.query('rollback');
  expect(rows).toEqual([{ later: true, past: true }]);
});
