/** Ids that a sequence goes on with, in pieces as large as a pass. */
import { poll } from '../db.ts';
import type { KvCache, Model } from '../model/model.ts';
import { CHUNK_TOKENS } from '../model/model.ts';
import type { Pause } from '../model/pause.ts';

const NONE: ReadonlySet<number> = new Set();

/** Append ids to a cache, with pauses in which anything else may be computed; `see` sees the logits (vocabSize) after the last one. */
export function* readInPieces(
  model: Model,
  ids: readonly number[],
  cache: KvCache,
  see: ((logits: Float32Array) => void) | null = null,
): Generator<Pause> {
  const whole = cache.length + ids.length;
  let left = ids;
  if (ids.length > 0 && !model.suits(cache, whole)) {
    left = [...cache.ids, ...ids]; // else the first pass would compute all that the cache holds again
    cache.truncate(0);
  }
  for (let from = 0; from < left.length; from += CHUNK_TOKENS) {
    const piece = left.slice(from, from + CHUNK_TOKENS);
    const isLast = from + piece.length === left.length;
    const shown = [isLast && see !== null ? new Set([piece.length - 1]) : NONE];
    model.forwardEach([{ ids: piece, cache, whole }], { poll, shown }, (_step, _index, logits) => see?.(logits));
    yield 'within';
  }
}
