/** General category of characters, out of tables of one version of Unicode. */
import { CATEGORY_LETTERS, CATEGORY_NAMES, CATEGORY_RUNS } from './tables.ts';

const NAMES = CATEGORY_NAMES.split(' ');

/** (0x110000) index into NAMES of each code point; null until it is asked for */
let categories: Uint8Array | null = null;

function readCategories(): Uint8Array {
  const read = new Uint8Array(0x110000);
  let at = 0;
  for (const [, letter, length] of CATEGORY_RUNS.matchAll(/([^\da-z])([\da-z]+)/g)) {
    const end = at + parseInt(length!, 36);
    read.fill(CATEGORY_LETTERS.indexOf(letter!), at, end);
    at = end;
  }
  return read;
}

/** The bit of each category in what categoryBit tells: 'Lu', or 'L' for all that begin so. */
export function categoryMask(...names: string[]): number {
  return NAMES.reduce((mask, name, i) => (names.some((each) => name.startsWith(each)) ? mask | (1 << i) : mask), 0);
}

/** One bit, that of the category of a code point. */
export function categoryBit(code: number): number {
  categories ??= readCategories();
  return 1 << categories[code]!;
}
