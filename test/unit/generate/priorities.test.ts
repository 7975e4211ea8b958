import { describe, expect, it } from 'vitest';
import type { Turn } from '../../../plv8/src/generate/engine/turns.ts';
import { Turns } from '../../../plv8/src/generate/engine/turns.ts';
import { Priorities } from '../../../plv8/src/generate/priorities.ts';

const same = (priority: number): number => priority;

describe('priorities', () => {
  it.each<[string, number[], number[]]>([
    ['of nobody', [], []],
    ['that are none', [0, 0, 0], [0, 0, 0]],
    ['that are alike', [7, 7], [7, 7]],
    ['put the highest first', [0, 3, 1, 3], [3, 3]],
  ])('%s', (_what, waiting, next) => {
    expect(new Priorities().next(waiting, same)).toEqual(next);
  });

  it('leave every eighth turn to all others, whatever theirs are', () => {
    const priorities = new Priorities();
    const turns = Array.from({ length: 24 }, () => priorities.next([0, 2, 1], same).join());
    const seven = new Array<string>(7).fill('2');
    expect(turns).toEqual([...seven, '0,1', ...seven, '0,1', ...seven, '0,1']);
  });

  it('count no turn for which nobody else waits', () => {
    const priorities = new Priorities();
    for (let i = 0; i < 7; i++) expect(priorities.next([1, 0], same)).toEqual([1]);
    for (let i = 0; i < 9; i++) expect(priorities.next([1, 1], same)).toEqual([1, 1]);
    expect(priorities.next([1, 0], same)).toEqual([0]);
  });
});

describe('turns', () => {
  const of = (role: number, priority: number, name: string): Turn & { name: string } => ({ role, priority, name });

  /** The order in which all of them come. */
  function order(waiting: (Turn & { name: string })[]): string[] {
    const turns = new Turns();
    const names: string[] = [];
    while (waiting.length > 0) names.push(turns.take(waiting, (each) => each).name);
    return names;
  }

  it('are taken by roles in turn, within a role by who came first', () => {
    const names = order([of(1, 0, 'a1'), of(1, 0, 'a2'), of(1, 0, 'a3'), of(2, 0, 'b1'), of(3, 0, 'c1')]);
    expect(names).toEqual(['a1', 'b1', 'a2', 'c1', 'a3']);
  });

  it('are taken by those of the highest priority first, who take turns as others do', () => {
    const names = order([of(1, 0, 'a1'), of(2, 5, 'b1'), of(4, 1, 'd1'), of(2, 5, 'b2'), of(3, 5, 'c1')]);
    expect(names).toEqual(['b1', 'c1', 'b2', 'd1', 'a1']);
  });

  it('come to those of a low priority after seven others', () => {
    const many = Array.from({ length: 20 }, (_, i) => of(2, 1, `b${i}`));
    const names = order([of(1, 0, 'a0'), of(1, 0, 'a1'), ...many]);
    expect(names.indexOf('a0')).toBe(7);
    expect(names.indexOf('a1')).toBe(15);
    expect(names.filter((name) => name.startsWith('b'))).toEqual(many.map(({ name }) => name));
  });
});
