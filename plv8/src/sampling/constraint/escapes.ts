/**
 * What the escapes of patterns stand for. Engines read some of them differently: \d, \w and \s are ASCII and a list of blanks in
 * JavaScript, and all of Unicode in Python and Rust. A text is written where all readings match it, and left out where any does.
 */
import type { CharacterSet } from './character-sets.ts';
import { complement, LAST_CODE_POINT, normalise, propertySet } from './character-sets.ts';

export type Reading = 'all' | 'any';

export const ALL: CharacterSet = normalise([[0, LAST_CODE_POINT]]);

const DIGIT = normalise([[0x30, 0x39]]);
const WORD = normalise([
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]);
const SPACE: readonly (readonly [number, number])[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
];
/** Blanks of JavaScript's, and of Python's and Rust's alone. */
const FURTHER_SPACE: readonly (readonly [number, number])[] = [
  [0x1c, 0x1f],
  [0x85, 0x85],
  [0xfeff, 0xfeff],
];

const ESCAPES: Readonly<Record<'digit' | 'space' | 'word', Readonly<Record<Reading, () => CharacterSet>>>> = {
  digit: { all: () => DIGIT, any: () => propertySet('\\p{Nd}') },
  space: { all: () => normalise(SPACE), any: () => normalise([...SPACE, ...FURTHER_SPACE]) },
  word: {
    all: () => WORD,
    any: () => propertySet('[\\p{L}\\p{M}\\p{N}\\p{Pc}\\p{Alphabetic}\\p{Join_Control}]'),
  },
};

export function other(reading: Reading): Reading {
  return reading === 'all' ? 'any' : 'all';
}

/** \d, \s or \w; with `negate` \D, \S or \W. */
export function escapeSet(kind: 'digit' | 'space' | 'word', negate: boolean, reading: Reading): CharacterSet {
  return negate ? complement(ESCAPES[kind][other(reading)]()) : ESCAPES[kind][reading]();
}

/** A dot: Python's is every character but the line feed. */
export function dotSet(reading: Reading): CharacterSet {
  if (reading === 'any') return complement(normalise([[0x0a, 0x0a]]));
  return complement(
    normalise([
      [0x0a, 0x0a],
      [0x0d, 0x0d],
      [0x2028, 0x2029],
    ]),
  );
}
