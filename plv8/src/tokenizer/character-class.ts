/** What the word splitters ask about a character. Values are bits. */
import { categoryBit, categoryMask } from './unicode/categories.ts';

export const LETTER = 1;
export const NUMBER = 2;
export const WHITESPACE = 4;
export const PUNCTUATION = 8;
export const OTHER = 16;

const KNOWN = 128;

/** (0x110000) class of each code point seen so far, with the bit KNOWN */
let classes: Uint8Array | null = null;

/** Unicode's White_Space property; unlike JavaScript's \s it has U+0085 and not U+FEFF. */
function isWhitespace(code: number): boolean {
  return (
    (code >= 9 && code <= 13) ||
    code === 0x20 ||
    code === 0x85 ||
    code === 0xa0 ||
    code === 0x1680 ||
    (code >= 0x2000 && code <= 0x200a) ||
    code === 0x2028 ||
    code === 0x2029 ||
    code === 0x202f ||
    code === 0x205f ||
    code === 0x3000
  );
}

const LETTERS = categoryMask('L');
const NUMBERS = categoryMask('N');
const PUNCTUATIONS = categoryMask('P');

function classify(code: number): number {
  if (isWhitespace(code)) return WHITESPACE;
  const category = categoryBit(code);
  if ((category & LETTERS) !== 0) return LETTER;
  if ((category & NUMBERS) !== 0) return NUMBER;
  return (category & PUNCTUATIONS) !== 0 ? PUNCTUATION : OTHER;
}

/** Class of a code point: one of LETTER, NUMBER, WHITESPACE, PUNCTUATION, OTHER. */
export function characterClass(code: number): number {
  classes ??= new Uint8Array(0x110000);
  const known = classes[code]!;
  if (known !== 0) return known & ~KNOWN;
  const found = classify(code);
  classes[code] = found | KNOWN;
  return found;
}
