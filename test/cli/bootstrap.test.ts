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

describe('demo in a database of DATABASE_URL', () => {
  const clone = join(built, 'clone');
  const log = join(built, 'psql.log');

  /** A clone where everything is built, by programs that do nothing; psql notes what it is given. */
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
    writeFileSync(
      join(clone, 'bin/psql'),
      `#!/bin/sh
printf '%s\\n' "$PGPASSWORD" "$@" >${log}
case "$*" in *to_json*) echo '{"name": "tiny", "chats": true, "models": 1}' ;; *) echo Hello ;; esac
`,
      { mode: 0o755 },
    );
  }

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
