/** Tokens of several sequences put side by side, so that one pass over the weights serves all of them. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Intervention } from './intervention.ts';
import type { KvCache } from './kv-cache.ts';

/** Tokens to append to one sequence. */
export interface Step {
  ids: ArrayLike<number>;
  cache: KvCache;
  /**
   * Leading tokens of the cache that the ids follow; what stands behind them is forgotten. By default all of them. Steps
   * that name it may share a cache: each finds it as the one before has left it, so sequences that begin alike need no
   * copies of what they share, only an order in which nobody's beginning has been written over.
   */
  start?: number;
  /** Tokens of its sequence where more follow in later passes, since all of them rotate alike. By default these ids end it. */
  whole?: number;
  /** Changes what parts of the network write about these tokens; its cache then holds what no other sequence may go on with. */
  intervention?: Intervention | undefined;
  /**
   * For a step of one token whose first layers are known: it joins before layer `layer`, with the residual stream (dim) that
   * stands there. Steps that follow one another join in the order of their layers.
   */
  joins?: Joins;
}

/** Where a token joins the others of its pass. */
export interface Joins {
  layer: number;
  stream: Float32Array;
}

/** Tokens of one step that go through the layers together with those of others. */
export interface Segment {
  /** Number of its step. */
  step: number;
  cache: KvCache;
  /** Index within the step of its first token. */
  from: number;
  /** Position in the sequence of its first token. */
  position: number;
  /** Row within the chunk of its first token. */
  row: number;
  tokens: number;
  intervention?: Intervention | undefined;
  joins?: Joins | undefined;
}

export interface Chunk {
  /** Ids of all rows. */
  ids: number[];
  /** Those that join later stand later. */
  segments: Segment[];
}

/** What of a chunk takes part in a layer; null for what begins with its embeddings, before the first. */
export function takingPart(chunk: Chunk, layer: number | null): Chunk {
  const { ids, segments } = chunk;
  const count = segments.findIndex(({ joins }) => joins !== undefined && (layer === null || joins.layer > layer));
  return count < 0 ? chunk : { ids: ids.slice(0, segments[count]!.row), segments: segments.slice(0, count) };
}

/** Cut the steps' tokens, one step after the other, into chunks of at most `size` rows. */
export function packSteps(steps: readonly Step[], size: number): Chunk[] {
  const chunks: Chunk[] = [];
  let chunk: Chunk | null = null;
  steps.forEach(({ ids, cache, start = cache.length, intervention, joins }, step) => {
    for (let from = 0; from < ids.length;) {
      if (chunk === null || chunk.ids.length === size) {
        chunk = { ids: [], segments: [] };
        chunks.push(chunk);
      }
      const row = chunk.ids.length;
      const tokens = Math.min(size - row, ids.length - from);
      for (let t = 0; t < tokens; t++) chunk.ids.push(ids[from + t]!);
      chunk.segments.push({ step, cache, from, position: start + from, row, tokens, intervention, joins });
      from += tokens;
    }
  });
  return chunks;
}

/** Tokens [from, to) of one of several texts. */
export interface Piece {
  which: number;
  from: number;
  to: number;
}

/** Cut texts, one after the other, into pieces that have at most `size` tokens together. */
export function piecesOf(texts: readonly ArrayLike<number>[], size: number): Piece[][] {
  const all: Piece[][] = [];
  let left = 0;
  texts.forEach(({ length }, which) => {
    for (let from = 0; from < length;) {
      if (left === 0) {
        all.push([]);
        left = size;
      }
      const to = Math.min(length, from + left);
      all.at(-1)!.push({ which, from, to });
      left -= to - from;
      from = to;
    }
  });
  return all;
}

/** Throw where there is no id, or one outside the vocabulary. */
export function checkIds(ids: ArrayLike<number>, vocabSize: number): void {
  if (ids.length === 0) raise(SQLSTATE.invalidParameterValue, 'forward pass needs at least one token');
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      raise(SQLSTATE.invalidParameterValue, `token ${id} is outside the vocabulary of ${vocabSize}`);
    }
  }
}

/** Throw where a step's ids cannot be computed with, go over its cache's limit, or follow what is not there. */
export function checkSteps(steps: readonly Step[], vocabSize: number): void {
  const lengths = new Map<KvCache, number>();
  let layer = 0;
  for (const { ids, cache, start, joins } of steps) {
    const joining = joins?.layer ?? 0;
    if (joining < layer || (joins !== undefined && ids.length !== 1))
      raise(SQLSTATE.internalError, `${ids.length} tokens join layer ${joining} after others at layer ${layer}`);
    layer = joining;
    const before = lengths.get(cache);
    if (before !== undefined && start === undefined)
      raise(SQLSTATE.internalError, 'two sequences of a batch share a key/value cache');
    const there = before ?? cache.length;
    const kept = start ?? there;
    if (kept > there)
      raise(SQLSTATE.internalError, `sequence is to go on after ${kept} tokens, its cache holds ${there}`);
    if (kept + ids.length > cache.limit) {
      raise(
        SQLSTATE.programLimitExceeded,
        `context holds ${cache.limit} tokens, ${kept} are there and ${ids.length} more were given`,
      );
    }
    checkIds(ids, vocabSize);
    lengths.set(cache, kept + ids.length);
  }
}
