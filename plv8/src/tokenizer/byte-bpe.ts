import { encodeUtf8 } from '../format/utf8.ts';
import { MergeQueue } from './merge-queue.ts';
import type { Merges } from './vocabulary.ts';
import type { WordRules } from './word-splitter.ts';
import { splitWords } from './word-splitter.ts';

/** Words no longer than this are merged by looking for the best pair anew each time; longer ones use the heap. */
const SHORT_WORD = 24;

/** Words remembered with their ids; forgotten all together when full. */
const CACHED_WORDS = 16384;

/** Words longer than this are not remembered. */
const CACHED_WORD_LENGTH = 32;

/** Words between two polls. */
const POLL_STRIDE = 512;

/** Steps of a long word between two polls. */
const LONG_POLL_STRIDE = 4096;

const NONE = -1;
const UNKNOWN = -2;

/**
 * The printable character that stands for each byte in a byte-level vocabulary: itself where it is printable Latin-1,
 * else the next free character from U+0100 on.
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const characters: string[] = [];
  let free = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push(String.fromCharCode(printable ? byte : free++));
  }
  return characters;
})();

/** Byte that a character of a byte-level token stands for. */
export const CHARACTER_BYTES: ReadonlyMap<string, number> = new Map(
  BYTE_CHARACTERS.map((character, byte) => [character, byte]),
);

/**
 * Byte-level BPE: a word's bytes are joined pair by pair, lowest merge rank first, leftmost first.
 * Symbols are integers: token ids, then the texts that are no token.
 */
export class ByteBpeEncoder {
  /** texts of symbols that are no token; symbol = vocabSize + index */
  private readonly parts: string[];
  private readonly partIds = new Map<string, number>();
  /** (256) symbol of each byte */
  private readonly byteSymbols = new Int32Array(256);
  /** open-addressing table over pairs: left symbol, right symbol, merge rank, joined symbol or UNKNOWN */
  private readonly mask: number;
  private readonly lefts: Int32Array;
  private readonly rights: Int32Array;
  private readonly ranks: Int32Array;
  private readonly joined: Int32Array;
  private readonly queue = new MergeQueue();
  private readonly words = new Map<string, readonly number[]>();

  constructor(
    private readonly tokens: readonly string[],
    private readonly idOf: ReadonlyMap<string, number>,
    merges: Merges,
    private readonly rules: WordRules,
  ) {
    this.parts = merges.parts.slice();
    this.parts.forEach((text, i) => this.partIds.set(text, tokens.length + i));
    for (let byte = 0; byte < 256; byte++) this.byteSymbols[byte] = this.symbolOf(BYTE_CHARACTERS[byte]!);
    const count = merges.pairs.length / 2;
    let size = 16;
    while (size < count * 1.5) size *= 2;
    this.mask = size - 1;
    this.lefts = new Int32Array(size).fill(NONE);
    this.rights = new Int32Array(size);
    this.ranks = new Int32Array(size);
    this.joined = new Int32Array(size).fill(UNKNOWN);
    for (let rank = 0; rank < count; rank++) this.addMerge(merges.pairs[2 * rank]!, merges.pairs[2 * rank + 1]!, rank);
  }

  /** Append the ids of `text`, which has no lone surrogates. */
  encode(text: string, out: number[], poll: () => void): void {
    let start = 0;
    let count = 0;
    for (const end of splitWords(this.rules, text)) {
      if (++count % POLL_STRIDE === 0) poll();
      this.encodeWord(text.slice(start, end), out, poll);
      start = end;
    }
  }

  private encodeWord(word: string, out: number[], poll: () => void): void {
    const known = this.words.get(word);
    if (known !== undefined) {
      for (const id of known) out.push(id);
      return;
    }
    const from = out.length;
    const bytes = encodeUtf8(word);
    const whole = this.rules.ignoreMerges ? this.idOf.get(byteText(bytes)) : undefined;
    if (whole !== undefined) out.push(whole);
    else {
      const symbols = new Int32Array(bytes.length);
      for (let i = 0; i < bytes.length; i++) symbols[i] = this.byteSymbols[bytes[i]!]!;
      const count = symbols.length <= SHORT_WORD ? this.mergeShort(symbols) : this.mergeLong(symbols, poll);
      for (let i = 0; i < count; i++) this.emit(symbols[i]!, out);
    }
    if (word.length > CACHED_WORD_LENGTH) return;
    if (this.words.size >= CACHED_WORDS) this.words.clear();
    this.words.set(word, out.slice(from));
  }

  /** Merge in place; how many symbols are left at the front. */
  private mergeShort(symbols: Int32Array): number {
    let count = symbols.length;
    for (;;) {
      let best = -1;
      let bestSlot = NONE;
      let bestRank = Infinity;
      for (let i = 0; i + 1 < count; i++) {
        const slot = this.find(symbols[i]!, symbols[i + 1]!);
        if (slot !== NONE && this.ranks[slot]! < bestRank) {
          bestRank = this.ranks[slot]!;
          bestSlot = slot;
          best = i;
        }
      }
      if (best < 0) return count;
      symbols[best] = this.join(bestSlot);
      symbols.copyWithin(best + 1, best + 2, count);
      count--;
    }
  }

  /** As mergeShort, in n log n. */
  private mergeLong(symbols: Int32Array, poll: () => void): number {
    const n = symbols.length;
    const next = new Int32Array(n); // n at the end
    const previous = new Int32Array(n); // -1 at the start
    const { queue } = this;
    queue.clear();
    const propose = (left: number, right: number): void => {
      const slot = this.find(symbols[left]!, symbols[right]!);
      if (slot !== NONE) queue.push(this.ranks[slot]!, left, slot);
    };
    for (let i = 0; i < n; i++) {
      next[i] = i + 1;
      previous[i] = i - 1;
    }
    let steps = 0;
    for (let i = 0; i + 1 < n; i++) {
      if (++steps % LONG_POLL_STRIDE === 0) poll();
      propose(i, i + 1);
    }
    while (queue.pop()) {
      if (++steps % LONG_POLL_STRIDE === 0) poll();
      const { left, check: slot } = queue;
      const right = next[left]!;
      if (right >= n || symbols[left] !== this.lefts[slot] || symbols[right] !== this.rights[slot]) continue;
      symbols[left] = this.join(slot);
      symbols[right] = NONE;
      const after = next[right]!;
      next[left] = after;
      if (after < n) previous[after] = left;
      if (previous[left]! >= 0) propose(previous[left]!, left);
      if (after < n) propose(left, after);
    }
    let count = 0;
    for (let i = 0; i < n; i++) if (symbols[i] !== NONE) symbols[count++] = symbols[i]!;
    return count;
  }

  /** A symbol that is no token falls apart into the tokens of its ASCII characters; the rest has none. */
  private emit(symbol: number, out: number[]): void {
    if (symbol < this.tokens.length) {
      out.push(symbol);
      return;
    }
    for (const character of this.parts[symbol - this.tokens.length]!) {
      const id = character < '\u0080' ? this.idOf.get(character) : undefined;
      if (id !== undefined) out.push(id);
    }
  }

  private symbolOf(text: string): number {
    const known = this.idOf.get(text) ?? this.partIds.get(text);
    if (known !== undefined) return known;
    const symbol = this.tokens.length + this.parts.length;
    this.parts.push(text);
    this.partIds.set(text, symbol);
    return symbol;
  }

  private textOf(symbol: number): string {
    return symbol < this.tokens.length ? this.tokens[symbol]! : this.parts[symbol - this.tokens.length]!;
  }

  private join(slot: number): number {
    let symbol = this.joined[slot]!;
    if (symbol === UNKNOWN) {
      symbol = this.symbolOf(this.textOf(this.lefts[slot]!) + this.textOf(this.rights[slot]!));
      this.joined[slot] = symbol;
    }
    return symbol;
  }

  private addMerge(left: number, right: number, rank: number): void {
    let slot = hashPair(left, right) & this.mask;
    while (this.lefts[slot] !== NONE) {
      if (this.lefts[slot] === left && this.rights[slot] === right) return;
      slot = (slot + 1) & this.mask;
    }
    this.lefts[slot] = left;
    this.rights[slot] = right;
    this.ranks[slot] = rank;
  }

  private find(left: number, right: number): number {
    let slot = hashPair(left, right) & this.mask;
    for (;;) {
      const there = this.lefts[slot]!;
      if (there === NONE) return NONE;
      if (there === left && this.rights[slot] === right) return slot;
      slot = (slot + 1) & this.mask;
    }
  }
}

function hashPair(left: number, right: number): number {
  let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return hash ^ (hash >>> 13);
}

/** Bytes spelled in the characters of a byte-level vocabulary. */
export function byteText(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += BYTE_CHARACTERS[byte]!;
  return text;
}
