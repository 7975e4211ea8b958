/**
 * Where a text may be cut without taking a character apart that people see as one (Unicode's UAX #29). Never yes within a
 * grapheme; now and then no between two, where telling would take more tables. The same on every V8, with or without Intl.
 */
import { categoryBit, categoryMask } from '../../tokenizer/unicode/categories.ts';

/** Marks, and format characters, of which some join and some come before a digit. */
const ATTACHED = categoryMask('M', 'Cf');
const FORMAT = categoryMask('Cf');
const MARK = categoryMask('Mn');
const LETTER = categoryMask('Lo');

/** Signs of Indic scripts that are letters and belong to what follows. */
const PREPENDED = new Set([
  0x0d4e, 0x111c2, 0x111c3, 0x1193f, 0x11941, 0x11a3a, 0x11a84, 0x11a85, 0x11a86, 0x11a87, 0x11a88, 0x11a89, 0x11d46,
  0x11f02,
]);
/** Characters that are no marks and still belong to what is before: SARA AM, half-width voice marks. */
const APPENDED = new Set([0x0e33, 0x0eb3, 0xff9e, 0xff9f]);

const between = (code: number, first: number, last: number): boolean => code >= first && code <= last;
const isLead = (code: number): boolean => between(code, 0x1100, 0x115f) || between(code, 0xa960, 0xa97c);
const isSyllable = (code: number): boolean => between(code, 0xac00, 0xd7a3);
const isVowelOrTail = (code: number): boolean => between(code, 0x1160, 0x11ff) || between(code, 0xd7b0, 0xd7fb);
const isFlag = (code: number): boolean => between(code, 0x1f1e6, 0x1f1ff);
const isSkinTone = (code: number): boolean => between(code, 0x1f3fb, 0x1f3ff);
/** Scripts in which a sign may join two consonants. */
const isIndic = (code: number): boolean =>
  between(code, 0x0900, 0x0dff) || between(code, 0x1000, 0x109f) || between(code, 0x1b00, 0x1b7f);

/** Whether every one of `text` up to `end` that is a flag's half has its other half. */
function flagsArePaired(text: string, end: number): boolean {
  let halves = 0;
  for (let at = end; at >= 2 && isFlag(text.codePointAt(at - 2)!); at -= 2) halves++;
  return halves % 2 === 0;
}

/** The code point that ends before `at`. */
function codePointBefore(text: string, at: number): number {
  const low = text.charCodeAt(at - 1);
  return at >= 2 && low >= 0xdc00 && low <= 0xdfff ? text.codePointAt(at - 2)! : low;
}

/** Whether a text may be cut before its UTF-16 unit `at`. */
export function mayCut(text: string, at: number): boolean {
  if (at <= 0 || at >= text.length) return true;
  const unit = text.charCodeAt(at);
  if (unit >= 0xdc00 && unit <= 0xdfff) return false;
  const before = codePointBefore(text, at);
  const after = text.codePointAt(at)!;
  if (before === 0x0d && after === 0x0a) return false;
  if (before < 0x300 && after < 0x300) return after !== 0xad && before !== 0xad;
  const kind = categoryBit(after);
  if ((kind & ATTACHED) !== 0 || APPENDED.has(after) || isSkinTone(after)) return false;
  const kindBefore = categoryBit(before);
  if ((kindBefore & FORMAT) !== 0 || PREPENDED.has(before)) return false;
  if (isVowelOrTail(after) || (isLead(before) && (isLead(after) || isSyllable(after)))) return false;
  if (isFlag(before) && isFlag(after)) return flagsArePaired(text, at);
  return !((kindBefore & MARK) !== 0 && (kind & LETTER) !== 0 && isIndic(before) && isIndic(after));
}
