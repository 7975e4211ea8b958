import pg from 'pg';
import { afterEach, describe, expect, test } from 'vitest';
import { requireInstalled } from '../../cli/commands/installed.ts';
import { CommandError } from '../../cli/errors.ts';
import { install } from '../../cli/install/install.ts';
import type { InstallResult } from '../../cli/install/install.ts';
import { LONG } from '../long.ts';
import { createDatabase, EXTENSION } from './harness.ts';
import type { TestDatabase } from './harness.ts';

/** How many programs install at the same time. */
const AT_ONCE = LONG ? 20 : 8;

const databases: TestDatabase[] = [];
afterEach(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

async function emptyDatabase(): Promise<TestDatabase> {
  const database = await createDatabase({ empty: true });
  databases.push(database);
  return database;
}

async function installInto(url: string): Promise<InstallResult> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await install(client);
  } finally {
    await client.end();
  }
}

/** From PostgreSQL 16 on, CREATEROLE alone gives nobody a role that another one made: install says what to grant. */
async function becomeMember(pool: pg.Pool, url: string, role: string): Promise<void> {
  const { rows } = await pool.query<{ newer: boolean }>(
    `select current_setting('server_version_num')::int >= 160000 as newer`,
  );
  if (rows[0]?.newer !== true) return;
  const failure = (await installInto(url).catch((error: unknown) => error)) as CommandError;
  expect(failure.message).toBe(`role ${role} is no member of hartonomous_owner, which another role made`);
  const grant = /grant hartonomous_owner to \S+$/.exec(failure.hint ?? '')?.[0];
  await pool.query(grant!);
}

describe('install', () => {
  test('twice applies everything once', async () => {
    const { url, pool } = await emptyDatabase();
    const first = await installInto(url);
    expect(first.migrations.length).toBeGreaterThan(0);
    expect(first.functionsReplaced).toBe(true);
    const second = await installInto(url);
    expect(second).toEqual({ ...first, migrations: [], functionsReplaced: false });
    const { rows } = await pool.query(
      'select hartonomous.build_id() as id, count(*)::int as bytes from hartonomous.atoms',
    );
    expect(rows).toEqual([{ id: first.buildId, bytes: 256 }]);
  });

  test("leaves another program's public.migrations alone", async () => {
    const { url, pool } = await emptyDatabase();
    await pool.query('create table public.migrations (id integer primary key, name text, hash text)');
    await pool.query(`insert into public.migrations values (1, 'theirs', 'x'), (2, 'theirs too', 'y')`);
    await installInto(url);
    const { rows } = await pool.query('select id, name, hash from public.migrations order by id');
    expect(rows).toEqual([
      { id: 1, name: 'theirs', hash: 'x' },
      { id: 2, name: 'theirs too', hash: 'y' },
    ]);
    expect((await pool.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
  });

  test(`${AT_ONCE} times at once over two databases of one cluster succeeds everywhere`, async () => {
    const pair = [await emptyDatabase(), await emptyDatabase()] as const;
    const runs = Array.from({ length: AT_ONCE }, (_, i) => installInto((pair[i % 2] as TestDatabase).url));
    const results = await Promise.all(runs);
    expect(results.filter((result) => result.functionsReplaced)).toHaveLength(2);
    for (const { pool } of pair)
      expect((await pool.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
  });

  test('completes in a second run what a failure left, and the failure leaves the old functions working', async () => {
    const { url, pool } = await emptyDatabase();
    const { buildId } = await installInto(url);
    await pool.query(`update hartonomous.settings set value = '"older"' where name = 'build_id'`);
    // A view of other columns stands in the way of create or replace.
    await pool.query('drop view hartonomous.run_list cascade');
    await pool.query('create view hartonomous.run_list as select 1 as another');
    await expect(installInto(url)).rejects.toThrow(/must be owner of view run_list/);
    expect((await pool.query('select hartonomous.build_id() as id')).rows).toEqual([{ id: buildId }]);
    await pool.query('drop view hartonomous.run_list');
    expect((await installInto(url)).functionsReplaced).toBe(true);
    expect((await pool.query('select count(*)::int as n from hartonomous.run_list')).rows).toEqual([{ n: 0 }]);
  });

  test('refuses a database of a newer program with exit code 3', async () => {
    const { url, pool } = await emptyDatabase();
    await installInto(url);
    await pool.query(`insert into hartonomous.migrations (id, name, hash) values (9999, 'from the future', 'x')`);
    const failure = await installInto(url).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CommandError);
    expect((failure as CommandError).exitCode).toBe(3);
    expect((failure as CommandError).message).toMatch(/schema version 9999, this program knows \d+/);
  });

  test('says of a database from before 0.1.0 what rebuilds it, and changes nothing there', async () => {
    const { url, pool } = await emptyDatabase();
    await installInto(url);
    // The migrations of such a database stood under the same numbers with another text.
    await pool.query(`update hartonomous.migrations set name = 'atoms', hash = 'x' where id = 2`);
    await pool.query(`insert into hartonomous.migrations (id, name, hash) values (16, 'attention_stored', 'y')`);
    await pool.query(`update hartonomous.settings set value = '"old"' where name = 'build_id'`);
    const failure = (await installInto(url).catch((error: unknown) => error)) as CommandError;
    expect(failure).toBeInstanceOf(CommandError);
    expect(failure.exitCode).toBe(3);
    expect(failure.message).toBe(
      "the database predates 0.1.0: its schema is version 16 and migration 2, atoms, is not this program's",
    );
    expect((await pool.query(`select value from hartonomous.settings where name = 'build_id'`)).rows).toEqual([
      { value: 'old' },
    ]);
    await expect(
      pool.connect().then((client) => requireInstalled(client).finally(() => client.release())),
    ).rejects.toEqual(failure);
    const [, statement] = /: (drop .*); then hartonomous install$/.exec(failure.hint!)!;
    await pool.query(statement!);
    expect((await installInto(url)).functionsReplaced).toBe(true);
    expect((await pool.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
  });

  test('refuses a database of another build before it changes anything, and does not call it older', async () => {
    const { url, pool } = await emptyDatabase();
    await installInto(url);
    await pool.query(`update hartonomous.migrations set hash = 'x' where id = 2`);
    await pool.query(`alter table hartonomous.migrations owner to current_user`); // what install would put right
    const failure = (await installInto(url).catch((error: unknown) => error)) as CommandError;
    expect(failure.message).toMatch(
      /^the database was made by another build before 0\.1\.0: migration 2, \S+, has another/,
    );
    expect(failure.hint).toMatch(/^use that build, or rebuild it/);
    const { rows } = await pool.query(
      `select tableowner = current_user as same from pg_tables where tablename = 'migrations'`,
    );
    expect(rows).toEqual([{ same: true }]);
  });

  test('adds to an extension of before what it has now', async (context) => {
    const { url, pool } = await emptyDatabase();
    await pool.query(`create extension ${EXTENSION}`);
    const name = 'pg_catalog.hartonomous_v8_inner_product(bytea, bytea)';
    const facts = `select p.provolatile, p.proparallel, p.proisstrict, p.procost, obj_description(p.oid) as comment, d.deptype
      from pg_proc p join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e' where p.oid = to_regprocedure('${name}')`;
    const { rows: made } = await pool.query(facts);
    if (made.length === 0) return context.skip(`extension ${EXTENSION} has no ${name}`);
    await pool.query(`alter extension ${EXTENSION} drop function ${name}; drop function ${name}`);
    await installInto(url);
    expect((await pool.query(facts)).rows).toEqual(made);
    expect((await installInto(url)).mended).toEqual([]);
  });

  test('works for a role with CREATEROLE that owns the database, where the extension is there already', async () => {
    const { url, pool } = await emptyDatabase();
    const { rows } = await pool.query<{ name: string }>('select current_database() as name');
    const name = rows[0]!.name;
    const installer = `installer_${name}`;
    await pool.query(`create extension ${EXTENSION}`);
    await pool.query('grant usage on language plv8 to hartonomous_owner');
    await pool.query(`create role ${installer} login createrole password 'secret'`);
    await pool.query(`alter database ${name} owner to ${installer}`);
    try {
      const own = new URL(url);
      own.username = installer;
      own.password = 'secret';
      await becomeMember(pool, own.toString(), installer);
      const first = await installInto(own.toString());
      expect(first.functionsReplaced).toBe(true);
      expect(await installInto(own.toString())).toEqual({ ...first, migrations: [], functionsReplaced: false });
      // An ordinary role may not set what is the library's before that is loaded; the functions pin it all the same.
      const { rows: pins } = await pool.query(
        `select count(*) > 40 as some, bool_and('plv8.start_proc=hartonomous._0_start' = any (proconfig)) as pinned
         from pg_proc p join pg_language l on l.oid = p.prolang
         where pronamespace = 'hartonomous'::regnamespace and lanname = 'plv8' and proname <> '_0_start'`,
      );
      expect(pins).toEqual([{ some: true, pinned: true }]);
      // And a superuser afterwards, as an upgrade would.
      expect((await installInto(url)).functionsReplaced).toBe(false);
      expect((await pool.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
    } finally {
      await pool.query(`alter database ${name} owner to current_user`);
      await pool.query(`drop owned by ${installer}; drop role ${installer}`);
    }
  });

  test('is not held up by locks of a role without any right', async () => {
    const { url, pool } = await emptyDatabase();
    const { rows } = await pool.query<{ name: string }>('select current_database() as name');
    const outsider = `outsider_${rows[0]!.name}`;
    await pool.query(`create role ${outsider} login password 'secret'`);
    const own = new URL(url);
    own.username = outsider;
    own.password = 'secret';
    const client = new pg.Client({ connectionString: own.toString() });
    await client.connect();
    try {
      await client.query(`select pg_advisory_lock(hashtext('hartonomous.install')), pg_advisory_lock(-8525285245963000605),
        pg_advisory_lock(1215328594, 1)`);
      expect((await installInto(url)).functionsReplaced).toBe(true);
    } finally {
      await client.end();
      await pool.query(`drop role ${outsider}`);
    }
  });

  test('says who has to create the extension when the installing role may not', async () => {
    const { url, pool } = await emptyDatabase();
    const { rows } = await pool.query<{ name: string }>('select current_database() as name');
    const name = rows[0]!.name;
    const installer = `installer_${name}`;
    await pool.query(`create role ${installer} login createrole password 'secret'`);
    await pool.query(`alter database ${name} owner to ${installer}`);
    try {
      const own = new URL(url);
      own.username = installer;
      own.password = 'secret';
      const failure = await installInto(own.toString()).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(CommandError);
      expect((failure as CommandError).message).toContain('permission denied to create extension');
      expect((failure as CommandError).hint).toContain(`create extension ${EXTENSION}`);
      await pool.query(`create extension ${EXTENSION}; revoke usage on language plv8 from public`);
      await becomeMember(pool, own.toString(), installer);
      // On our own host the language is for nobody; on PL/V8 it is for everybody until somebody revokes that.
      const withoutLanguage = (await installInto(own.toString()).catch((error: unknown) => error)) as CommandError;
      expect(withoutLanguage.message).toBe('role hartonomous_owner may not use LANGUAGE plv8');
      await pool.query(/in this database: (.*)$/.exec(withoutLanguage.hint!)![1]!);
      expect((await installInto(own.toString())).functionsReplaced).toBe(true);
    } finally {
      await pool.query(`alter database ${name} owner to current_user`);
      await pool.query(`drop owned by ${installer}; drop role ${installer}`);
    }
  });

  test('describes every table, column, view and function to BI tools', async () => {
    const { url, pool } = await emptyDatabase();
    await installInto(url);
    const { rows } = await pool.query(
      `select c.relname as object from pg_class c
       where c.relnamespace = 'hartonomous'::regnamespace and c.relkind in ('r', 'p', 'v') and obj_description(c.oid) is null
       union all
       select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       where c.relnamespace = 'hartonomous'::regnamespace and c.relkind in ('p', 'v', 'r') and not c.relispartition
         and c.relname <> 'migrations' and col_description(c.oid, a.attnum) is null
       union all
       select p.proname from pg_proc p where p.pronamespace = 'hartonomous'::regnamespace and obj_description(p.oid) is null`,
    );
    expect(rows).toEqual([]);
  });

  test('owns everything by a role that is no superuser and cannot log in', async () => {
    const { url, pool } = await emptyDatabase();
    await installInto(url);
    const { rows: strangers } = await pool.query(
      `select relname as object from pg_class where relnamespace = 'hartonomous'::regnamespace
         and relname not like 'migrations%' and relowner <> 'hartonomous_owner'::regrole
       union all
       select proname from pg_proc where pronamespace = 'hartonomous'::regnamespace and proowner <> 'hartonomous_owner'::regrole`,
    );
    expect(strangers).toEqual([]);
    const { rows: owner } = await pool.query(
      `select rolsuper, rolcanlogin, rolcreaterole, rolbypassrls from pg_roles where rolname = 'hartonomous_owner'`,
    );
    expect(owner).toEqual([{ rolsuper: false, rolcanlogin: false, rolcreaterole: false, rolbypassrls: false }]);
  });
});
