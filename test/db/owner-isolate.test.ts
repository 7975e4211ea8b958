/** The isolate of hartonomous_owner runs our code only, whatever a caller sets: none of these may see the owner's rights. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { postgresBin } from '../../cli/cluster/cluster.ts';
import { install } from '../../cli/install/install.ts';
import { languageHost } from '../../cli/install/language.ts';
import { createDatabase, OWN_LANGUAGE, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const mallory = roleName('mallory');
const other = roleName('other');
const PASSWORD = 'secret';

let database: TestDatabase;
let ownHost: boolean;

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(mallory, 'hartonomous_user');
  await database.createRole(other);
  await database.pool.query(`alter role ${mallory} login password '${PASSWORD}'`);
  await database.pool.query(
    `create schema planted authorization ${mallory}; create schema elsewhere authorization ${other}`,
  );
  await database.pool.query('grant usage on schema elsewhere to public; grant usage on language plv8 to public');
  await withClient(urlOf(mallory), (client) =>
    client.query(`create function planted.start() returns void language plv8 as $$
      const role = plv8.execute('select current_user::text as role')[0].role;
      globalThis.started = role;
      plv8.elog(NOTICE, 'started as ' + role);
    $$; grant usage on schema planted to public`),
  );
  ownHost = (await withClient(database.url, languageHost)) === 'hartonomous_v8';
});
afterAll(() => database.drop());

function urlOf(role: string, options = ''): string {
  const url = new URL(database.url);
  url.username = role;
  url.password = PASSWORD;
  if (options !== '') url.searchParams.set('options', options);
  return url.toString();
}

async function withClient<T>(url: string, body: (client: pg.Client, notices: string[]) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  const notices: string[] = [];
  client.on('notice', (notice) => notices.push(notice.message ?? ''));
  await client.connect();
  try {
    return await body(client, notices);
  } finally {
    await client.end();
  }
}

/** A function that every member of our roles may call, in JavaScript and as the owner. */
const CALL = 'select count(*) from hartonomous.loaded_models';

describe('a start procedure that a caller has chosen', () => {
  test.each([
    ['before the library is loaded', ['set plv8.start_proc = $start$planted.start$start$']],
    ['when it is loaded already', ['do $$ $$ language plv8', `set plv8.start_proc = 'planted.start'`]],
    ['for one transaction', ['begin', `set local plv8.start_proc = 'planted.start'`]],
    ['with its arguments', [`set plv8.start_proc = 'planted.start()'`]],
    ['after a reset of the isolates', [CALL, 'select plv8_reset()', `set plv8.start_proc = 'planted.start'`]],
    [
      'with a context of its own',
      [`set plv8.start_proc = 'planted.start'; select set_config('plv8.context', 'x', false)`],
    ],
  ])('never runs as the owner: %s', async (_when, statements) => {
    await withClient(urlOf(mallory), async (client, notices) => {
      for (const statement of statements) await client.query(statement.replaceAll('$start$', `'`));
      await client.query(CALL).catch((error: Error) => notices.push(error.message));
      expect(notices.filter((notice) => notice.includes('hartonomous_owner'))).toEqual([]);
    });
  });

  test('never runs as the owner: as a setting of the role or the connection', async () => {
    await withClient(urlOf(mallory, '-c plv8.start_proc=planted.start'), async (client, notices) => {
      await client.query(CALL);
      expect(notices).toEqual([]);
    });
    await withClient(urlOf(mallory), async (client) => {
      await client.query('do $$ $$ language plv8');
      await client.query(`alter role ${mallory} set plv8.start_proc = 'planted.start'`);
    });
    await withClient(urlOf(mallory), async (client, notices) => {
      await client.query(CALL);
      expect(notices).toEqual([]);
      await client.query('do $$ plv8.elog(NOTICE, globalThis.started) $$ language plv8');
      expect(notices).toEqual([`started as ${mallory}`, mallory]); // of its own isolate it may decide
    });
    await database.pool.query(`alter role ${mallory} reset plv8.start_proc`);
  });

  test('is pinned by every function in JavaScript', async () => {
    const { rows } = await database.pool.query(
      `select p.oid::regprocedure::text as name from pg_proc p join pg_language l on l.oid = p.prolang
       where p.pronamespace = 'hartonomous'::regnamespace and l.lanname = 'plv8' and p.proname <> '_0_start'
         and not (p.prosecdef and 'plv8.start_proc=hartonomous._0_start' = any (p.proconfig))`,
    );
    expect(rows).toEqual([]);
  });

  test("does not run in another's SECURITY DEFINER function", async ({ skip }) => {
    skip(!ownHost, 'PL/V8 calls it: a function has to pin it');
    await database.pool.query(`set role ${other};
      create or replace function elsewhere.count() returns text language plv8 security definer as $$
        return plv8.execute('select current_user::text as role')[0].role + ' ' + typeof globalThis.started;
      $$`);
    await withClient(urlOf(mallory), async (client, notices) => {
      await client.query(`set plv8.start_proc = 'planted.start'`);
      expect((await client.query('select elsewhere.count() as said')).rows).toEqual([{ said: `${other} undefined` }]);
      expect(notices).toEqual([`plv8.start_proc "planted.start" is not called for role "${other}"`]);
    });
  });

  test('does not run as a superuser who has come back from the role', async ({ skip }) => {
    skip(!ownHost, 'PL/V8 calls it');
    await withClient(database.url, async (client, notices) => {
      await client.query(`set role ${mallory}; set plv8.start_proc = 'planted.start'; reset role`);
      await client.query('do $$ $$ language plv8');
      expect(notices.filter((notice) => notice.startsWith('started'))).toEqual([]);
    });
  });
});

describe('a context that a caller has chosen', () => {
  /** Our own host disregards it, PL/V8 3.2 has none; later ones have, as has our host in its portable mode. */
  let honoured: boolean;
  beforeAll(async () => {
    await database.pool.query(`set role ${mallory};
      create or replace function planted.ask() returns text language plv8 as $$
        return plv8.execute('select hartonomous.build_id() || count(*) as said from hartonomous.loaded_models')[0].said;
      $$; reset role`);
    honoured = await withClient(database.url, async (client) => {
      await client.query('do $$ $$ language plv8');
      const { rowCount } = await client.query(`select from pg_settings where name = 'plv8.context'`);
      return rowCount === 1 && !OWN_LANGUAGE;
    });
  });

  test("leaves the owner's isolate one, in calls from the caller's JavaScript too", async () => {
    await withClient(urlOf(mallory), async (client) => {
      const said = (await client.query('select planted.ask() as said')).rows;
      await client.query(`select set_config('plv8.context', 'x', false)`).catch(() => undefined); // not known to PL/V8 3.2
      for (const sql of ['select planted.ask() as said', CALL, 'select planted.ask() as said']) {
        const asked = client.query(sql);
        if (!honoured) expect([said, [{ count: '0' }]]).toContainEqual((await asked).rows);
        else await expect(asked, sql).rejects.toThrow('hartonomous runs in no context, plv8.context is "x"');
      }
      await client.query('reset plv8.context').catch(() => undefined);
      expect((await client.query('select planted.ask() as said')).rows).toEqual(said);
      await client.query(CALL);
    });
  });

  test('does not hold in the first call of a session either', async () => {
    await withClient(urlOf(mallory, '-c plv8.context=x'), async (client) => {
      const asked = client.query(CALL);
      if (!honoured) await asked;
      else await expect(asked).rejects.toMatchObject({ hint: 'reset plv8.context' });
    });
  });

  test('makes the owner no further global object', async ({ skip }) => {
    skip(!OWN_LANGUAGE, 'PL/V8 has none, or makes one in which nothing of ours is loaded');
    await withClient(database.url, async (client) => {
      const contexts = async (): Promise<number> =>
        (
          await client.query<{ n: number }>(
            `select sum((i ->> 'number_of_native_contexts')::integer)::integer as n
             from json_array_elements(plv8_info()) i where i ->> 'user' = 'hartonomous_owner'`,
          )
        ).rows[0]!.n;
      await client.query(CALL);
      const before = await contexts();
      for (const name of ['x', 'y', 'z']) {
        await client.query(`select set_config('plv8.context', $1, false)`, [name]);
        await client.query(CALL);
      }
      expect(await contexts()).toBe(before);
    });
  });
});

test('a time that a caller has chosen for JavaScript does not end a function of the owner', async ({ skip }) => {
  skip(!ownHost, 'PL/V8 has it only where built in');
  await database.pool.query(`set role ${other};
    create or replace function elsewhere.slow() returns text language plv8 security definer as $$
      const end = Date.now() + 1500;
      while (Date.now() < end);
      return 'done';
    $$`);
  await withClient(urlOf(mallory), async (client) => {
    await client.query('set plv8.execution_timeout = 1');
    expect((await client.query('select elsewhere.slow() as said')).rows).toEqual([{ said: 'done' }]);
    await expect(client.query('do $$ while (true); $$ language plv8')).rejects.toThrow('execution timeout exceeded');
  });
});

test("prototypes and getters of a caller's JavaScript are not the owner's, and find_function asks for the right to call", async () => {
  await withClient(urlOf(mallory), async (client) => {
    const { rows: honest } = await client.query<{ said: string }>(`select hartonomous.build_id() as said`);
    await client.query(`create or replace function planted.pollute() returns text language plv8 as $$
      Object.prototype.id = 'polluted';
      Array.prototype.map = () => ['polluted'];
      Object.defineProperty(globalThis, 'hartonomous', { configurable: true, get: () => { throw new Error('polluted') } });
      return plv8.execute('select hartonomous.build_id() as said, (select count(*) from hartonomous.loaded_models)')[0].said;
    $$`);
    expect((await client.query('select planted.pollute() as said')).rows).toEqual(honest);
    expect((await client.query(CALL)).rows).toEqual([{ count: '0' }]);
    await expect(
      client.query(`do $$ plv8.find_function('hartonomous._load_bundle')() $$ language plv8`),
    ).rejects.toThrow(/is not a function|permission denied/);
  });
});

test("plv8_reset() out of a caller's JavaScript ends nothing", async ({ skip }) => {
  // PL/V8 3.2.2 ends the server (docs/managed.md).
  skip(!ownHost, 'LANGUAGE plv8 is not our own host');
  await withClient(urlOf(mallory), async (client) => {
    await client.query(CALL);
    await client.query(`do $$ plv8.execute('select plv8_reset()'); plv8.execute('${CALL}') $$ language plv8`);
    expect((await client.query(CALL)).rows).toEqual([{ count: '0' }]);
  });
});

test("what is the superuser's is not taken from a caller who sets it before the library is loaded", async ({
  skip,
}) => {
  skip(!ownHost, 'PL/V8 3.2.2 takes plv8.v8_flags from anybody: docs/managed.md');
  const settings = { v8_flags: '--allow-natives-syntax', boot_proc: 'planted.start', memory_limit: '512' };
  const names = Object.keys(settings).map((name) => `plv8.${name}`);
  const values = `select name, setting from pg_settings where name = any($1) order by 1`;
  const server = await withClient(database.url, async (client) => {
    await client.query('do $$ $$ language plv8');
    return (await client.query(values, [names])).rows;
  });
  expect(server).toHaveLength(3);
  await withClient(urlOf(mallory), async (client, notices) => {
    for (const [name, value] of Object.entries(settings)) await client.query(`set plv8.${name} = '${value}'`);
    await client.query(CALL);
    expect((await client.query(values, [names])).rows).toEqual(server);
    expect(notices.filter((notice) => notice.startsWith('started'))).toEqual([]);
  });
});

describe('a role that is no superuser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hartonomous-owner-'));
  const restorer = roleName('restorer');
  let target: TestDatabase;
  beforeAll(async () => {
    target = await createDatabase({ empty: true });
    await target.pool.query(`create extension ${ownHost ? 'hartonomous_v8' : 'plv8'}`);
    await target.pool.query('grant usage on language plv8 to hartonomous_owner');
    await target.createRole(restorer);
    await target.pool.query(`alter role ${restorer} login createrole password '${PASSWORD}'`);
    await target.pool.query(`alter database ${new URL(target.url).pathname.slice(1)} owner to ${restorer}`);
  });
  afterAll(async () => {
    await target.pool.query(`alter database ${new URL(target.url).pathname.slice(1)} owner to current_user`);
    await target.drop();
    rmSync(folder, { recursive: true });
  });

  test('restores a dump, in which the functions pin what the caller may set', async () => {
    const dump = join(folder, 'dump');
    const url = new URL(target.url);
    url.username = restorer;
    url.password = PASSWORD;
    await target.pool.query(`grant hartonomous_owner to ${restorer}`);
    const run = (program: string, args: string[]): string =>
      execFileSync(join(postgresBin(), program), args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    run('pg_dump', ['--format=custom', '--file', dump, database.url, '--schema=hartonomous']);
    run('pg_restore', ['--exit-on-error', '--dbname', url.toString(), dump]);
    const pins = `select p.oid::regprocedure::text as name, p.proconfig from pg_proc p
      where p.pronamespace = 'hartonomous'::regnamespace order by 1`;
    expect((await target.pool.query(pins)).rows).toEqual((await database.pool.query(pins)).rows);
    await withClient(url.toString(), async (client) => {
      expect((await client.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
      expect(await install(client)).toMatchObject({ migrations: [], functionsReplaced: false });
    });
  });
});
