/** Tokens as a person reads them. */
import { decodeUtf8, encodeUtf8 } from '../format/utf8.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Text of a token as PostgreSQL can hold it; vocabularies may be shorter than the output matrix. */
export function textOf(tokenizer: Tokenizer, id: number): string {
  return id < tokenizer.vocabSize ? storable(tokenizer.tokenText(id)) : `<unused ${id}>`;
}

/** NUL, which text cannot hold, is U+2400. */
function storable(text: string): string {
  return text.replaceAll('\0', '\u2400');
}

/** Byte by byte, with names for control tokens. */
function bytesOf(tokenizer: Tokenizer, id: number): Uint8Array {
  if (id >= tokenizer.vocabSize || tokenizer.isControl(id)) return encodeUtf8(textOf(tokenizer, id));
  return tokenizer.tokenBytes(id);
}

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80;

/** A sequence as text, of which any tokens can be read. */
export class TokenTexts {
  private readonly bytes: Uint8Array;
  /** (ids + 1) where each token begins, and the end. */
  private readonly starts: number[] = [0];

  constructor(tokenizer: Tokenizer, ids: readonly number[]) {
    const pieces = ids.map((id) => bytesOf(tokenizer, id));
    for (const piece of pieces) this.starts.push(this.starts[this.starts.length - 1]! + piece.length);
    this.bytes = new Uint8Array(this.starts[ids.length]!);
    pieces.forEach((piece, i) => this.bytes.set(piece, this.starts[i]!));
  }

  /** Text of positions [from, to): characters that they hold a part of as a whole. */
  of(from: number, to = from + 1): string {
    let [start, end] = [this.starts[from]!, this.starts[to]!];
    if (start === end) return '';
    while (start > 0 && isContinuation(this.bytes[start])) start--;
    while (isContinuation(this.bytes[end])) end++;
    return storable(decodeUtf8(this.bytes.subarray(start, end)));
  }

  /** The characters that begin in a token, so that those of all tokens are the text; empty within a character. */
  beginningIn(at: number): string {
    let [start, end] = [this.starts[at]!, this.starts[at + 1]!];
    while (start > 0 && start < end && isContinuation(this.bytes[start])) start++;
    if (start === end) return '';
    while (isContinuation(this.bytes[end])) end++;
    return storable(decodeUtf8(this.bytes.subarray(start, end)));
  }

  /** Which bytes of how many of a character a token is, as `bytes 1 to 2 of 4`; null for one of whole characters. */
  partOf(at: number): string | null {
    const [first, last] = [this.starts[at]!, this.starts[at + 1]!];
    let [start, end] = [first, last];
    while (start > 0 && isContinuation(this.bytes[start])) start--;
    while (isContinuation(this.bytes[end])) end++;
    if (start === first && end === last) return null;
    return `bytes ${first - start + 1}${last - first > 1 ? ` to ${last - start}` : ''} of ${end - start}`;
  }
}
