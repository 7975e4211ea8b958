/** The bytes of every token of a vocabulary as a tree, so that what cannot begin is left out with all that begins so. */
import { encodeUtf8 } from '../../format/utf8.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';

/** The tree as tokens are put in; node 0 is its root. */
class GrowingTree {
  /** (nodes) the first node below; -1 for none */
  readonly below: Int32Array;
  /** (nodes) the next node below the same one; -1 for none */
  readonly beside: Int32Array;
  /** (nodes) byte on the way to the node */
  readonly last: Uint8Array;
  /** (nodes) token that ends here; -1 for none */
  readonly ending: Int32Array;
  readonly twins = new Map<number, number[]>();
  count = 1;
  longest = 0;
  /** (256 * 256) node after two bytes, up to which there are many beside each other; 0 for none yet */
  private readonly afterTwo = new Int32Array(65536);

  constructor(nodes: number) {
    this.below = new Int32Array(nodes).fill(-1);
    this.beside = new Int32Array(nodes).fill(-1);
    this.last = new Uint8Array(nodes);
    this.ending = new Int32Array(nodes).fill(-1);
  }

  /** Put in the token `id` with the bytes from `from` to `end`. */
  add(id: number, bytes: Uint8Array, from: number, end: number): void {
    const pair = end - from > 1 ? bytes[from]! * 256 + bytes[from + 1]! : -1;
    let at = pair < 0 ? 0 : this.afterTwo[pair]!;
    if (at === 0) {
      at = this.child(0, bytes[from]!);
      if (pair >= 0) this.afterTwo[pair] = at = this.child(at, bytes[from + 1]!);
    }
    for (let i = from + 2; i < end; i++) at = this.child(at, bytes[i]!);
    const first = this.ending[at]!;
    if (first < 0) this.ending[at] = id;
    else if (this.twins.get(first)?.push(id) === undefined) this.twins.set(first, [id]);
    this.longest = Math.max(this.longest, end - from);
  }

  private child(at: number, byte: number): number {
    const { below, beside, last } = this;
    let before = -1;
    for (let node = below[at]!; node >= 0; node = beside[node]!) {
      if (last[node] === byte) return node;
      before = node;
    }
    last[this.count] = byte;
    if (before < 0) below[at] = this.count;
    else beside[before] = this.count;
    return this.count++;
  }
}

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
    const { below, beside, last, ending, twins, count, longest } = this.grown();
    const nodes = count - 1;
    const bytes = new Uint8Array(nodes);
    const depths = new Uint16Array(nodes);
    const tokens = new Int32Array(nodes);
    const ends = new Int32Array(nodes);
    const path = new Int32Array(longest); // (depths) node of the tree as it grew
    const open = new Int32Array(longest); // (depths) the same node here
    let node = 0;
    let depth = 0;
    for (let at = below[0]!; at >= 0;) {
      bytes[node] = last[at]!;
      depths[node] = depth;
      tokens[node] = ending[at]!;
      path[depth] = at;
      open[depth] = node++;
      if (below[at]! >= 0) {
        at = below[at]!;
        depth++;
        continue;
      }
      ends[open[depth]!] = node;
      while (beside[at]! < 0 && depth > 0) {
        at = path[--depth]!;
        ends[open[depth]!] = node;
      }
      at = beside[at]!;
    }
    this.bytes = bytes;
    this.depths = depths;
    this.tokens = tokens;
    this.ends = ends;
    this.twins = twins;
    this.longest = longest;
    for (let root = 0; root < nodes; root = ends[root]!) this.roots[bytes[root]!] = root;
    this.singleBytes = this.roots.reduce(
      (bits, root, byte) => (root >= 0 && tokens[root]! >= 0 ? bits | (1n << BigInt(byte)) : bits),
      0n,
    );
  }

  private grown(): GrowingTree {
    const { tokenizer, named } = this;
    const { bytes, ends } = tokenizer.allTokenBytes();
    const names = [...named]
      .filter((id) => !tokenizer.isEndOfGeneration(id))
      .map((id) => ({ id, name: encodeUtf8(tokenizer.tokenText(id)) }));
    const tree = new GrowingTree(names.reduce((sum, { name }) => sum + name.length, 1 + (ends.at(-1) ?? 0)));
    for (let id = 0, from = 0; id < ends.length; from = ends[id++]!) {
      if (ends[id]! > from && !tokenizer.isEndOfGeneration(id)) tree.add(id, bytes, from, ends[id]!);
    }
    for (const { id, name } of names) tree.add(id, name, 0, name.length);
    return tree;
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
