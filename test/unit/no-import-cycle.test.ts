import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Linter } from 'eslint';
import tseslint from 'typescript-eslint';
import { afterAll, expect, test } from 'vitest';
import noImportCycle from '../../eslint-rules/no-import-cycle.mjs';

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-cycle-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the rule says of each file. */
function check(files: Record<string, string>): Record<string, string[]> {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const linter = new Linter({ cwd: folder });
  const config = {
    files: ['**/*.ts'],
    languageOptions: { parser: tseslint.parser as Linter.Parser },
    plugins: { own: { rules: { cycle: noImportCycle } } },
    rules: { 'own/cycle': 'error' },
  } as Linter.Config;
  const said = Object.entries(files).map(([name, text]) => [
    name,
    linter.verify(text, config, join(folder, name)).map(({ message }) => message),
  ]);
  return Object.fromEntries(said);
}

test('a circle is reported in each file of it, with the way round, and nowhere else', () => {
  expect(
    check({
      'one.ts': `import { two } from './two.ts';\nexport const one = two;`,
      'two.ts': `export * from './three.ts';\nexport const two = 2;`,
      'three.ts': `import { one } from './one.ts';\nexport const three = () => one;`,
      'outside.ts': `import { one } from './one.ts';\nexport const outside = one;`,
    }),
  ).toEqual({
    'one.ts': ['circle of imports: two.ts imports three.ts imports one.ts'],
    'two.ts': ['circle of imports: three.ts imports one.ts imports two.ts'],
    'three.ts': ['circle of imports: one.ts imports two.ts imports three.ts'],
    'outside.ts': [],
  });
});

test('so is a circle of types alone', () => {
  expect(
    check({
      'shape.ts': `import type { Side } from './side.ts';\nexport interface Shape { sides: Side[] }`,
      'side.ts': `import type { Shape } from './shape.ts';\nexport interface Side { of: Shape }`,
    }),
  ).toEqual({
    'shape.ts': ['circle of imports: side.ts imports shape.ts'],
    'side.ts': ['circle of imports: shape.ts imports side.ts'],
  });
});

test('and one of dynamic imports, or of types named in place', () => {
  expect(
    check({
      'late.ts': `export const late = () => import('./later.ts');`,
      'later.ts': `export const later = () => import('./late.ts');`,
      'here.ts': `export type Here = import('./there.ts').There[];`,
      'there.ts': `export type There = import('./here.ts').Here[];`,
    }),
  ).toEqual({
    'late.ts': ['circle of imports: later.ts imports late.ts'],
    'later.ts': ['circle of imports: late.ts imports later.ts'],
    'here.ts': ['circle of imports: there.ts imports here.ts'],
    'there.ts': ['circle of imports: here.ts imports there.ts'],
  });
});

test('an import that could be another file than the rule looks into is refused', () => {
  expect(
    check({
      'a.ts': `import './b';\nimport './folder';\nimport './b.js';\nimport '.';\nimport 'node:fs';`,
      'b.ts': '',
    }),
  ).toEqual({
    'a.ts': ['./b', './folder', './b.js', '.'].map((name) => `import names no file: ${name}`),
    'b.ts': [],
  });
});
