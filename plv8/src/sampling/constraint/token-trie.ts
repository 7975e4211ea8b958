/** The bytes of every token of a vocabulary as trees, so that what cannot begin is left out with all that begins so. */
import { encodeUtf8 } from '../../format/utf8.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { TokenTexts } from './token-order.ts';
import { inOrder } from './token-order.ts';

/** Bytes of the longest tokens of each tree but the last: how far a tree reaches decides which states are one for it. */
const REACHES = [8, 16];

/** Tokens of some lengths as a tree: its nodes in depth-first order, without the root. */
export class TokenTree {
  /** (nodes) byte on the way to the node */
  readonly bytes: Uint8Array;
  /** (nodes) bytes before that one */
  readonly depths: Uint16Array;
  /** (nodes) the node after the last one below it */
  readonly ends: Int32Array;
  /** (nodes) token that ends here; -1 for none */
  readonly tokens: Int32Array;
  /** (256) node of the first byte; -1 for none */
  private readonly roots = new Int32Array(256).fill(-1);

  /**
   * Of the tokens of more than `shorter` and at most `longest` bytes; `order` has places in `texts` in the order of their bytes.
   * Further tokens with the bytes of a token go to `twins`.
   */
  constructor(
    texts: TokenTexts,
    order: Int32Array,
    shorter: number,
    readonly longest: number,
    twins: Map<number, number[]>,
  ) {
    const { bytes, starts, stops, tokens } = texts;
    let most = 0;
    for (let i = 0; i < order.length; i++) {
      const size = stops[order[i]!]! - starts[order[i]!]!;
      if (size > shorter && size <= longest) most += size;
    }
    const path = new Uint8Array(most);
    const depths = new Uint16Array(most);
    const ends = new Int32Array(most);
    const ending = new Int32Array(most).fill(-1);
    const open = new Int32Array(longest); // (depths) node on the way to the token before
    let nodes = 0;
    let before = 0; // where the token before begins
    let length = 0; // of the token before
    for (let i = 0; i < order.length; i++) {
      const place = order[i]!;
      const start = starts[place]!;
      const size = stops[place]! - start;
      if (size <= shorter || size > longest) continue;
      const common = Math.min(length, size);
      let depth = 0;
      while (depth < common && bytes[before + depth] === bytes[start + depth]) depth++;
      if (depth === size) {
        // A token comes after what it begins with, so these are the bytes of the token before.
        const first = ending[nodes - 1]!;
        if (twins.get(first)?.push(tokens[place]!) === undefined) twins.set(first, [tokens[place]!]);
        continue;
      }
      while (length > depth) ends[open[--length]!] = nodes;
      for (; length < size; length++) {
        path[nodes] = bytes[start + length]!;
        depths[nodes] = length;
        open[length] = nodes++;
      }
      ending[nodes - 1] = tokens[place]!;
      before = start;
    }
    while (length > 0) ends[open[--length]!] = nodes;
    this.bytes = path.slice(0, nodes);
    this.depths = depths.slice(0, nodes);
    this.ends = ends.slice(0, nodes);
    this.tokens = ending.slice(0, nodes);
    for (let root = 0; root < nodes; root = ends[root]!) this.roots[path[root]!] = root;
  }

  hasByte(byte: number): boolean {
    const root = this.roots[byte]!;
    return root >= 0 && this.tokens[root]! >= 0;
  }

  /** With `fewest` (length + 1) known for the places of `text` after `from`: fewest tokens from there on, the first one of this tree. */
  fewestFrom(text: string, from: number, fewest: Float64Array): number {
    const { bytes, ends, tokens } = this;
    const root = this.roots[text.charCodeAt(from)]!;
    let node = root < 0 ? 0 : root;
    let end = root < 0 ? 0 : ends[root]!;
    let least = Infinity;
    for (let at = from; at < text.length; at++) {
      const byte = text.charCodeAt(at);
      while (node < end && bytes[node] !== byte) node = ends[node]!;
      if (node >= end) break;
      if (tokens[node]! >= 0) least = Math.min(least, 1 + fewest[at + 1]!);
      end = ends[node]!;
      node++;
    }
    return least;
  }
}

export class TokenTrie {
  /** By the length of tokens, the shortest first. */
  readonly trees: readonly TokenTree[];
  /** Further tokens with the bytes of a token. */
  readonly twins: ReadonlyMap<number, readonly number[]>;
  /** Bytes of the longest token. */
  readonly longest: number;
  /** Bytes that are tokens of their own, as bits. */
  readonly singleBytes: bigint;

  /** `named` are control tokens that stand for their names. */
  constructor(
    readonly tokenizer: Tokenizer,
    private readonly named: ReadonlySet<number> = new Set(),
  ) {
    const texts = this.texts();
    const order = inOrder(texts);
    this.longest = texts.longest;
    const reaches = [...REACHES.filter((reach) => reach < this.longest), this.longest];
    const twins = new Map<number, number[]>();
    this.trees = reaches.map((reach, i) => new TokenTree(texts, order, i === 0 ? 0 : reaches[i - 1]!, reach, twins));
    this.twins = twins;
    let single = 0n;
    for (let byte = 0; byte < 256; byte++) if (this.trees[0]!.hasByte(byte)) single |= 1n << BigInt(byte);
    this.singleBytes = single;
  }

  private texts(): TokenTexts & { longest: number } {
    const { tokenizer } = this;
    const { bytes: ofTokens, ends } = tokenizer.allTokenBytes();
    const size = ends.at(-1) ?? 0;
    const named = [...this.named];
    const names = named.map((id) => encodeUtf8(tokenizer.tokenText(id)));
    const bytes = new Uint8Array(names.reduce((sum, name) => sum + name.length, size));
    bytes.set(ofTokens.subarray(0, size));
    const starts = new Int32Array(ends.length + names.length);
    const stops = new Int32Array(starts.length);
    const tokens = new Int32Array(starts.length);
    let count = 0;
    let longest = 0;
    const add = (token: number, from: number, end: number): void => {
      longest = Math.max(longest, end - from);
      starts[count] = from;
      stops[count] = end;
      tokens[count++] = token;
    };
    const ending = new Set(tokenizer.endOfGeneration);
    let from = 0;
    for (let id = 0; id < ends.length; id++) {
      if (ends[id]! > from && !ending.has(id)) add(id, from, ends[id]!);
      from = ends[id]!;
    }
    names.forEach((name, i) => {
      bytes.set(name, from);
      if (!ending.has(named[i]!)) add(named[i]!, from, from + name.length);
      from += name.length;
    });
    return {
      bytes,
      starts: starts.subarray(0, count),
      stops: stops.subarray(0, count),
      tokens: tokens.subarray(0, count),
      longest,
    };
  }

  /** What a token stands for in the text. */
  bytesOf(token: number): Uint8Array {
    return this.named.has(token) ? encodeUtf8(this.tokenizer.tokenText(token)) : this.tokenizer.tokenBytes(token);
  }

  /** Fewest tokens that make up a text whose characters are bytes; Infinity when none do. */
  fewestTokens(text: string): number {
    const fewest = new Float64Array(text.length + 1).fill(Infinity); // [i] for the text from i on
    fewest[text.length] = 0;
    for (let from = text.length - 1; from >= 0; from--) {
      for (const tree of this.trees) fewest[from] = Math.min(fewest[from]!, tree.fewestFrom(text, from, fewest));
    }
    return fewest[0]!;
  }
}
