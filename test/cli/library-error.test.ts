/** Libraries that the server cannot load, made with the compiler that also builds the extension. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { hartonomous } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-library-'));
chmodSync(folder, 0o755);
let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(async () => {
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

function library(name: string, source: string, ...flags: string[]): string {
  const file = join(folder, name);
  execFileSync('gcc', ['-x', 'c', '-shared', '-fPIC', '-o', file, '-', '-x', 'none', ...flags], {
    input: source,
    cwd: folder,
  });
  return file;
}

/** Beginning of PostgreSQL's Pg_magic_struct: its length, the version that a library was built for, and more. */
const MAGIC_OF_9_6 = `static const struct { int len, version, more[16]; } magic = { 72, 906, { 0 } };
const void *Pg_magic_func(void) { return &magic; }`;

const CASES: [string, () => string, RegExp][] = [
  [
    'another major version or a newer minor one',
    () =>
      library('newer.so', 'extern int function_of_19(void); int f(void) { return function_of_19(); }', '-Wl,-z,now'),
    /newer\.so was built for another major version of PostgreSQL or a newer minor one: the server has no function_of_19/,
  ],
  [
    'another major version, which it names',
    () => library('older.so', MAGIC_OF_9_6),
    /older\.so was built for PostgreSQL 9\.6, the server is \d+/,
  ],
  [
    'libraries that an upgrade of the system took away',
    () => {
      const needed = library('libgone.so.72', 'int gone(void) { return 1; }', '-Wl,-soname,libgone.so.72');
      const file = library('left.so', 'int gone(void); int f(void) { return gone(); }', '-Wl,--no-as-needed', needed);
      rmSync(needed);
      return file;
    },
    /left\.so needs libgone\.so\.72, which this system does not have/,
  ],
];

test.each(CASES)('a library built for %s is told apart, with the cure', async (_title, make, message) => {
  const { code, stderr } = await hartonomous(['query', '--write', `load '${make()}'`], { url: database.url });
  expect(stderr).toMatch(message);
  expect(stderr).toContain('run host/setup.sh again');
  expect(code).toBe(1);
});

test.each(CASES)(
  'the private server that would load a library built for %s does not start, and says so',
  async (_title, make, message) => {
    const home = join(folder, 'home');
    const env = { HARTONOMOUS_HOME: home };
    try {
      expect((await hartonomous(['up'], { env })).code).toBe(0);
      await hartonomous(['down'], { env });
      appendFileSync(join(home, 'data/postgresql.auto.conf'), `shared_preload_libraries = '${make()}'\n`);
      const { code, stderr } = await hartonomous(['up'], { env });
      expect(stderr).toMatch(/^hartonomous: PostgreSQL did not start: /);
      expect(stderr).toMatch(message);
      expect(stderr).toContain('run host/setup.sh again');
      expect(code).toBe(1);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  },
);
