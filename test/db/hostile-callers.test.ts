/** A caller with the right to call functions and nothing else, who tries to get more. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { connectAs, createDatabase, ingestFile, OWN_LANGUAGE, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const MODEL = 'zoo';
const OPTIONS = `'{"raw": true, "num_predict": 4, "temperature": 0}'`;
const CALLS = [
  `select hartonomous.generate('one two', options => ${OPTIONS})`,
  `select hartonomous.complete('one two', options => ${OPTIONS}) ->> 'text'`,
  `select hartonomous.tokenize('one two')`,
  `select hartonomous.logits(hartonomous.tokenize('one two'))`,
  `select name, parameter_count from hartonomous.model_list`,
  `select model, tokens from hartonomous.status`,
  `select hartonomous.default_model()`,
];
const mallory = roleName('mallory');
const admin = roleName('admin');
const newcomer = roleName('newcomer');
const nobody = roleName('nobody');

let database: TestDatabase;
let session: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(mallory, 'hartonomous_user');
  await database.createRole(admin, 'hartonomous_admin');
  await database.createRole(newcomer);
  await database.pool.query(`create schema planted authorization ${mallory}`);
  await database.pool.query(`grant temporary on database ${new URL(database.url).pathname.slice(1)} to ${mallory}`);
  await ingestFile(database.url, modelPath('zoo/llama-untied-gqa-f32.gguf'), MODEL);
  session = new pg.Client({ connectionString: database.url });
  await session.connect();
});

afterAll(async () => {
  await session.end();
  await database.drop();
});

async function results(): Promise<unknown[]> {
  const all: unknown[] = [];
  for (const call of CALLS) all.push((await session.query(call)).rows);
  return all;
}

describe('objects planted in the way of functions that run as the owner', () => {
  test('are never used, wherever they lie', async () => {
    await session.query(`set session authorization ${mallory}`);
    const honest = await results();
    const trap = (schema: string): string[] => [
      `create function ${schema}.now() returns timestamptz language plpgsql as $$ begin raise 'planted'; end $$`,
      `create function ${schema}.current_setting(text) returns text language plpgsql as $$ begin raise 'planted'; end $$`,
      `create function ${schema}.encode(bytea, text) returns text language plpgsql as $$ begin raise 'planted'; end $$`,
      `create function ${schema}.eq(text, text) returns boolean language plpgsql as $$ begin raise 'planted'; end $$`,
      `create operator ${schema}.= (leftarg = text, rightarg = text, function = ${schema}.eq)`,
      `create table ${schema}.models (id bigint, name text, state text, source_digest bytea)`,
      `create table ${schema}.settings (name text, value jsonb)`,
      `create table ${schema}.tokens (model_id bigint, token_id integer)`,
      `create table ${schema}.pg_roles (rolname text)`,
    ];
    for (const sql of [...trap('planted'), ...trap('pg_temp')]) await session.query(sql);
    await session.query('set search_path = pg_temp, planted, pg_catalog');
    // The traps do work for the caller itself.
    await expect(session.query('select planted.now()')).rejects.toThrow('planted');
    await session.query('select hartonomous.unload()');
    expect(await results()).toEqual(honest);
    await session.query('reset search_path; reset session authorization');
  });
});

describe('a user', () => {
  test.each([
    [`select hartonomous.grant_usage('${mallory}')`, /permission denied for function grant_usage/],
    [`select hartonomous.remove_model('${MODEL}')`, /permission denied for function remove_model/],
    [`grant hartonomous_admin to ${mallory}`, /must have admin option|permission denied/],
    [`set role hartonomous_owner`, /permission denied to set role/],
    [
      `insert into hartonomous.settings (name, value) values ('record', 'true')`,
      /permission denied for table settings/,
    ],
    [`create function hartonomous.mine() returns integer language sql as 'select 1'`, /permission denied for schema/],
    [`create table hartonomous.mine (id integer)`, /permission denied for schema/],
    [
      `do $$ globalThis.hartonomous = { id: 'mine' } $$ language plv8`,
      OWN_LANGUAGE ? /^permission denied for language plv8$/ : /permission denied for language plv8|^done$/,
    ],
  ])('cannot: %s', async (sql, message) => {
    await session.query(`set session authorization ${mallory}`);
    const outcome = await session.query(sql).then(
      () => 'done',
      (error: Error) => error.message,
    );
    await session.query('reset session authorization');
    expect(outcome).toMatch(message);
  });

  test('with JavaScript of its own reaches neither weights nor bundle of the owner', async () => {
    await session.query(`grant usage on language plv8 to ${mallory}`);
    await session.query(`set session authorization ${mallory}`);
    await session.query(CALLS[0]!);
    await session.query(
      `create function planted.peek() returns text language plv8 as $$ return typeof globalThis.hartonomous?.generate $$`,
    );
    expect((await session.query('select planted.peek() as seen')).rows).toEqual([{ seen: 'undefined' }]);
    await session.query('reset session authorization');
  });
});

describe('grant_usage and revoke_usage', () => {
  test('let an admin open the functions to a role and close them again', async () => {
    await session.query(`set role ${admin}`);
    await session.query(`select hartonomous.grant_usage('${newcomer}')`);
    await session.query(`reset role; set role ${newcomer}`);
    expect((await session.query(CALLS[0]!)).rows).toHaveLength(1);
    await session.query(`reset role; set role ${admin}`);
    await session.query(`select hartonomous.revoke_usage('${newcomer}')`);
    await session.query(`reset role; set role ${newcomer}`);
    await expect(session.query(CALLS[0]!)).rejects.toThrow(/permission denied/);
    await session.query('reset role');
  });

  test('with read_only open the views alone', async () => {
    await session.query(`set role ${admin}`);
    await session.query(`select hartonomous.grant_usage('${newcomer}', read_only => true)`);
    await session.query(`reset role; set role ${newcomer}`);
    expect((await session.query('select name from hartonomous.model_list')).rows).toEqual([{ name: MODEL }]);
    await expect(session.query(CALLS[0]!)).rejects.toThrow(/permission denied for function generate/);
    await session.query(`reset role; select hartonomous.revoke_usage('${newcomer}')`);
  });

  test.each([
    [`'${nobody}'`, `role ${nobody} does not exist`],
    ['null', 'role null does not exist'],
    [`'hartonomous_owner'`, 'is one of hartonomous itself'],
  ])('refuse %s', async (role, message) => {
    await session.query(`set role ${admin}`);
    await expect(session.query(`select hartonomous.grant_usage(${role})`)).rejects.toThrow(message);
    await session.query('reset role');
  });
});

describe('a function in an index, run for its owner when others maintain the table', () => {
  const auditor = roleName('auditor');
  /** What the function had to say, by the role of the session. */
  async function said(by: string): Promise<Record<string, string>> {
    const { rows } = await database.pool.query<{ what: string; outcome: string }>(
      'select what, outcome from planted.seen where login = $1',
      [by],
    );
    return Object.fromEntries(rows.map(({ what, outcome }) => [what, outcome]));
  }

  beforeAll(async () => {
    await database.createRole(auditor, 'hartonomous_user');
    await database.pool.query(`select hartonomous.grant_runs('${auditor}', '*')`);
    const record = `select hartonomous.generate('The', '${MODEL}', '{"raw": true, "num_predict": 1, "record": true}')`;
    for (const role of [auditor, mallory]) {
      const client = await connectAs(database.url, role);
      await client.query(record);
      await client.end();
    }
    await database.pool.query(`
      set session authorization ${mallory};
      create table planted.seen (login text, what text, outcome text);
      create function planted.attempt(what text, sql text) returns void language plpgsql as $$
      declare outcome text;
      begin
        begin execute sql into outcome; exception when others then outcome := sqlerrm; end;
        insert into planted.seen values (session_user, what, outcome);
      end $$;
      create function planted.spy(id integer) returns integer language plpgsql immutable as $$
      begin
        if current_user <> session_user and not exists (select from planted.seen s where s.login = session_user) then
          perform planted.attempt('runs', 'select string_agg(distinct caller, '','') from hartonomous.run_list');
          perform planted.attempt('usage', 'select string_agg(distinct role, '','') from hartonomous.role_usage');
          perform planted.attempt('prune', 'select hartonomous.prune_runs(''-1 day'', true)');
          perform planted.attempt('explain', 'select hartonomous.explain(min(id), 0) from planted.ids');
          perform planted.attempt('generate', 'select hartonomous.generate(''The'', ''${MODEL}'', ''{"raw": true, "num_predict": 1}'')');
        end if;
        return id;
      end $$;
      create table planted.ids (id bigint);
      create table planted.bait (id integer) with (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0);
      create index on planted.bait (planted.spy(id));
      insert into planted.bait select generate_series(1, 100);
      reset session authorization;
      insert into planted.ids select id from hartonomous.runs where caller = '${auditor}'`);
  });

  test('sees and deletes nothing as the superuser that analyzes it', async () => {
    const boss = roleName('boss');
    await database.createRole(boss);
    await database.pool.query(`alter role ${boss} superuser`);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query(`set session authorization ${boss}; analyze planted.bait`);
    await client.end();
    expect(await said(boss)).toEqual({
      runs: mallory,
      usage: mallory,
      prune: `role ${mallory} is not a member of hartonomous_admin and may prune its own runs only`,
      explain: expect.stringContaining('cannot be read for an index or a materialized view') as string,
      generate: expect.any(String) as string,
    });
    expect((await database.pool.query('select from hartonomous.runs')).rowCount).toBeGreaterThanOrEqual(2);
  });

  test('is told that nobody calls it when autovacuum does', async () => {
    await database.pool.query('alter system set autovacuum_naptime = 1');
    await database.pool.query('select pg_reload_conf()');
    try {
      await database.pool.query(
        'insert into planted.bait select generate_series(1, 1000); select pg_stat_force_next_flush()',
      );
      let outcomes: Record<string, string> = {};
      const { rows } = await database.pool.query<{ name: string }>(
        'select rolname as name from pg_roles where oid = 10',
      );
      while (outcomes.generate === undefined) {
        await database.pool.query('select pg_sleep(0.2)');
        outcomes = await said(rows[0]!.name);
      }
      const told = expect.stringContaining('nobody calls this on behalf of autovacuum') as string;
      expect(outcomes).toEqual({
        runs: told,
        usage: told,
        prune: `role ${mallory} is not a member of hartonomous_admin and may prune its own runs only`,
        explain: 'recorded runs cannot be read for an index or a materialized view',
        generate: told,
      });
    } finally {
      await database.pool.query('alter system reset autovacuum_naptime');
      await database.pool.query('select pg_reload_conf()');
    }
  });
});
