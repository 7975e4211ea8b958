/** How likely a model finds given texts, where they differ. */
import { poll } from '../db.ts';
import { branchCache, commonPrefix, forkCache, releaseCache, takeCache } from '../backend/caches.ts';
import type { UsedModel } from '../backend/registry.ts';
import type { KvCache } from '../model/model.ts';
import { CHUNK_TOKENS } from '../model/model.ts';
import { piecesOf } from '../model/packing.ts';
import type { Pause } from '../model/pause.ts';
import { logTotal } from '../sampling/logits.ts';
import { readInPieces } from './read-in-pieces.ts';

/** Sequences that go together: each has a copy of what they share, and the kernels take tokens in fours. */
const TOGETHER = 4;

/** Number of leading ids that all sequences share, less than the length of any. */
export function sharedLength(sequences: readonly (readonly number[])[]): number {
  const first = sequences[0] ?? [];
  let length = Infinity;
  for (const ids of sequences) {
    length = commonPrefix(first, ids, Math.min(length, ids.length - 1));
  }
  return length === Infinity ? 0 : length;
}

export interface Scored {
  /** Natural logarithm of the probability of the ids after those that all sequences share. */
  logprob: number;
  /** Of each of these ids. */
  tokens: { id: number; logit: number; logprob: number }[];
}

/**
 * What each sequence's ids after those that all of them share, which must be at least one, are worth. What they share is
 * evaluated once; `reuse` takes it from the caller's caches and leaves it there. Anything else may be computed in the pauses,
 * of which one after about `turn` tokens is `between`.
 */
export function* scoreInPieces(
  used: UsedModel,
  caller: string,
  sequences: readonly (readonly number[])[],
  { reuse, turn }: { reuse: boolean; turn: number },
): Generator<Pause, Scored[]> {
  const { model } = used.entry;
  const length = sharedLength(sequences);
  const ids = sequences[0]!.slice(0, length);
  const wanted = { model, caller, ids, most: length - 1, expected: length };
  const shared = reuse ? takeCache(wanted, true) : forkCache(wanted, false);
  const { usage } = used.entry;
  usage.calls++;
  usage.promptTokens += length;
  usage.reusedTokens += shared.length;
  if (shared.length > 0) usage.cacheHits++;
  let read = length - shared.length; // since somebody else's turn
  try {
    const tokenOf = (id: number, after: Float32Array, total: number): Scored['tokens'][number] => ({
      id,
      logit: after[id]!,
      logprob: after[id]! - total,
    });
    let tokens: Scored['tokens'][] = [];
    yield* readInPieces(model, ids.slice(shared.length), shared, (logits) => {
      const total = logTotal(logits);
      tokens = sequences.map((sequence) => [tokenOf(sequence[length]!, logits, total)]);
    });
    const longer = [...sequences.keys()].filter((i) => sequences[i]!.length > length + 1);
    for (let at = 0; at < longer.length; at += TOGETHER) {
      if (read >= turn) {
        read = 0;
        yield 'between';
      }
      const group = longer.slice(at, at + TOGETHER);
      // One that all rotates by other factors is read from its beginning, or a single piece would compute that again.
      const starts = group.map((i) => (model.suits(shared, sequences[i]!.length - 1) ? length : 0));
      const unread = group.map((i, which) => sequences[i]!.slice(starts[which], -1));
      const caches: KvCache[] = [];
      try {
        for (const [which, i] of group.entries())
          caches.push(branchCache(model, starts[which] === 0 ? null : shared, starts[which]!, sequences[i]!.length));
        for (const pieces of piecesOf(unread, CHUNK_TOKENS)) {
          const steps = pieces.map(({ which, from, to }) => ({
            ids: unread[which]!.slice(from, to),
            cache: caches[which]!,
            whole: sequences[group[which]!]!.length - 1,
          }));
          const placeOf = (step: number, index: number): number => {
            const { which, from } = pieces[step]!;
            return starts[which]! + from + index;
          };
          const shown = steps.map(
            ({ ids }, step) => new Set([...ids.keys()].filter((index) => placeOf(step, index) >= length)),
          );
          model.forwardEach(steps, { poll, shown }, (step, index, after) => {
            const i = group[pieces[step]!.which]!;
            tokens[i]!.push(tokenOf(sequences[i]![placeOf(step, index) + 1]!, after, logTotal(after)));
          });
          yield 'within';
        }
      } finally {
        for (const cache of caches) releaseCache(cache);
      }
      read += unread.reduce((sum, ids) => sum + ids.length, 0);
    }
    return tokens.map((own) => ({ logprob: own.reduce((sum, { logprob }) => sum + logprob, 0), tokens: own }));
  } finally {
    releaseCache(shared);
  }
}
