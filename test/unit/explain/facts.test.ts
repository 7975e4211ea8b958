/** What summaries say that the sampler did. */
import { expect, it } from 'vitest';
import { sampleAgain } from '../../../plv8/src/explain/candidates.ts';
import { samplerFacts } from '../../../plv8/src/explain/facts.ts';
import type { RecordedRun } from '../../../plv8/src/explain/recorded-run.ts';
import { parseOptions } from '../../../plv8/src/sampling/options.ts';
import type { Tokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';

const tokenizer = { vocabSize: 3, tokenText: (id: number) => 'abc'[id]! } as Tokenizer;

it.each([
  [
    'the bias that raised it, where a penalty lowered the other a little',
    { 2: 100 },
    { raised: true, from: 1, to: 101 },
  ],
  ['the penalty that lowered the other, where nothing raised it', {}, { raised: false, from: 8, to: 0.8 }],
])('the token came before a likelier one by %s', (_, bias, expected) => {
  const penalty = expected.raised ? 1.1 : 10;
  const { sampler } = parseOptions({ temperature: 0, repeat_penalty: penalty, logit_bias: bias });
  const logits = Float32Array.of(8, 0, 1);
  const sampled = sampleAgain(sampler, logits, [0], 0, 2, null);
  const run = { sampler, constraint: null } as unknown as RecordedRun;
  const { overtaken } = samplerFacts(run, tokenizer, sampled, logits, { chosen: 2, other: 0, versus: false });
  expect(sampled.reproduced).toBe(true);
  expect(overtaken).toMatchObject({ first: { token: 'a' }, raised: expected.raised, from: expected.from });
  expect(overtaken!.to).toBeCloseTo(expected.to, 5);
});
