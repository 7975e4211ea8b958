/** The bytes that stand for characters: UTF-8 as it is, or as it stands inside of a JSON string. */
import { encodeUtf8 } from '../../format/utf8.ts';
import type { CharacterSet } from './character-sets.ts';
import { LAST_CODE_POINT, without } from './character-sets.ts';
import type { Expression, Expressions } from './expression.ts';
import { NEVER } from './expression.ts';

/** Bytes of the UTF-8 form of a text, each as one character. */
export function byteText(text: string): string {
  let bytes = '';
  for (const byte of encodeUtf8(text)) bytes += String.fromCharCode(byte);
  return bytes;
}

/** How one character of a set is written. */
export type Encoding = (set: CharacterSet) => Expression;

/** Limits of UTF-8's forms: code points up to `last` have `length` bytes. */
const FORMS = [
  { last: 0x7f, length: 1 },
  { last: 0x7ff, length: 2 },
  { last: 0xffff, length: 3 },
  { last: LAST_CODE_POINT, length: 4 },
] as const;

/** UTF-8 (https://encoding.spec.whatwg.org/#utf-8). */
export function utf8Encoding(expressions: Expressions): Encoding {
  return (set) => {
    const parts: Expression[] = [];
    for (const [from, to] of set) {
      let first = from;
      for (const { last, length } of FORMS) {
        if (first > Math.min(to, last)) continue;
        parts.push(byteRanges(expressions, utf8Bytes(first, length), utf8Bytes(Math.min(to, last), length)));
        first = last + 1;
      }
    }
    return expressions.any(parts);
  };
}

function utf8Bytes(codePoint: number, length: number): number[] {
  if (length === 1) return [codePoint];
  const bytes: number[] = [];
  let rest = codePoint;
  for (let i = 1; i < length; i++) {
    bytes.unshift(0x80 | (rest & 0x3f));
    rest >>= 6;
  }
  bytes.unshift(((0xf00 >> length) & 0xff) | rest);
  return bytes;
}

/** Byte strings of one length between two, where every byte but the first runs from 0x80 to 0xbf. */
function byteRanges(expressions: Expressions, low: readonly number[], high: readonly number[]): Expression {
  const [from, to] = [low[0]!, high[0]!];
  if (low.length === 1) return expressions.range(from, to);
  const lowRest = low.slice(1);
  const highRest = high.slice(1);
  if (from === to) return expressions.sequence(expressions.range(from, to), byteRanges(expressions, lowRest, highRest));
  const least = lowRest.map(() => 0x80);
  const most = lowRest.map(() => 0xbf);
  const part = (a: number, b: number, rest: readonly number[], restTo: readonly number[]): Expression =>
    a > b ? NEVER : expressions.sequence(expressions.range(a, b), byteRanges(expressions, rest, restTo));
  return expressions.any([
    part(from, from, lowRest, most),
    part(from + 1, to - 1, least, most),
    part(to, to, least, highRest),
  ]);
}

/** Short escapes of JSON for characters that may not stand in a string as they are. */
const ESCAPES = new Map([
  [0x08, 'b'],
  [0x09, 't'],
  [0x0a, 'n'],
  [0x0c, 'f'],
  [0x0d, 'r'],
  [0x22, '"'],
  [0x5c, '\\'],
]);

/**
 * Characters inside of a JSON string, each in one way: escaped where they have to be, else as they are. Without NUL,
 * which PostgreSQL's text does not hold.
 */
export function jsonEncoding(expressions: Expressions): Encoding {
  const plain = utf8Encoding(expressions);
  return (set) => {
    const parts: Expression[] = [];
    let rest = without(set, 0, 0x1f);
    for (const codePoint of [0x22, 0x5c]) rest = without(rest, codePoint, codePoint);
    parts.push(plain(rest));
    for (const [from, to] of set) {
      for (let codePoint = Math.max(1, from); codePoint <= Math.min(to, 0x5c); codePoint++) {
        const escape = ESCAPES.get(codePoint);
        if (escape !== undefined) parts.push(expressions.literal(`\\${escape}`));
        else if (codePoint < 0x20) parts.push(expressions.literal(`\\u${codePoint.toString(16).padStart(4, '0')}`));
      }
    }
    return expressions.any(parts);
  };
}
