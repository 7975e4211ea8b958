import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const FILE = modelPath('llama-260k/llama-260k-q8_0.gguf');
const OPTIONS = `'{"raw": true, "num_predict": 3, "temperature": 0, "record": true}'`;
const GENERATE = `select hartonomous.generate('Once upon a time', options => ${OPTIONS}) as text`;
const roles = {
  alice: roleName('alice'),
  bob: roleName('bob'),
  bi: roleName('bi'),
  outsider: roleName('outsider'),
};

let database: TestDatabase;
/** One session that changes its role, so that one backend serves all of them. */
let session: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(roles.alice, 'hartonomous_user');
  await database.createRole(roles.bob, 'hartonomous_user');
  await database.createRole(roles.bi, 'hartonomous_reader');
  await database.createRole(roles.outsider);
  await ingestFile(database.url, FILE, 'stories');
  session = new pg.Client({ connectionString: database.url });
  await session.connect();
});

afterAll(async () => {
  await session.end();
  await database.drop();
});

async function as(role: string, sql: string): Promise<Record<string, unknown>[]> {
  await session.query(`set role ${role}`);
  try {
    return (await session.query(sql)).rows as Record<string, unknown>[];
  } finally {
    await session.query('reset role');
  }
}

const TABLES = [
  'atoms',
  'atoms_token',
  'atoms_tile',
  'compositions',
  'models',
  'tokens',
  'relations',
  'weight_matrices',
  'token_embeddings',
  'runs',
  'run_tokens',
  'settings',
  'explained_tokens',
  'explained_components',
  'component_rollups',
  'run_grants',
  'connections',
];

describe('a member of hartonomous_user', () => {
  test('generates', async () => {
    const [row] = await as(roles.alice, GENERATE);
    expect(row?.text).toMatch(/\S/);
  });

  test.each(TABLES)('cannot read the table %s', async (table) => {
    await expect(as(roles.alice, `select * from hartonomous.${table} limit 1`)).rejects.toThrow(
      `permission denied for table ${table}`,
    );
  });

  test.each([
    `select hartonomous.remove_model('stories')`,
    `select hartonomous._publish_model(1)`,
    `select hartonomous._sweep_atoms()`,
    `select hartonomous._index_embeddings(1)`,
    `select hartonomous.set_default_model('stories')`,
    `select hartonomous._load_bundle()`,
  ])('cannot run %s', async (sql) => {
    await expect(as(roles.alice, sql)).rejects.toThrow(/permission denied for function/);
  });

  test("sees its own runs and nobody else's, within one connection", async () => {
    await as(roles.alice, GENERATE);
    await as(roles.bob, GENERATE);
    const alice = await as(roles.alice, 'select distinct caller from hartonomous.run_list');
    const bob = await as(roles.bob, 'select distinct caller from hartonomous.run_list');
    expect([alice, bob]).toEqual([[{ caller: roles.alice }], [{ caller: roles.bob }]]);
  });

  test('cannot look into rows of others through a function in a filter', async () => {
    await as(roles.bob, GENERATE);
    await database.pool.query(
      `create or replace function public.leak(who text) returns boolean language plpgsql cost 0.0001 as $$ begin raise notice '%', who; return true; end $$`,
    );
    const seen: string[] = [];
    const listen = (notice: { message?: string | undefined }): void => void seen.push(notice.message ?? '');
    session.on('notice', listen);
    await as(roles.alice, 'select id from hartonomous.run_list where public.leak(caller)');
    session.off('notice', listen);
    expect(seen).not.toContain(roles.bob);
  });

  test('reads the list of models and the status', async () => {
    expect(await as(roles.alice, 'select name from hartonomous.model_list')).toEqual([{ name: 'stories' }]);
    expect(await as(roles.alice, 'select model from hartonomous.status where model is not null')).toEqual([
      { model: 'stories' },
    ]);
  });
});

describe('a member of hartonomous_reader', () => {
  test('reads views and cannot generate', async () => {
    expect(await as(roles.bi, 'select name from hartonomous.model_list')).toEqual([{ name: 'stories' }]);
    await expect(as(roles.bi, GENERATE)).rejects.toThrow(/permission denied for function generate/);
  });
});

describe('a role outside', () => {
  test.each([GENERATE, 'select * from hartonomous.model_list', 'select * from hartonomous.atoms'])(
    'gets permission denied for %s',
    async (sql) => {
      await expect(as(roles.outsider, sql)).rejects.toThrow(/permission denied/);
    },
  );

  test('gets it in a backend that has the model loaded for somebody else', async () => {
    await as(roles.alice, GENERATE);
    await expect(as(roles.outsider, GENERATE)).rejects.toThrow(/permission denied/);
    expect((await as(roles.alice, GENERATE))[0]?.text).toMatch(/\S/);
  });

  test('is granted no function by way of PUBLIC', async () => {
    const { rows } = await database.pool.query(
      `select p.oid::regprocedure as name from pg_proc p
       where p.pronamespace = 'hartonomous'::regnamespace and has_function_privilege('${roles.outsider}', p.oid, 'execute')`,
    );
    expect(rows).toEqual([]);
  });
});

test('a role with the name * sees its own runs only', async () => {
  await session.query(`create role "*"; grant hartonomous_user to "*"`);
  try {
    await as(roles.alice, GENERATE);
    const count = 'select count(*)::int as n from hartonomous.run_list';
    expect(await as('"*"', count)).toEqual([{ n: 0 }]);
    await as('"*"', GENERATE);
    expect(await as('"*"', count)).toEqual([{ n: 1 }]);
    // What an admin grants for everybody is still that.
    await session.query(`select hartonomous.grant_runs('*')`);
    expect((await as('"*"', count))[0]!.n).toBeGreaterThan(1);
  } finally {
    await session.query(`select hartonomous.revoke_runs('*'); drop owned by "*"; drop role "*"`);
  }
});
