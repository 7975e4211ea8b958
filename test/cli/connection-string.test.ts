/** Where a connection string leads: the program against psql, which reads it with libpq. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { postgresBin } from '../../cli/cluster/cluster.ts';
import { otherEncryption } from '../../cli/cluster/connect.ts';
import { connectionUri } from '../../cli/cluster/connection-string.ts';
import { createDatabase } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { hartonomous } from './program.ts';

/** As in a container that runs as a user without a name. */
const nobody = vi.hoisted(() => ({ is: false }));
vi.mock('node:os', async (original) => {
  const os = await original<{ userInfo: () => { username: string } }>();
  const userInfo = (): unknown => {
    if (nobody.is) throw new Error('uv_os_get_passwd returned ENOENT');
    return os.userInfo();
  };
  return { ...os, userInfo };
});

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-connection-'));
let database: TestDatabase;
let server: { host: string; port: string; user: string; password: string; dbname: string };
beforeAll(async () => {
  database = await createDatabase();
  const { hostname, port, username, password, pathname } = new URL(database.url);
  server = { host: hostname, port, user: username, password, dbname: pathname.slice(1) };
  const { host, dbname } = server;
  writeFileSync(
    join(folder, 'services'),
    `# ours\n[other]\nhost=nowhere\n\n[mine]\nhost=${host}\nhost=nowhere\nport=${port}\n\ndbname=${dbname}\nuser=${username}\n
[spaced]\nhost = a\n[unknown]\nhosts=a\n[nested]\nservice=mine\n`,
  );
  writeFileSync(
    join(folder, 'passwords'),
    `# ours\n${host}:${port}:*:another:no\nlocalhost:*:d\\:b:me:a\\:\\\\b+c\n${host}:${port}:*:${username}:${password}\n`,
    { mode: 0o600 },
  );
});
afterAll(async () => {
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

type Environment = Record<string, string>;
interface Case {
  title: string;
  given(): string | undefined;
  env(): Environment;
}

const CASES: Case[] = [
  {
    title: 'a URI without a host, which PGHOST and PGPORT name',
    given: () => `postgres:///${server.dbname}`,
    env: () => ({ PGHOST: server.host, PGPORT: server.port, PGUSER: server.user }),
  },
  {
    title: 'a URI with a login and without a host',
    given: () => `postgresql://${server.user}:${server.password}@/${server.dbname}`,
    env: () => ({ PGHOST: server.host, PGPORT: server.port }),
  },
  {
    title: 'a URI whose parameters name everything',
    given: () => `postgres://?host=${server.host}&port=${server.port}&dbname=${server.dbname}&user=${server.user}`,
    env: () => ({}),
  },
  {
    title: 'a URI with characters that are escaped',
    given: () => `postgres://${server.user.replace('h', '%68')}@${server.host}:${server.port}/${server.dbname}`,
    env: () => ({}),
  },
  {
    title: 'a URI whose parameters have a plus, which is no space, and an address',
    given: () =>
      `postgres:///${server.dbname}?host=${server.host}&port=${server.port}&user=${server.user}&application_name=a+b://c`,
    env: () => ({}),
  },
  {
    title: 'a wish for TLS, which this server does not have',
    given: () => `postgres://${server.user}@${server.host}:${server.port}/${server.dbname}?sslmode=prefer`,
    env: () => ({}),
  },
  {
    title: 'names and values, one of which holds an address',
    given: () =>
      `dbname=${server.dbname} host=${server.host} port=0${server.port} user=${server.user} application_name='a+b://c'`,
    env: () => ({}),
  },
  {
    title: 'names and values',
    given: () => `dbname=${server.dbname} host = '${server.host}'  port=${server.port} user=${server.user}`,
    env: () => ({}),
  },
  {
    title: 'a hostaddr beside a host that does not exist',
    given: () => `dbname=${server.dbname} host=nowhere hostaddr=127.0.0.1 port=${server.port} user=${server.user}`,
    env: () => ({}),
  },
  {
    title: 'a service in a connection string',
    given: () => 'service=mine',
    env: () => ({ PGSERVICEFILE: join(folder, 'services') }),
  },
  {
    title: 'a database beside a service',
    given: () => 'service=mine dbname=postgres',
    env: () => ({ PGSERVICEFILE: join(folder, 'services'), PGDATABASE: 'template1' }),
  },
  {
    title: 'PGSERVICE alone',
    given: () => undefined,
    env: () => ({ PGSERVICEFILE: join(folder, 'services'), PGSERVICE: 'mine', PGPORT: '1' }),
  },
  {
    title: 'PGHOST, PGPORT and PGUSER alone',
    given: () => undefined,
    env: () => ({ PGHOST: server.host, PGPORT: server.port, PGUSER: server.user, PGDATABASE: server.dbname }),
  },
  {
    title: 'PGHOSTADDR and PGDATABASE beside empty variables',
    given: () => undefined,
    env: () => ({
      PGHOST: '',
      PGHOSTADDR: '127.0.0.1',
      PGPORT: server.port,
      PGUSER: server.user,
      PGDATABASE: server.dbname,
    }),
  },
  {
    title: 'the name of a database',
    given: () => server.dbname,
    env: () => ({ PGHOST: server.host, PGPORT: server.port, PGUSER: server.user }),
  },
];

const PASSWORD_FILES: Case[] = [
  {
    title: 'a file of passwords in the environment',
    given: () => `host=${server.host} port=${server.port} user=${server.user} dbname=${server.dbname}`,
    env: () => ({ PGPASSFILE: join(folder, 'passwords') }),
  },
  {
    title: 'a file of passwords in the connection string',
    given: () =>
      `postgres://${server.user}@${server.host}:${server.port}/${server.dbname}?passfile=${join(folder, 'passwords')}`,
    env: () => ({}),
  },
];

/** `database user application` of the session. */
const WHERE = `select current_database() || ' ' || current_user || ' ' ||
  case current_setting('application_name') when 'a+b://c' then 'named' else '' end as place`;

async function meet(where: string | undefined, env: Environment): Promise<void> {
  const environment = { HARTONOMOUS_HOME: join(folder, 'none'), ...env };
  const psql = spawnSync(join(postgresBin(), 'psql'), ['-XAtw', ...(where === undefined ? [] : [where]), '-c', WHERE], {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  });
  expect(psql.stderr).toBe('');
  const ours = await hartonomous(['query', '--write', '--format', 'json', WHERE], {
    ...(where === undefined ? {} : { url: where }),
    env: environment,
  });
  expect(ours.stderr).toBe('');
  expect(JSON.parse(ours.stdout)).toEqual([{ place: psql.stdout.replace(/\n$/, '') }]);
}

test.each(CASES)('$title: the program and psql meet in the same database', ({ given, env }) =>
  meet(given(), { ...env(), PGPASSWORD: server.password }),
);

test.each(PASSWORD_FILES)('$title: the program and psql find the password, and nobody is warned', ({ given, env }) =>
  meet(given(), env()),
);

test('who gives no password is told so, and is not kept until the server gives up', async () => {
  const { user, host, port, dbname } = server;
  const { code, stderr } = await hartonomous(['list'], {
    url: `postgres://${user}@${host}:${port}/${dbname}`,
    env: { HOME: folder },
    timeoutMs: 20_000,
  });
  expect(stderr).toContain(`could not connect to the database: it wants a password of user ${user}\ngive it in`);
  expect(code).toBe(1);
});

describe('TLS', () => {
  const rejected = (message: string): Error =>
    Object.assign(new pg.DatabaseError(message, 0, 'error'), { code: '28000' });
  const wanted = rejected('no pg_hba.conf entry for host "1.2.3.4", user "u", database "d", no encryption');

  test('is tried where nothing is said of it and the server wants it, as libpq would', () => {
    const other = new URL(otherEncryption(connectionUri('postgres://u:a+b%20c@h/d', {}), wanted)!);
    expect(Object.fromEntries(other.searchParams)).toMatchObject({
      sslmode: 'require',
      uselibpqcompat: 'true',
      password: 'a+b c',
    });
  });

  test.each([
    ['postgres://u@h/d?sslmode=disable', wanted],
    ['postgres://u@h/d?sslmode=require', new Error('The server does not support SSL connections')],
    ['postgres://u@h/d', rejected('no pg_hba.conf entry for host "1.2.3.4", user "u", database "d", SSL encryption')],
    ['postgres://u@h/d', new Error('connect ECONNREFUSED')],
  ])('of %s is what was said', (given, error) => {
    expect(otherEncryption(connectionUri(given, {}), error)).toBeNull();
  });
});

describe('what is left out', () => {
  test('is the user, and the database of its name', () => {
    const { username } = userInfo();
    const found = new URL(connectionUri('host=example', {}));
    expect(found.searchParams.get('user')).toBe(username);
    expect(found.pathname).toBe(`/${username}`);
    expect(found.searchParams.get('port')).toBe('5432');
  });

  test('a folder stands for the socket in it', () => {
    const found = new URL(connectionUri('postgres://%2Fsome%2Ffolder/mine', {}));
    expect(found.searchParams.get('host')).toBe('/some/folder');
    expect(new URL(connectionUri(String.raw`host='/a\'b' dbname=x`, {})).searchParams.get('host')).toBe(`/a'b`);
  });

  test('a password stands for a socket of the usual folders under localhost', () => {
    const passfile = join(folder, 'passwords');
    const found = (text: string, env = {}): string | null =>
      new URL(connectionUri(`${text} passfile=${passfile}`, env)).searchParams.get('password');
    expect(found('host=/var/run/postgresql dbname=d:b user=me')).toBe(String.raw`a:\b+c`);
    expect(found('host=/elsewhere dbname=d:b user=me')).toBeNull();
    expect(found('host=localhost dbname=other user=me')).toBeNull();
    expect(found('host=localhost dbname=d:b user=me', { PGPASSWORD: 'x' })).toBeNull();
  });

  test.each([
    ['postgres://h/d?sslmode=require', {}, 'require'],
    ['host=h sslmode=require', {}, 'require'],
    ['host=h', { PGSSLMODE: 'require' }, 'require'],
    ['host=h sslmode=allow', {}, 'disable'],
    ['host=/tmp sslmode=require', {}, 'disable'],
    ['host=/tmp', { PGSSLMODE: 'verify-full' }, 'disable'],
  ])('of TLS, %s with %j means what libpq means, not that a certificate is asked for', (given, env, mode) => {
    const { searchParams } = new URL(connectionUri(given, env));
    expect(searchParams.get('sslmode')).toBe(mode);
    expect(searchParams.get('uselibpqcompat')).toBe('true');
  });

  test('is nothing where a user is named whom the system does not know', () => {
    nobody.is = true;
    try {
      expect(connectionUri('postgres://me@h/d', {})).toContain('user=me');
      expect(() => connectionUri('postgres://h/d', {})).toThrow(/the system knows no user with ID/);
    } finally {
      nobody.is = false;
    }
  });

  test.each([
    ['dbname', {}],
    ['dbname=a b', /name=value from its character 9 on/],
    [`dbname='a`, /name=value from its character 1 on/],
    ['postgres://a,b/c', /a,b is not one host/],
    ['host=a,b', /one host is taken, and a,b port 5432 are several/],
    ['postgres://h:99999/d', /port 99999 is not between 1 and 65535/],
    ['dbname=d port=abc', /port abc is not between 1 and 65535/],
    ['service=none', /definition of service "none" not found/],
    ['service=spaced', /service spaced has the line host =, which is not for services/],
    ['service=unknown', /service unknown has the line hosts=/],
    ['service=nested', /service nested has the line service=/],
    ['service=mine servicefile=/nowhere', /service file \/nowhere not found/],
    ['databse=d host=h', /invalid connection option "databse"/],
    ['postgres://h/d?databse=e', /invalid connection option "databse"/],
    ['postgres://h/d?user', /URI parameter user is not name=value/],
    ['postgres://h/d?user=a=b', /URI parameter user is not name=value/],
    ['postgres://u:50%off@h/d', /percent sign without the two digits/],
    ['postgres://h/d%00', /percent sign without the two digits/],
    ['dbname=a?b', /the name of database a\?b has a \? or #/],
    ['host=h sslmode=on', /invalid sslmode value: "on"/],
  ])('%s is read or refused in one line', (given, message) => {
    const env = { PGSERVICEFILE: join(folder, 'services') };
    if (message instanceof RegExp) expect(() => connectionUri(given, env)).toThrow(message);
    else expect(connectionUri(given, env)).toContain(`postgres:///${given}?`);
  });
});
