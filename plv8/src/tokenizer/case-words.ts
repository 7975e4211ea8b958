/**
 * Words that begin anew with an upper-case letter, as the tokenizers of GPT-4o and Mistral's Tekken split them:
 *   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+
 *   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
 */
import { categoryBit, categoryMask } from './unicode/categories.ts';

/** Letters without case and marks stand with both kinds. */
const UPPER = categoryMask('Lu', 'Lt', 'Lm', 'Lo', 'M');
const LOWER = categoryMask('Ll', 'Lm', 'Lo', 'M');
const LETTER_OR_NUMBER = categoryMask('L', 'N');

function isIn(text: string, at: number, end: number, mask: number): boolean {
  return at < end && (categoryBit(text.codePointAt(at)!) & mask) !== 0;
}

function after(text: string, at: number): number {
  return at + (text.codePointAt(at)! > 0xffff ? 2 : 1);
}

/** End of the word at `at`, 0 where there is none. */
export function caseWordEnd(text: string, at: number, end: number): number {
  const unit = text.charCodeAt(at);
  const takesPrefix = unit !== 0x0a && unit !== 0x0d && !isIn(text, at, end, LETTER_OR_NUMBER);
  const body = takesPrefix ? after(text, at) : at;
  // A mark may stand in front of a word, or be the word.
  return lowerEnd(text, body, end) || (takesPrefix ? lowerEnd(text, at, end) : 0) || upperEnd(text, body, end);
}

/** End of upper-case letters and the lower-case ones after them; 0 where no letter can be lower case. */
function lowerEnd(text: string, start: number, end: number): number {
  let at = start;
  let last = 0; // end of the last one that is of both kinds
  for (; isIn(text, at, end, UPPER); at = after(text, at)) if (isIn(text, at, end, LOWER)) last = after(text, at);
  if (!isIn(text, at, end, LOWER)) return last;
  while (isIn(text, at, end, LOWER)) at = after(text, at);
  return at;
}

/** End of upper-case letters; 0 where there are none. */
function upperEnd(text: string, start: number, end: number): number {
  let at = start;
  while (isIn(text, at, end, UPPER)) at = after(text, at);
  return at > start ? at : 0;
}
