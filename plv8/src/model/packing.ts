/** Tokens of several sequences put side by side, so that one pass over the weights serves all of them. */
import { raise, SQLSTATE } from '../errors.ts';
import type { KvCache } from './kv-cache.ts';

/** Tokens to append to one sequence. */
export interface Step {
  ids: ArrayLike<number>;
  cache: KvCache;
}

/** Tokens of one step that go through the layers together with those of others. */
export interface Segment {
  /** Number of its step. */
  step: number;
  cache: KvCache;
  /** Index within the step of its first token. */
  from: number;
  /** Row within the chunk of its first token. */
  row: number;
  tokens: number;
}

export interface Chunk {
  /** Ids of all rows. */
  ids: number[];
  segments: Segment[];
}

/** Cut the steps' tokens, one step after the other, into chunks of at most `size` rows. */
export function packSteps(steps: readonly Step[], size: number): Chunk[] {
  const chunks: Chunk[] = [];
  let chunk: Chunk | null = null;
  steps.forEach(({ ids, cache }, step) => {
    for (let from = 0; from < ids.length;) {
      if (chunk === null || chunk.ids.length === size) {
        chunk = { ids: [], segments: [] };
        chunks.push(chunk);
      }
      const row = chunk.ids.length;
      const tokens = Math.min(size - row, ids.length - from);
      for (let t = 0; t < tokens; t++) chunk.ids.push(ids[from + t]!);
      chunk.segments.push({ step, cache, from, row, tokens });
      from += tokens;
    }
  });
  return chunks;
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

/** Throw where a step's ids cannot be computed with, go over its cache's limit, or two steps share a cache. */
export function checkSteps(steps: readonly Step[], vocabSize: number): void {
  const caches = new Set<KvCache>();
  for (const { ids, cache } of steps) {
    if (cache.length + ids.length > cache.limit) {
      raise(
        SQLSTATE.programLimitExceeded,
        `context holds ${cache.limit} tokens, ${cache.length} are there and ${ids.length} more were given`,
      );
    }
    checkIds(ids, vocabSize);
    if (caches.has(cache)) raise(SQLSTATE.internalError, 'two sequences of a batch share a key/value cache');
    caches.add(cache);
  }
}
