/** Leave-one-out against llama.cpp: leave-one-out.json, made by make-leave-one-out-golden.mjs. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { distribution } from '../../plv8/src/explain/distribution.ts';
import { Deletions, leaveOneOut } from '../../plv8/src/explain/leave-one-out.ts';
import { readConfig } from '../../plv8/src/model/config.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { readGguf } from '../unit/gguf-source.ts';
import { availableModels } from './available-models.ts';
import { modelPath } from './model-files.ts';

interface Golden {
  name: string;
  ids: number[];
  first: number; // position of the first token that is left out
  chosen: number;
  logprob: number;
  without: number[];
}

/** Log-probabilities may differ by this much. */
const TOLERANCE = 1e-2;

const { models } = JSON.parse(readFileSync(new URL('leave-one-out.json', import.meta.url), 'utf8')) as {
  models: Golden[];
};
const poll = (): void => undefined;

const here = availableModels(models.map(({ name }) => name));

test.each(models.filter(({ name }) => here.includes(name)))(
  '$name without each token of the prompt',
  ({ name, ids, first, chosen, logprob, without }) => {
    const file = readGguf(modelPath(`${name}.gguf`));
    const config = readConfig(file.architecture, file.hyperparameters, file.source.tensors());
    const model = Model.load(config, file.source, { precision: 'f32', poll });
    const cache = model.newCache(ids.length);
    const whole = distribution(model.forward(ids, cache, { poll }), chosen, 0).logprob;
    const asked = [{ position: ids.length - 1, id: chosen }];
    const units = ids.slice(first).map((_, i) => ({ from: first + i, to: first + i + 1 }));
    const found = leaveOneOut(new Deletions(model, ids, cache, poll), units, asked).map((each) => each[0]!);
    expect(found.length).toBe(without.length);
    const worst = Math.max(Math.abs(whole - logprob), ...without.map((expected, i) => Math.abs(found[i]! - expected)));
    console.log(`${name}: ${found.length} deletions, largest difference ${worst.toExponential(1)}`);
    expect(worst).toBeLessThan(TOLERANCE);
  },
);
