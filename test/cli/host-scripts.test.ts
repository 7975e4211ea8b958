/** The scripts that test the extension fail where a topic fails, and where LANGUAGE plv8 is missing. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { freePort, postgresBin } from '../../cli/cluster/cluster.ts';
import { ADMIN_URL, lacksOwn } from '../db/harness.ts';

const foreign = lacksOwn('tests and programs of its own');
const HOST = fileURLToPath(new URL('../../host', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'hartonomous-host-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('count-topics.sh', () => {
  const count = (log: string, expected = 3): string =>
    execFileSync('bash', [join(HOST, 'count-topics.sh'), String(expected)], { input: log, encoding: 'utf8' }).trim();
  const old = (...results: string[]): string =>
    `(using postmaster on /tmp, port 58432)\n============== running regression test queries        ==============\n${results
      .map((result, i) => `test topic${i}                       ... ${result}           12 ms\n`)
      .join('')}\n`;
  const tap = (...results: string[]): string =>
    `# +++ regress install-check in  +++\n# using postmaster on /tmp, port 58432\n${results
      .map((result, i) => `${result} ${i + 1}         - topic${i}                                    12 ms\n`)
      .join('')}1..${results.length}\n`;

  test.each([
    ['three that pass, as PostgreSQL 15 writes them', old('ok', 'ok', 'ok'), '3 0'],
    ['one that fails, as PostgreSQL 15 writes it', old('ok', 'FAILED', 'ok'), '2 1'],
    ['three that pass, in TAP', tap('ok', 'ok', 'ok'), '3 0'],
    ['one that fails, in TAP', tap('ok', 'not ok', 'ok'), '2 1'],
    ['a parallel group, in TAP', tap('ok', 'ok', 'ok').replaceAll(' - ', ' + '), '3 0'],
    ['a run that broke off', tap('ok'), '1 2'],
    ['nothing at all', '', '0 3'],
  ])('counts %s', (_title, log, expected) => {
    expect(count(log)).toBe(expected);
  });
});

test.skipIf(foreign)('host/test.sh fails where one of two topics gives something else than is expected', async () => {
  const copy = join(folder, 'host');
  for (const name of ['Makefile', 'test.sh', 'postgres.sh', 'count-topics.sh', 'fuzz', 'sql', 'expected'])
    cpSync(join(HOST, name), join(copy, name), { recursive: true });
  writeFileSync(join(copy, 'setup.sh'), '#!/bin/sh\n', { mode: 0o755 }); // the extension is there
  writeFileSync(join(copy, 'sql/wrong.sql'), `do $$ plv8.elog(NOTICE, 1 + 1) $$ language plv8;\n`);
  writeFileSync(join(copy, 'expected/wrong.out'), `do $$ plv8.elog(NOTICE, 1 + 1) $$ language plv8;\nNOTICE:  3\n`);
  const env = { ...process.env, HOST_TEST_PORT: String(await freePort()) };
  const run = (...topics: string[]): ReturnType<typeof spawnSync> =>
    spawnSync('bash', [join(copy, 'test.sh'), ...topics], { encoding: 'utf8', env });
  const bad = run('sets', 'wrong');
  expect(bad.stdout).toMatch(/^1 passed, 1 failed$/m);
  expect(bad.stdout).toContain('+NOTICE:  2');
  expect(bad.status).toBe(1);
  const good = run('sets');
  expect(good.stdout).toMatch(/^1 passed, 0 failed$/m);
  expect(good.status).toBe(0);
});

test.skipIf(foreign)('fuzz/run.sh fails for who cannot have the language, and passes for who can', () => {
  const { hostname, port, username, password } = new URL(ADMIN_URL);
  const admin = { PGHOST: hostname, PGPORT: port, PGUSER: username, PGPASSWORD: password };
  const env = { ...process.env, ...admin, PATH: `${postgresBin()}:${process.env.PATH}` };
  const psql = (sql: string): string =>
    execFileSync('psql', ['-XAtq', '-d', 'postgres', '-c', sql], { env }).toString();
  const fuzz = (more: object): ReturnType<typeof spawnSync> =>
    spawnSync('bash', [join(HOST, 'fuzz/run.sh'), '1'], { encoding: 'utf8', env: { ...env, ...more } });
  psql(`create role fuzz_without login createdb password 'secret'`);
  try {
    const without = fuzz({ PGUSER: 'fuzz_without', PGPASSWORD: 'secret' });
    expect(without.stderr).toContain('permission denied to create extension "hartonomous_v8"');
    expect(without.status).not.toBe(0);
  } finally {
    psql('drop database if exists hartonomous_v8_fuzz');
    psql('drop role fuzz_without');
  }
  const able = fuzz({});
  expect(able.stdout).toMatch(/fuzz: \d+ sessions, \d+ programs, no crash/);
  expect(able.status).toBe(0);
});

describe('host/setup.sh by a user who is no root and has no sudo', () => {
  const NOBODY = 65_534;
  const root = process.getuid?.() === 0;
  const clone = join(folder, 'a clone');
  const programs = join(folder, 'programs');

  /** Run a copy in a folder with a space in its name, by an apt that knows PostgreSQL 15 and has installed `installed`. */
  function setup(settings: Record<string, string>, installed: boolean): ReturnType<typeof spawnSync> {
    mkdirSync(join(clone, 'build'), { recursive: true });
    mkdirSync(programs, { recursive: true });
    chmodSync(folder, 0o755);
    cpSync(HOST, clone, { recursive: true, filter: (path) => !path.startsWith(join(HOST, 'build')) });
    const program = (name: string, script: string): void =>
      writeFileSync(join(programs, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    program('sudo', 'exit 1');
    program('dpkg-query', installed ? `echo 'install ok installed'` : 'exit 1');
    program(
      'apt-cache',
      `case "$*" in
        'depends postgresql') echo '  Depends: postgresql-15' ;;
        'depends libnode-dev') echo '  Depends: libnode108' ;;
        'depends libnode108') echo '  Depends: libuv1' ;;
        'show postgresql-15' | 'show postgresql-server-dev-15') ;;
        *) exit 100 ;;
      esac`,
    );
    const env = { ...process.env };
    for (const name of ['PG_BIN', 'PG_CONFIG', 'PG_MAJOR']) delete env[name];
    return spawnSync('bash', [join(clone, 'setup.sh')], {
      encoding: 'utf8',
      env: { ...env, ...settings, PATH: `${programs}:${postgresBin()}:${process.env.PATH}` },
      ...(root ? { uid: NOBODY, gid: NOBODY } : {}),
    });
  }
  const command = `bash ${folder}/a\\ clone/setup.sh`;

  test('tells a command that a shell takes as it is', () => {
    const { status, stderr } = setup({ PG_MAJOR: '15' }, false);
    expect(stderr).toContain(`an administrator has to run\nhost:     PG_MAJOR=15 ${command}\n`);
    expect(status).toBe(3);
  });

  test('asks no administrator for a PostgreSQL that the release does not have', () => {
    const { status, stderr } = setup({ PG_MAJOR: '99' }, false);
    expect(stderr).toBe('host: apt knows no package postgresql-99; this release has postgresql-15\n');
    expect(status).toBe(1);
  });

  test('takes PG_CONFIG=pg_config from PATH, and asks for the administrator where what was built is not its own', () => {
    const build = join(clone, 'build');
    mkdirSync(build, { recursive: true });
    if (root) chownSync(clone, NOBODY, NOBODY);
    else chmodSync(build, 0o555);
    const { status, stderr } = setup({ PG_CONFIG: 'pg_config' }, true);
    chmodSync(build, 0o755);
    expect(stderr).toContain(`an administrator has to run\nhost:     PG_CONFIG=pg_config ${command}\n`);
    expect(status).toBe(3);
  });
});

describe('host/upgrade.sh', () => {
  const home = join(folder, 'home');
  const own = execFileSync(join(postgresBin(), 'postgres'), ['--version']).toString();
  const major = /\d+/.exec(own)![0];

  /** What it says of a private database that PostgreSQL `made` made, beside folders of these names. */
  function upgrade(made: string | null, bin: string, ...beside: string[]): string {
    rmSync(home, { recursive: true, force: true });
    for (const name of beside) mkdirSync(join(home, name), { recursive: true });
    if (made !== null) {
      mkdirSync(join(home, 'data'), { recursive: true });
      writeFileSync(join(home, 'data/PG_VERSION'), `${made}\n`);
    }
    const env = { ...process.env, HARTONOMOUS_HOME: home };
    const { status, stderr } = spawnSync('bash', [join(HOST, 'upgrade.sh'), bin], { encoding: 'utf8', env });
    expect(status).toBe(1);
    return stderr;
  }

  test('refuses what cannot be upgraded before it touches anything', () => {
    expect(upgrade(null, postgresBin())).toBe(`there is no private database in ${home}\n`);
    expect(upgrade('9', '/nowhere')).toBe(`PostgreSQL 9 made the data in ${home}, and in /nowhere is no server\n`);
    expect(upgrade('9', postgresBin())).toBe(
      `PostgreSQL 9 made the data in ${home}, and in ${postgresBin()} is ${major}\n`,
    );
    expect(upgrade(major, postgresBin())).toContain(`${postgresBin()} is no newer one`);
    // A program that says it is an older PostgreSQL.
    const older = join(folder, 'older');
    mkdirSync(older, { recursive: true });
    writeFileSync(join(older, 'postgres'), `#!/bin/sh\necho 'postgres (PostgreSQL) 9.6'\n`, { mode: 0o755 });
    expect(upgrade('9', older, 'data.9')).toBe(`${home}/data.9 is there, of an earlier upgrade: move it away\n`);
  });
});
