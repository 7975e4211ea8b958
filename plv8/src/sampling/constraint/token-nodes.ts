/** The nodes of a vocabulary's trees. WebAssembly makes them: it happens once in a backend, when V8 has compiled nothing of this yet. */
import { instantiateTokenKernels, newMemory, PAGE_BYTES } from '../../kernels/load.ts';
import { raise, SQLSTATE } from '../../errors.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';

/** Tokens of some lengths as a tree: its nodes in depth-first order, without the root. */
export interface TokenNodes {
  /** (nodes) byte on the way to the node */
  readonly bytes: Uint8Array;
  /** (nodes) bytes before that one */
  readonly depths: Uint16Array;
  /** (nodes) the node after the last one below it */
  readonly ends: Int32Array;
  /** (nodes) token that ends here; -1 for none */
  readonly tokens: Int32Array;
  /** Bytes of the longest token that may stand in it. */
  readonly longest: number;
}

/** Tokens that are put in order without a group of their own, and the words of a group (kernels/assembly/token-trees.ts). */
const FEW = 16;
const GROUP_WORDS = 3;
/** Values of a byte, and the end of a text. */
const BUCKETS = 257;

/**
 * A tree for the tokens up to each of `reaches` bytes that are longer than those of the one before, and one for the rest;
 * further tokens with the bytes of a token are its twins. `named` are control tokens with the texts that they stand for.
 */
export function growTrees(
  tokenizer: Tokenizer,
  named: ReadonlyMap<number, Uint8Array>,
  reaches: readonly number[],
): { trees: TokenNodes[]; twins: Map<number, number[]> } {
  const { bytes, ends } = tokenizer.allTokenBytes();
  const count = ends.length;
  const size = ends.at(-1) ?? 0;
  const names = [...named.values()];
  const total = names.reduce((sum, name) => sum + name.length, size);

  let end = PAGE_BYTES;
  const place = (length: number): number => {
    const at = end;
    end += Math.ceil(length / 8) * 8;
    return at;
  };
  const words = (length: number): number => place(4 * length);
  const at = {
    bytes: place(total),
    starts: words(count),
    stops: words(count),
    order: words(count),
    room: words(count),
    counts: words(BUCKETS),
    groups: words(GROUP_WORDS * (count / FEW + 1)),
    open: words(total),
    path: place(total),
    depths: place(2 * total),
    ends: words(total),
    tokens: words(total),
    twins: words(1 + 2 * count),
  };
  const memory = memoryOf(end);
  const { buffer } = memory;
  const kernels = instantiateTokenKernels(memory);

  const texts = new Uint8Array(buffer, at.bytes, total);
  const starts = new Int32Array(buffer, at.starts, count);
  const stops = new Int32Array(buffer, at.stops, count);
  texts.set(bytes.subarray(0, size));
  starts.set(ends.subarray(0, -1), 1);
  stops.set(ends);
  let from = size;
  for (const [id, name] of named) {
    texts.set(name, from);
    starts[id] = from;
    stops[id] = from += name.length;
  }
  for (const id of tokenizer.endOfGeneration) stops[id] = starts[id]!;

  const longest = kernels.longestToken(at.starts, at.stops, count);
  const sorted = kernels.sortTokens(at.bytes, at.starts, at.stops, count, at.order, at.room, at.counts, at.groups);
  let shorter = 0;
  const trees = [...reaches.filter((reach) => reach < longest), longest].map((reach) => {
    // prettier-ignore
    const nodes = kernels.growTree(
      at.bytes, at.starts, at.stops, at.order, sorted, shorter, reach,
      at.open, at.path, at.depths, at.ends, at.tokens, at.twins,
    );
    shorter = reach;
    return {
      bytes: new Uint8Array(buffer, at.path, nodes).slice(),
      depths: new Uint16Array(buffer, at.depths, nodes).slice(),
      ends: new Int32Array(buffer, at.ends, nodes).slice(),
      tokens: new Int32Array(buffer, at.tokens, nodes).slice(),
      longest: reach,
    };
  });

  const twins = new Map<number, number[]>();
  const pairs = new Int32Array(buffer, at.twins, 1 + 2 * count);
  for (let i = 0; i < pairs[0]!; i++) {
    const [first, other] = [pairs[1 + 2 * i]!, pairs[2 + 2 * i]!];
    const others = twins.get(first);
    if (others === undefined) twins.set(first, [other]);
    else others.push(other);
  }
  return { trees, twins };
}

function memoryOf(bytes: number): ReturnType<typeof newMemory> {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  try {
    return newMemory(pages, pages);
  } catch (cause) {
    raise(SQLSTATE.outOfMemory, `could not allocate ${pages * PAGE_BYTES} bytes of WebAssembly memory`, { cause });
  }
}
