/** The bytes of every token of a vocabulary as trees, so that what cannot begin is left out with all that begins so. */
import { encodeUtf8 } from '../../format/utf8.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { TokenNodes } from './token-nodes.ts';
import { growTrees } from './token-nodes.ts';

/** Bytes of the longest tokens of each tree but the last: how far a tree reaches decides which states are one for it. */
const REACHES = [8, 16];

export class TokenTree {
  /** (256) node of the first byte; -1 for none */
  private readonly roots = new Int32Array(256).fill(-1);

  constructor(readonly nodes: TokenNodes) {
    const { bytes, ends } = nodes;
    for (let root = 0; root < bytes.length; root = ends[root]!) this.roots[bytes[root]!] = root;
  }

  hasByte(byte: number): boolean {
    const root = this.roots[byte]!;
    return root >= 0 && this.nodes.tokens[root]! >= 0;
  }

  /** With `fewest` (length + 1) known for the places of `text` after `from`: fewest tokens from there on, the first one of this tree. */
  fewestFrom(text: string, from: number, fewest: Float64Array): number {
    const { bytes, ends, tokens } = this.nodes;
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
    const texts = new Map([...named].map((id) => [id, encodeUtf8(tokenizer.tokenText(id))]));
    const { trees, twins } = growTrees(tokenizer, texts, REACHES);
    this.trees = trees.map((nodes) => new TokenTree(nodes));
    this.twins = twins;
    this.longest = trees.at(-1)!.longest;
    let single = 0n;
    for (let byte = 0; byte < 256; byte++) if (this.trees[0]!.hasByte(byte)) single |= 1n << BigInt(byte);
    this.singleBytes = single;
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
