import { describe, expect, it } from 'vitest';
import type { Standing } from '../../../plv8/src/generate/divide-rows.ts';
import { divideRows } from '../../../plv8/src/generate/divide-rows.ts';
import { Random } from '../../../plv8/src/sampling/random.ts';

const writing: Standing = { pending: 1, writing: true };
const reading = (pending: number): Standing => ({ pending, writing: false });

describe('rows of a pass', () => {
  it.each<[string, Standing[], number[]]>([
    ['nobody', [], []],
    ['one prompt gets all of them', [reading(100)], [32]],
    ['and no more than it has ids', [reading(5)], [5]],
    ['whoever writes gets one', [writing, reading(100), writing], [1, 30, 1]],
    ['who came first gets half, who needs fewest the rest', [reading(1000), reading(40), reading(6)], [16, 10, 6]],
    ['what the first leaves goes on', [reading(3), reading(1000), reading(50)], [3, 0, 29]],
    ['what the others leave comes back to the first', [reading(1000), reading(2), reading(1)], [29, 2, 1]],
    ['of equals who came first', [reading(20), reading(20), reading(20)], [20, 12, 0]],
    ['none is left where all write', Array.from({ length: 32 }, () => writing), new Array<number>(32).fill(1)],
    ['a prompt that is in a cache is read like others', [reading(1), writing], [1, 1]],
  ])('%s', (_what, sequences, rows) => {
    expect(divideRows(sequences, 32)).toEqual(rows);
  });

  it('are all that there are where there is no bound', () => {
    expect(divideRows([reading(1000), writing, reading(7)], Infinity)).toEqual([1000, 1, 7]);
  });

  it('are no more than there are, none is left while somebody reads, and half of what is left is for who came first', () => {
    const random = new Random(1);
    const below = (n: number): number => Math.floor(random.next() * n);
    for (let round = 0; round < 2000; round++) {
      const sequences = Array.from({ length: below(17) }, () => (below(2) === 0 ? writing : reading(1 + below(80))));
      const taken = divideRows(sequences, 32);
      const sum = taken.reduce((a, b) => a + b, 0);
      const pending = sequences.reduce((all, each) => all + each.pending, 0);
      expect(sum).toBe(Math.min(32, pending));
      sequences.forEach((each, i) => {
        expect(taken[i]).toBeGreaterThanOrEqual(each.writing ? 1 : 0);
        expect(taken[i]).toBeLessThanOrEqual(each.pending);
      });
      const first = sequences.findIndex((each) => !each.writing);
      if (first < 0) continue;
      const left = 32 - sequences.filter((each) => each.writing).length;
      expect(taken[first]).toBeGreaterThanOrEqual(Math.min(sequences[first]!.pending, Math.ceil(left / 2)));
    }
  });
});
