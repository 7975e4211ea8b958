/** Where a connection string leads: the program against psql, which reads it with libpq. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { postgresBin } from '../../cli/cluster/cluster.ts';
import { connectionUri } from '../../cli/cluster/connection-string.ts';
import { createDatabase } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { hartonomous } from './program.ts';

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
    `# ours\n[other]\nhost=nowhere\n\n[mine]\nhost=${host}\nport=${port}\n\ndbname=${dbname}\nuser=${username}\n`,
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
    title: 'the name of a database',
    given: () => server.dbname,
    env: () => ({ PGHOST: server.host, PGPORT: server.port, PGUSER: server.user }),
  },
];

/** `database user` of the session. */
const WHERE = `select current_database() || ' ' || current_user as place`;

test.each(CASES)('$title: the program and psql meet in the same database', async ({ given, env }) => {
  const where = given();
  const environment = { ...env(), PGPASSWORD: server.password, HARTONOMOUS_HOME: join(folder, 'none') };
  const psql = spawnSync(join(postgresBin(), 'psql'), ['-XAt', ...(where === undefined ? [] : [where]), '-c', WHERE], {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  });
  expect(psql.stderr).toBe('');
  const ours = await hartonomous(['query', '--write', '--format', 'json', WHERE], {
    ...(where === undefined ? {} : { url: where }),
    env: environment,
  });
  expect(ours.stderr).toBe('');
  expect(JSON.parse(ours.stdout)).toEqual([{ place: psql.stdout.trim() }]);
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

  test.each([
    ['dbname', {}],
    ['dbname=a b', /name=value from its character 9 on/],
    [`dbname='a`, /name=value from its character 1 on/],
    ['postgres://a,b/c', /a,b is not one host/],
    ['host=a,b', /one host is taken, and a,b port 5432 are several/],
    ['postgres://h:99999/d', /port 99999 is not between 1 and 65535/],
    ['dbname=d port=abc', /port abc is not between 1 and 65535/],
    ['service=none', /definition of service "none" not found/],
  ])('%s is read or refused in one line', (given, message) => {
    const env = { PGSERVICEFILE: join(folder, 'services') };
    if (message instanceof RegExp) expect(() => connectionUri(given, env)).toThrow(message);
    else expect(connectionUri(given, env)).toContain(`postgres:///${given}?`);
  });
});
