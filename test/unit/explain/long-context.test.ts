/** Explanations of a run that outgrows the original context of LongRoPE, where all of its tokens begin to rotate otherwise. */
import { expect, it } from 'vitest';
import { capture, newMeanAttention } from '../../../plv8/src/explain/capture.ts';
import { explainSteps } from '../../../plv8/src/explain/explain.ts';
import type { RecordedRun, RunModel } from '../../../plv8/src/explain/recorded-run.ts';
import { parseOptions } from '../../../plv8/src/sampling/options.ts';
import { createTokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../golden/gguf-vocabulary.ts';
import { loadF32, poll } from '../../golden/explanation-agreement.ts';
import { goldenPath } from '../golden-model.ts';

const NAME = 'zoo/phi3-longrope-f32';
const model = loadF32(NAME);
const original = model.config.originalContext!;
const idsOf = (length: number): number[] => Array.from({ length }, (_, at) => 3 + ((7 * at * at) % 500));

/** Logits (vocabSize) after `ids` and nothing else. */
function logitsAfter(ids: readonly number[]): Float32Array {
  const cache = model.newCache(ids.length);
  const logits = model.forward(ids, cache, { poll }).slice();
  cache.free();
  return logits;
}

it('tokens before and after it are explained at once as each by itself', () => {
  const promptIds = idsOf(original - 3);
  const outputIds: number[] = [];
  const logits: number[] = [];
  for (let step = 0; step < 6; step++) {
    const after = logitsAfter([...promptIds, ...outputIds]);
    const best = after.reduce((most, logit, id) => (logit > after[most]! ? id : most), 0);
    outputIds.push(best);
    logits.push(after[best]!);
  }
  const run = {
    id: 1,
    promptIds,
    parts: null,
    outputIds,
    written: outputIds.length,
    doneReason: 'length',
    stops: [],
    logits,
    sampler: parseOptions({ temperature: 0, repeat_penalty: 1 }).sampler,
    constraint: null,
    labels: null,
  } as unknown as RecordedRun;
  const tokenizer = createTokenizer(readGgufVocabulary(goldenPath(`${NAME}.gguf`)));
  const used = { entry: { model }, tokenizer, loadNs: 0, buildId: null } as unknown as RunModel;
  const explained = (steps: number[]) => explainSteps(run, used, { steps, inputs: 'none', versus: null, poll });
  const alone = outputIds.flatMap((_, step) => explained([step]));
  const together = explained(outputIds.map((_, step) => step));
  together.forEach(({ token, inputs, components }, step) => {
    const own = alone[step]!;
    expect(token.summary).toBe(own.token.summary);
    expect(components).toEqual(own.components);
    const shares = (rows: typeof inputs) => rows.map(({ rollout }) => rollout);
    expect(shares(inputs)).toEqual(shares(own.inputs));
  });
});

it('what rotates anew is not shown to who looked at the pass before', () => {
  const ids = idsOf(original + 2);
  const grown = model.newCache(ids.length);
  model.fill(ids.slice(0, original), grown, { poll });
  capture(model, ids.slice(0, 8), [7], model.newCache(8), newMeanAttention(model, 8), poll);
  const logits = model.forward(ids.slice(original), grown, { poll }).slice();
  expect(logits).toEqual(logitsAfter(ids));
});
