/** bootstrap.mjs with a Node.js that is too old, or options that it does not know, does nothing but say so. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';

const FILES = ['bootstrap.mjs', 'python-package.mjs'];
const folder = mkdtempSync(join(tmpdir(), 'hartonomous-bootstrap-'));
const built = mkdtempSync(join(tmpdir(), 'hartonomous-built-'));
afterAll(() => {
  for (const made of [folder, built]) rmSync(made, { recursive: true, force: true });
});

test.each(['demo', 'test', 'build'])('%s with Node.js 18 is refused before anything is installed', (command) => {
  for (const name of FILES) cpSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), join(folder, name));
  // This Node.js under the name of an older one.
  const older = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.20.8' } });`;
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(older)}`, join(folder, 'bootstrap.mjs'), command],
    { encoding: 'utf8', env: { ...process.env, PATH: '' } },
  );
  expect({ status, stdout, stderr }).toEqual({
    status: 1,
    stdout: '',
    stderr: 'bootstrap: this is Node.js 18.20.8, 20 or later is needed\n',
  });
  expect(readdirSync(folder).sort()).toEqual(FILES);
});

test.each([
  [['--model']],
  [['--pgvector', 'postgresql-17-pgvector']],
  [['--search', '--model', 'smollm2']],
  [['--search', '--pgvector']],
  [['--find']],
])('demo %j is told how it is used before anything is installed', (args) => {
  for (const name of FILES) cpSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), join(folder, name));
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, 'bootstrap.mjs'), 'demo', ...args], {
    encoding: 'utf8',
    env: { ...process.env, PATH: '' },
  });
  expect({ status, stdout, stderr }).toEqual({
    status: 2,
    stdout: '',
    stderr:
      'usage: npm run demo -- [--model smollm2|FILE.gguf]\n       npm run demo -- --search [--pgvector PACKAGE]\n',
  });
  expect(readdirSync(folder).sort()).toEqual(FILES);
});

const clone = join(built, 'clone');
const log = join(built, 'program.log');

function writeProgram(name: string, script: string): void {
  writeFileSync(join(clone, 'bin', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

/** A clone where everything is built, by programs that do nothing. */
function makeClone(): void {
  rmSync(clone, { recursive: true, force: true });
  for (const path of ['plv8', 'cli', 'dist/cli', 'host', 'models/tiny', 'node_modules', 'bin'])
    mkdirSync(join(clone, path), { recursive: true });
  for (const name of FILES) cpSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), join(clone, name));
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json']) writeFileSync(join(clone, name), '{}');
  for (const name of ['dist/hartonomous.sql', 'models/tiny/a.gguf']) writeFileSync(join(clone, name), '');
  writeFileSync(join(clone, 'node_modules/.package-lock.json'), '');
  writeFileSync(join(clone, 'dist/.sources'), createHash('sha256').update('{}{}{}').digest('hex'));
  writeFileSync(join(clone, 'dist/cli/main.js'), '');
  writeFileSync(join(clone, 'host/setup.sh'), '');
}

describe('demo in a database of DATABASE_URL', () => {
  test.each([
    ['postgres:///mine', 'postgres:///mine', ''],
    ['postgres:///mine?host=/tmp/x&port=1', 'postgres:///mine?host=/tmp/x&port=1', ''],
    ['postgres://me:p%40s+s@h:1/mine?x=y', 'postgres://me@h:1/mine?x=y', 'p@s+s'],
    ['postgres://me@h/mine?password=a%20b&port=1', 'postgres://me@h/mine?port=1', 'a b'],
    ['dbname=mine host=/tmp', 'dbname=mine host=/tmp', ''],
    [String.raw`host=h password = 'a\'b c' dbname=mine`, 'host=h  dbname=mine', `a'b c`],
    ['password=secret dbname=mine', ' dbname=mine', 'secret'],
    ['mine', 'mine', ''],
  ])('%s goes to psql as it is, but for the password', (given, rest, password) => {
    makeClone();
    // It notes what it is given.
    writeProgram(
      'psql',
      `printf '%s\\n' "$PGPASSWORD" "$@" >${log}
       case "$*" in *to_json*) echo '{"name": "tiny", "chats": true, "models": 1}' ;; *) echo Hello ;; esac`,
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(clone, 'bootstrap.mjs'), 'demo'], {
      encoding: 'utf8',
      env: { PATH: `${join(clone, 'bin')}:${process.env.PATH}`, DATABASE_URL: given },
    });
    expect(stderr).toBe('');
    expect(stdout).toContain('\n  Hello\n');
    expect(status).toBe(0);
    const [secret, ...args] = readFileSync(log, 'utf8').split('\n');
    expect(secret).toBe(password);
    expect(args[args.indexOf('-d') + 1]).toBe(rest);
  });
});

describe('test', () => {
  /** Run it on a system without pip where vitest ends with `report`. */
  function runTests(report: object, env: Record<string, string> = {}): ReturnType<typeof spawnSync> {
    makeClone();
    rmSync(log, { force: true });
    mkdirSync(join(clone, 'node_modules/vitest'));
    writeFileSync(
      join(clone, 'node_modules/vitest/vitest.mjs'),
      `import { writeFileSync } from 'node:fs';
       writeFileSync(process.env.TEST_REPORT, ${JSON.stringify(JSON.stringify(report))});`,
    );
    writeProgram('python3', `grep -q python3-pip ${log}`);
    writeProgram('apt-get', `echo "$@" >>${log}`);
    writeProgram('sudo', 'test "$SUDOERS" = no && exit 1; test "$1" = -n && shift; exec "$@"');
    return spawnSync(process.execPath, [join(clone, 'bootstrap.mjs'), 'test', 'test/db/some.test.ts'], {
      encoding: 'utf8',
      env: { PATH: `${join(clone, 'bin')}:${process.env.PATH}`, ...env },
    });
  }
  const skipped = (title: string): object => ({ file: 'test/golden/a.test.ts', title });

  test('of a file that is named installs what models are fetched with, as the whole does', () => {
    const { status, stdout } = runTests({ passed: 1, failed: [], skipped: [] });
    expect(readFileSync(log, 'utf8')).toContain('install -y -qq --no-install-recommends python3-pip');
    expect(stdout).toMatch(/^1 passed, 0 failed, 0 skipped$/m);
    expect(status).toBe(0);
  });

  test.skipIf(process.getuid?.() === 0)('goes on without it where nobody may install', () => {
    const { status, stdout } = runTests({ passed: 1, failed: [], skipped: [] }, { SUDOERS: 'no' });
    expect(stdout).toContain('without python3-pip tests that need it will fail');
    expect(status).toBe(0);
  });

  test.each([
    ['no test', {}, { passed: 0, failed: [], skipped: [skipped('a')] }, /^0 passed, 0 failed, 1 skipped$/m, 1],
    ['one that was skipped', {}, { passed: 1, failed: [], skipped: [skipped('a')] }, /^1 passed, 0 failed, 1 skip/m, 0],
    [
      'a golden that was skipped in CI',
      { CI: 'true' },
      { passed: 1, failed: [], skipped: [skipped('a')] },
      /^1 passed, 1 failed, 1 skipped$/m,
      1,
    ],
    [
      'weights made by others that were skipped in CI',
      { CI: 'true' },
      { passed: 1, failed: [], skipped: [skipped('a (made by others: not in ../shared)')] },
      /^1 passed, 0 failed, 1 skipped$/m,
      0,
    ],
  ] as const)('with %s ends as it has to', (_title, env, report, counts, code) => {
    const { status, stdout } = runTests(report, env);
    expect(stdout).toMatch(counts);
    expect(status).toBe(code);
  });
});
