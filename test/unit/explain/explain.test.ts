/** Explanations against an independent computation: test/golden/models/make-explain-goldens.py, float64 numpy. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rollout, valueWeighted } from '../../../plv8/src/explain/attention.ts';
import { capture, newMeanAttention } from '../../../plv8/src/explain/capture.ts';
import { halves, quarters, unitsOf } from '../../../plv8/src/explain/units.ts';
import { availableModels } from '../../golden/available-models.ts';
import type { ExplanationGolden } from '../../golden/explanation-agreement.ts';
import { expectExplanation, expectNear, loadF32, modelName, poll } from '../../golden/explanation-agreement.ts';
import { goldenPath } from '../golden-model.ts';

interface Golden extends ExplanationGolden {
  rollout: number[];
  value_weighted: number[];
}

const GOLDENS = JSON.parse(readFileSync(goldenPath('goldens', 'explanations.json'), 'utf8')) as Record<
  string,
  Golden[]
>;

describe.each(availableModels(Object.keys(GOLDENS).map(modelName)))('%s', (name) => {
  const model = loadF32(name);

  it.each(GOLDENS[`${name.split('/')[1]}.gguf`]!.map((golden, i) => [i, golden] as const))(
    'explains prompt %i as numpy does',
    (_, golden) => {
      const n = golden.ids.length;
      const cache = model.newCache(n);
      const mean = newMeanAttention(model, n);
      const [captured] = capture(model, golden.ids, [n - 1], cache, mean, poll);
      expectExplanation(model, captured!, golden);
      expectNear(rollout(mean!, n - 1), golden.rollout, 'rollout');
      const norms = model.valueNorms(cache, n, poll);
      const shares = valueWeighted(captured!.weights, n, norms, n);
      expectNear(shares, golden.value_weighted, 'norm-weighted attention');
      cache.free();
    },
  );
});

describe('parts of a prompt', () => {
  const prompt = [
    ...['<s>', 'user', '\n'].map((text) => ({ text, isLeftOut: true })),
    ...['Go', ' ho', 'me', '.', ' Now', '!', '</s>', '\n'].map((text) => ({ text, isLeftOut: text === '</s>' })),
  ];
  const text = (mode: 'words' | 'sentences' | 'tokens' | 'none'): string[] =>
    unitsOf(prompt, mode).map(({ from, to }) =>
      prompt
        .slice(from, to)
        .map((one) => one.text)
        .join(''),
    );

  it('are words, with the blanks behind them and without what the template wrote', () => {
    expect(text('words')).toEqual(['Go', ' home.', ' Now!']);
  });

  it('are sentences', () => {
    expect(text('sentences')).toEqual(['Go home.', ' Now!']);
  });

  it('are all tokens, or none', () => {
    expect(text('tokens').length).toBe(prompt.length);
    expect(text('none')).toEqual([]);
  });

  it('are cut into halves of which every word is in one', () => {
    const words = Array.from({ length: 101 }, (_, from) => ({ from, to: from + 1 }));
    const parts = quarters(words);
    expect(parts.map((part) => part.length)).toEqual([25, 25, 25, 26]);
    expect(parts.flat()).toEqual(words);
    expect(halves(words.slice(0, 2))).toEqual([[words[0]], [words[1]]]);
  });
});
