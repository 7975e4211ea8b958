/** How likely sequences are that begin alike, beside others who wait for their next tokens. */
import { afterAll, beforeEach, expect, it, vi } from 'vitest';
import { beginCall, releaseCache, takeCache } from '../../../plv8/src/backend/caches.ts';
import type { UsedModel } from '../../../plv8/src/backend/registry.ts';
import { scoreInPieces } from '../../../plv8/src/generate/score.ts';
import { SharedBeginning } from '../../../plv8/src/generate/shared-beginning.ts';
import { logTotal } from '../../../plv8/src/sampling/logits.ts';
import { loadF32, poll } from '../../golden/explanation-agreement.ts';

beforeEach(() => beginCall([model], MOST_BYTES));
afterAll(() => beginCall([model], 0));
vi.stubGlobal('plv8', { prepare: () => ({ execute: () => [] }) });
afterAll(() => vi.unstubAllGlobals());

const MOST_BYTES = 2 ** 28;
const CALLER = 'anna';
const model = loadF32('zoo/phi3-longrope-f32');
const original = model.config.originalContext!;
const layers = vi.spyOn(model as unknown as { runLayers(): void }, 'runLayers');

const idsOf = (length: number): number[] => Array.from({ length }, (_, at) => 3 + ((7 * at * at) % 500));
const used = {
  entry: { model, usage: { calls: 0, promptTokens: 0, reusedTokens: 0, cacheHits: 0 } },
} as unknown as UsedModel;

/** What pieces come to of which none takes more than one pass. */
function inPasses<Result>(pieces: Generator<unknown, Result>): Result {
  for (;;) {
    layers.mockClear();
    const { done, value } = pieces.next();
    expect(layers.mock.calls.length).toBeLessThanOrEqual(1);
    if (done === true) return value;
  }
}

/** The logarithm of the probability of the ids from `first` on, of which the first follows a sequence of its own. */
function logprobOf(ids: readonly number[], first: number): number {
  let sum = 0;
  const add = (id: number, logits: Float32Array): unknown => (sum += logits[id]! - logTotal(logits));
  const cache = model.newCache(ids.length);
  add(ids[first]!, model.forward(ids.slice(0, first), cache, { poll }));
  cache.free();
  const whole = model.newCache(ids.length);
  const read = ids.slice(0, -1);
  model.forwardEach([{ ids: read, cache: whole }], { poll }, (_step, index, logits) => {
    if (index >= first) add(ids[index + 1]!, logits);
  });
  whole.free();
  return sum;
}

/** Leave a cache of so many ids for the caller. */
function leave(ids: readonly number[]): void {
  const cache = takeCache({ model, caller: CALLER, ids, most: ids.length, expected: ids.length }, false);
  model.fill(ids, cache, { poll });
  releaseCache(cache);
}

it('labels by which a text outgrows the original context are read a pass at a time, too', () => {
  const text = idsOf(original - 3);
  const labels = [[5], [6, 7, 8, 9, 10], [11, 12], [13, 14, 15, 16, 17, 18, 19], [20, 21, 22, 23], [6, 8, 8]];
  const sequences = labels.map((label) => [...text, ...label]);
  const expected = sequences.map((ids) => logprobOf(ids, text.length));
  for (let round = 0; round < 2; round++) {
    const scored = inPasses(scoreInPieces(used, CALLER, sequences, { reuse: true, turn: 512 }));
    expect(scored.map(({ logprob }) => logprob)).toEqual(expected);
  }
});

it('what a longer text has left of what prompts begin with is computed again a pass at a time', () => {
  const begin = [...idsOf(original - 9), 8, 9, 10];
  const prompts = [
    [...begin, 5, 6],
    [...begin, 7],
  ];
  leave(idsOf(original + 10));
  const beginning = inPasses(SharedBeginning.read(model, CALLER, prompts, true));
  const wanted = { model, caller: CALLER, ids: prompts[0]!, most: begin.length, expected: original };
  const cache = beginning.cacheFor(wanted, true);
  const alone = model.newCache(original);
  const expected = model.forward(prompts[0]!, alone, { poll }).slice();
  expect(Array.from(model.forward(prompts[0]!.slice(cache.length), cache, { poll }))).toEqual(Array.from(expected));
  for (const each of [cache, alone]) each.free();
  beginning.close();
});
