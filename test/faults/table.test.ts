/** The tables of faults in docs/reliability.md name their tests, and these are there. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';

const read = (path: string): string => readFileSync(join(packageRoot(), path), 'utf8');

const page = read('docs/reliability.md');
const faults = page.slice(page.indexOf('\n## Faults\n'), page.indexOf('\n### Tests of the faults\n'));
const list = page.slice(page.indexOf('\n### Tests of the faults\n'), page.indexOf('\n## Watching\n'));

const rows = [...faults.matchAll(/^\| (?!fault \|)(.+) \|$/gm)].map((match) => match[1]!.split(' | '));
const tests = new Map(
  [...list.matchAll(/^(\d+)\. `([^`]+)`: (.+)$/gm)].map(([, number, file, title]) => [
    Number(number),
    { file: file!, title: title! },
  ]),
);

describe('the tables of faults', () => {
  test('say of each fault what the call, the data and other queries see, and which tests show it', () => {
    expect(rows.length).toBeGreaterThan(25);
    const used = new Set<number>();
    for (const row of rows) {
      expect(row, row[0]).toHaveLength(5);
      const numbers = row[4]!.split(', ').map(Number);
      for (const number of numbers) {
        expect(tests.has(number), `${row[0]}: test ${number}`).toBe(true);
        used.add(number);
      }
    }
    expect(
      [...tests.keys()].filter((number) => !used.has(number)),
      'tests of no row',
    ).toEqual([]);
  });

  test.each([...tests.values()])('$file: $title', ({ file, title }) => {
    const titles = [...read(file).matchAll(/\(\s*(['"`])((?:(?!\1).)*)\1,\s*(?:\{[^}]*\},\s*)?(?:async )?\(/g)];
    expect(titles.some((match) => match[2]!.includes(title))).toBe(true);
  });
});
