/** The bytes of every token of a vocabulary as a tree, so that what cannot begin is left out with all that begins so. */
import { encodeUtf8 } from '../../format/utf8.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';

const CHUNK = 4096;

/** Nodes in depth-first order; the root is not among them. */
export class TokenTrie {
  /** (nodes) byte on the way to the node */
  readonly bytes: Uint8Array;
  /** (nodes) bytes before that one */
  readonly depths: Uint16Array;
  /** (nodes) the node after the last one below it */
  readonly ends: Int32Array;
  /** (nodes) token that ends here; -1 for none */
  readonly tokens: Int32Array;
  /** Further tokens with the bytes of a token. */
  readonly twins: ReadonlyMap<number, readonly number[]>;
  /** (256) node of the first byte; -1 for none */
  private readonly roots = new Int32Array(256).fill(-1);
  /** Bytes of the longest token. */
  readonly longest: number;
  /** Bytes that are tokens of their own, as bits. */
  readonly singleBytes: bigint;

  /** `named` are control tokens that stand for their names. */
  constructor(
    readonly tokenizer: Tokenizer,
    private readonly named: ReadonlySet<number> = new Set(),
  ) {
    const texts: { text: string; id: number }[] = [];
    for (let id = 0; id < tokenizer.vocabSize; id++) {
      if ((tokenizer.isControl(id) && !named.has(id)) || tokenizer.isEndOfGeneration(id)) continue;
      const bytes = this.bytesOf(id);
      if (bytes.length === 0) continue;
      let text = '';
      for (let i = 0; i < bytes.length; i += CHUNK) text += String.fromCharCode(...bytes.subarray(i, i + CHUNK));
      texts.push({ text, id });
    }
    texts.sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : a.id - b.id));
    const twins = new Map<number, number[]>();
    const most = texts.reduce((sum, { text }) => sum + text.length, 0);
    const bytes = new Uint8Array(most);
    const depths = new Uint16Array(most);
    const tokens = new Int32Array(most).fill(-1);
    const ends = new Int32Array(most);
    let nodes = 0;
    const open: number[] = []; // nodes on the way to the last token
    let before = '';
    let first = -1;
    let longest = 0;
    for (const { text, id } of texts) {
      if (text === before) {
        twins.set(first, [...(twins.get(first) ?? []), id]);
        continue;
      }
      let shared = 0;
      while (shared < before.length && shared < text.length && before[shared] === text[shared]) shared++;
      while (open.length > shared) ends[open.pop()!] = nodes;
      for (let depth = shared; depth < text.length; depth++) {
        open.push(nodes);
        bytes[nodes] = text.charCodeAt(depth);
        depths[nodes] = depth;
        nodes++;
      }
      tokens[nodes - 1] = id;
      longest = Math.max(longest, text.length);
      before = text;
      first = id;
    }
    while (open.length > 0) ends[open.pop()!] = nodes;
    this.bytes = bytes.slice(0, nodes);
    this.depths = depths.slice(0, nodes);
    this.tokens = tokens.slice(0, nodes);
    this.ends = ends.slice(0, nodes);
    this.twins = twins;
    this.longest = longest;
    for (let node = 0; node < nodes; node = ends[node]!) this.roots[bytes[node]!] = node;
    this.singleBytes = this.roots.reduce(
      (bits, node, byte) => (node >= 0 && tokens[node]! >= 0 ? bits | (1n << BigInt(byte)) : bits),
      0n,
    );
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
      const root = this.roots[text.charCodeAt(from)]!;
      let node = root < 0 ? 0 : root;
      let end = root < 0 ? 0 : this.ends[root]!;
      for (let at = from; at < text.length; at++) {
        const byte = text.charCodeAt(at);
        while (node < end && this.bytes[node] !== byte) node = this.ends[node]!;
        if (node >= end) break;
        if (this.tokens[node]! >= 0) fewest[from] = Math.min(fewest[from]!, 1 + fewest[at + 1]!);
        end = this.ends[node]!;
        node++;
      }
    }
    return fewest[0]!;
  }
}
