import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { growDisk, releaseDisk, smallDisk } from '../faults/small-disk.ts';
import { hartonomous } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-up-'));
chmodSync(folder, 0o755);
const env = { HARTONOMOUS_HOME: join(folder, 'home') };

afterAll(async () => {
  await hartonomous(['down'], { env });
  rmSync(folder, { recursive: true, force: true });
});

async function up(): Promise<string> {
  const { code, stdout, stderr } = await hartonomous(['up', '--format', 'json'], { env });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const answer = JSON.parse(stdout) as { url: string };
  expect(answer.url).toMatch(/^postgres:\/\//);
  return answer.url;
}

async function ask(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

test('without a database every command names the next step', async () => {
  const { code, stdout, stderr } = await hartonomous(['list'], { env });
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain('hartonomous up');
});

test('up makes a private server, and a second up finds it', async () => {
  const url = await up();
  await ask(url, 'create table kept (x int)');
  expect(await up()).toBe(url);
  expect((await hartonomous(['up', '--url'], { env })).stdout).toBe(`${url}\n`);
});

test('what PG* variables ask of other servers is not asked of it', async () => {
  const url = await up();
  const others = { ...env, PGSSLMODE: 'require', PGUSER: 'nobody', PGPORT: '1', PGPASSWORD: 'wrong' };
  expect((await hartonomous(['up', '--url'], { env: others })).stdout).toBe(`${url}\n`);
  const { stdout, stderr } = await hartonomous(['query', '--write', '--format', 'json', 'select 1 as x'], {
    env: others,
  });
  expect({ stderr, rows: JSON.parse(stdout || '[]') as unknown }).toEqual({ stderr: '', rows: [{ x: 1 }] });
});

test('up installs pgvector where the system has it, in the database that it makes', async () => {
  const url = await up();
  const installed = `select count(*)::int as n from pg_extension where extname = 'vector'`;
  const available = `select count(*)::int as n from pg_available_extensions where name = 'vector'`;
  expect(await ask(url, installed)).toEqual(await ask(url, available));
});

test('the server listens on this machine alone and asks for the password', async () => {
  const url = await up();
  expect(await ask(url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
  const wrong = new URL(url);
  wrong.password = 'wrong';
  await expect(ask(wrong.toString(), 'select 1')).rejects.toThrow('password authentication failed');
});

test('down stops it, twice is no error, and up brings the data back', async () => {
  const url = await up();
  expect((await hartonomous(['down'], { env })).code).toBe(0);
  await expect(ask(url, 'select 1')).rejects.toThrow();
  expect((await hartonomous(['down'], { env })).code).toBe(0);
  expect(await ask(await up(), 'select count(*)::int as n from kept')).toEqual([{ n: 0 }]);
});

test('up says where the data are of another major version, and what to do', async () => {
  await up();
  expect((await hartonomous(['down'], { env })).code).toBe(0);
  const file = join(env.HARTONOMOUS_HOME, 'data/PG_VERSION');
  const version = readFileSync(file, 'utf8');
  writeFileSync(file, '14\n');
  try {
    const { code, stderr } = await hartonomous(['up'], { env });
    expect(stderr).toMatch(/^hartonomous: the private database is of PostgreSQL 14, and \S+ is \d+\n.*PG_MAJOR=14/);
    expect(code).toBe(1);
  } finally {
    writeFileSync(file, version);
  }
  await up();
});

test('up gets over the pid file of a server that is gone', async () => {
  await up();
  expect((await hartonomous(['down'], { env })).code).toBe(0);
  writeFileSync(join(env.HARTONOMOUS_HOME, 'data/postmaster.pid'), '4194303\n');
  chmodSync(join(env.HARTONOMOUS_HOME, 'data/postmaster.pid'), 0o644);
  expect(await ask(await up(), 'select 1 as one')).toEqual([{ one: 1 }]);
});

test.each([10, 30])('up on a disk of %i MB says what to do, and goes on once there is room', async (megabytes) => {
  const disk = smallDisk(megabytes);
  if (disk === null) return;
  const small = { HARTONOMOUS_HOME: join(disk, 'home') };
  try {
    const { code, stdout, stderr } = await hartonomous(['up'], { env: small });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /^hartonomous: no space is left on the disk of \S+: .*No space left on device\n.*HARTONOMOUS_HOME.*\n$/,
    );
    growDisk(disk, 400);
    expect(await hartonomous(['up'], { env: small })).toMatchObject({ code: 0, stderr: '' });
  } finally {
    await hartonomous(['down'], { env: small });
    releaseDisk(disk);
  }
});

describe('the login for daily use', () => {
  let url: string;
  const home = () => env.HARTONOMOUS_HOME;
  beforeAll(async () => {
    await up();
    const { code, stderr } = await hartonomous(['install'], { env });
    expect({ code, stderr }).toMatchObject({ code: 0 });
    url = await up();
  });

  test('is no superuser, member of hartonomous_admin, and owner of a schema of its own that is not ours', async () => {
    expect(
      await ask(
        url,
        `select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication as mighty,
           pg_has_role('hartonomous_admin', 'member') as admin, pg_has_role('hartonomous_owner', 'member') as owner,
           array(select nspname::text from pg_namespace where nspowner = r.oid) as schemas,
           has_database_privilege(current_database(), 'create') as creates
         from pg_roles r where rolname = current_user`,
      ),
    ).toEqual([{ mighty: false, admin: true, owner: false, schemas: ['local'], creates: false }]);
    await expect(ask(url, `select lo_import('/etc/hostname')`)).rejects.toThrow(
      'permission denied for function lo_import',
    );
    await ask(url, 'create table runs (id integer); create table notes as select 1 as n');
    expect(await ask(url, `select schemaname from pg_tables where tablename = 'notes'`)).toEqual([
      { schemaname: 'local' },
    ]);
    expect((await hartonomous(['doctor'], { env })).stdout).toMatch(/^ok {3}definitions/m);
  });

  const query = (sql: string) => hartonomous(['query', sql], { env });
  test('has query read what it made and what it may call, without --write', async () => {
    expect((await query('select n + 1 as next from notes')).stdout).toContain('2');
    expect((await query('select name from hartonomous.model_list')).code).toBe(0);
    const { stdout } = await query('select current_user, session_user');
    expect(stdout).toMatch(/local_reader.*local_reader/);
    expect((await query('show temp_file_limit')).stdout).toContain('4GB');
  });

  test.each([
    [`copy (select 1) to program 'touch ${join(folder, 'ran')}'`],
    [`copy (select 1) to '${join(folder, 'written')}'`],
    [`copy notes to program 'true'`],
    ['select pg_reload_conf()'],
    ['select pg_switch_wal()'],
    ['select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()'],
    ['select pg_advisory_lock(1)'],
    ['select pg_try_advisory_xact_lock_shared(1, 2)'],
    ['select lo_create(0)'],
    [`select lo_from_bytea(0, '\\x00')`],
    [`select pg_read_file('postgresql.conf')`],
    [`select pg_logical_emit_message(false, 'a', 'b')`],
    [`do $$ begin set role postgres; end $$`],
    [`do $$ begin reset role; perform lo_create(0); end $$`],
    [`set session authorization postgres`],
    ['set temp_file_limit = -1'],
    ['insert into notes values (2)'],
    ['select * from hartonomous.atoms'],
  ])('has query refuse: %s', async (sql) => {
    const { code, stderr } = await query(sql);
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/permission denied|read-only|must be superuser|cannot/) as string,
    });
    expect(existsSync(join(folder, 'ran')) || existsSync(join(folder, 'written'))).toBe(false);
  });

  test('writes with query --write, as itself', async () => {
    expect((await hartonomous(['query', '--write', 'insert into notes values (2)'], { env })).code).toBe(0);
    expect(await ask(url, 'select count(*)::int as n from notes')).toEqual([{ n: 2 }]);
    expect((await hartonomous(['query', '--write', `copy notes to program 'true'`], { env })).stderr).toMatch(
      /must be superuser|permission denied/,
    );
  });

  test('passwords are written through no link, and nobody else reads them', () => {
    for (const name of ['password', 'logins']) expect(statSync(join(home(), name)).mode & 0o777).toBe(0o600);
  });
});

test('up writes no password through a symbolic link', async () => {
  const home = join(folder, 'linked');
  mkdirSync(home);
  writeFileSync(join(folder, 'target'), 'kept');
  symlinkSync(join(folder, 'target'), join(home, 'password'));
  try {
    expect((await hartonomous(['up'], { env: { HARTONOMOUS_HOME: home } })).code).toBe(0);
    expect(readFileSync(join(folder, 'target'), 'utf8')).toBe('kept');
  } finally {
    await hartonomous(['down'], { env: { HARTONOMOUS_HOME: home } });
  }
});

test('a superuser of another database has query run as a role that may only read, and is told', async () => {
  await up();
  const password = readFileSync(join(env.HARTONOMOUS_HOME, 'password'), 'utf8').trim();
  const port = readFileSync(join(env.HARTONOMOUS_HOME, 'port'), 'utf8').trim();
  const url = `postgres://postgres:${password}@127.0.0.1:${port}/hartonomous`;
  const asked = await hartonomous(['query', 'select current_user'], { url });
  expect(asked.stdout).toContain('hartonomous_user');
  expect(asked.stderr).toContain('postgres is a superuser; this runs as hartonomous_user');
  const { code, stderr } = await hartonomous(['query', `copy (select 1) to program 'true'`], { url });
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/must be superuser|permission denied/) as string,
  });
});

test('a copy of the folder of a running server is another database', async () => {
  const url = await up();
  const copy = join(folder, 'copy');
  execFileSync('cp', ['-a', env.HARTONOMOUS_HOME, copy]);
  const other = { HARTONOMOUS_HOME: copy };
  try {
    expect((await hartonomous(['query', 'select 1'], { env: other })).stderr).toContain('hartonomous up');
    expect((await hartonomous(['down'], { env: other })).stdout).toBe('was not running\n');
    expect(await ask(url, 'select 1 as one')).toEqual([{ one: 1 }]);
    const { code, stdout } = await hartonomous(['up', '--format', 'json'], { env: other });
    expect(code).toBe(0);
    const otherUrl = (JSON.parse(stdout) as { url: string }).url;
    expect(new URL(otherUrl).port).not.toBe(new URL(url).port);
    expect((await hartonomous(['down'], { env: other })).stdout).toBe('stopped\n');
    expect(await ask(url, 'select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    await hartonomous(['down'], { env: other });
  }
});
