/** Explanations of ten models of seven architectures against Hugging Face transformers: make-explain-golden.py. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { capture } from '../../plv8/src/explain/capture.ts';
import { availableModels } from './available-models.ts';
import type { ExplanationGolden } from './explanation-agreement.ts';
import { expectExplanation, loadF32, modelName, poll } from './explanation-agreement.ts';

const { models: GOLDENS } = JSON.parse(readFileSync(new URL('explain-transformers.json', import.meta.url), 'utf8')) as {
  models: Record<string, ExplanationGolden[]>;
};

describe.each(availableModels(Object.keys(GOLDENS).map(modelName)))('%s', (name) => {
  it('is explained as transformers with hooks explains it', () => {
    const model = loadF32(name);
    const goldens = GOLDENS[`${name.split('/')[1]}.gguf`]!;
    const differences = goldens.map((golden) => {
      const n = golden.ids.length;
      const cache = model.newCache(n);
      const [captured] = capture(model, golden.ids, [n - 1], cache, null, poll);
      const found = expectExplanation(model, captured!, golden);
      cache.free();
      return found;
    });
    const worst = (['components', 'lens', 'attention'] as const).map(
      (kind) => `${kind} ${Math.max(...differences.map((each) => each[kind])).toExponential(1)}`,
    );
    console.log(`${name}: worst differences from transformers, of the largest value: ${worst.join(', ')}`);
    expect(differences.length).toBe(2);
  });
});
