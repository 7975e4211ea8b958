/** bootstrap.mjs with a Node.js that is too old, or options that it does not know, does nothing but say so. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const FILES = ['bootstrap.mjs', 'python-package.mjs'];
const folder = mkdtempSync(join(tmpdir(), 'hartonomous-bootstrap-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

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
