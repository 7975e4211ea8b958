/** A caller with the right to call functions and nothing else, who tries to get more. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile, roleName } from './harness.ts';
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
    [`do $$ globalThis.hartonomous = { id: 'mine' } $$ language plv8`, /permission denied for language plv8|^done$/],
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
