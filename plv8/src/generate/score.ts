/** How likely a model finds given texts, where they differ. */
import { poll } from '../db.ts';
import { branchCache, commonPrefix, forkCache, releaseCache, takeCache } from '../backend/caches.ts';
import { logTotal } from '../sampling/logits.ts';
import type { UsedModel } from '../backend/registry.ts';

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
 * evaluated once; `reuse` takes it from the caller's caches and leaves it there.
 */
export function scoreSequences(
  used: UsedModel,
  caller: string,
  sequences: readonly (readonly number[])[],
  reuse: boolean,
): Scored[] {
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
  try {
    const logits = model.forward(ids.slice(shared.length), shared, { poll });
    const tokenOf = (id: number, after: Float32Array, total: number): Scored['tokens'][number] => ({
      id,
      logit: after[id]!,
      logprob: after[id]! - total,
    });
    const total = logTotal(logits);
    const tokens = sequences.map((sequence) => [tokenOf(sequence[length]!, logits, total)]);
    const longer = [...sequences.keys()].filter((i) => sequences[i]!.length > length + 1);
    for (let at = 0; at < longer.length; at += TOGETHER) {
      const group = longer.slice(at, at + TOGETHER);
      const steps = group.map((i) => {
        const cache = branchCache(model, shared, length, sequences[i]!.length);
        return { ids: sequences[i]!.slice(length, -1), cache };
      });
      try {
        model.forwardEach(steps, { poll }, (step, index, after) => {
          const i = group[step]!;
          tokens[i]!.push(tokenOf(sequences[i]![length + index + 1]!, after, logTotal(after)));
        });
      } finally {
        for (const { cache } of steps) releaseCache(cache);
      }
    }
    return tokens.map((own) => ({ logprob: own.reduce((sum, { logprob }) => sum + logprob, 0), tokens: own }));
  } finally {
    releaseCache(shared);
  }
}
