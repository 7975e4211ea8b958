/** Parts of the network left out, against float64 numpy: ablations.json, made by make-ablation-golden.py. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { distribution } from '../../plv8/src/explain/distribution.ts';
import { ablation } from '../../plv8/src/model/ablation.ts';
import { ablatedParts } from '../../plv8/src/sampling/ablate-option.ts';
import { availableModels } from './available-models.ts';
import { loadF32, modelName, poll } from './explanation-agreement.ts';

interface Golden {
  ids: number[];
  chosen: number;
  other: number;
  cases: [option: object, chosen: number, other: number][];
}

/** Log-probabilities may differ by this much. */
const TOLERANCE = 1e-3;

const GOLDENS = JSON.parse(readFileSync(new URL('ablations.json', import.meta.url), 'utf8')) as Record<string, Golden>;

test.each(availableModels(Object.keys(GOLDENS).map((name) => modelName(`${name}.gguf`))))(
  '%s with parts left out is what numpy computes',
  (name) => {
    const model = loadF32(name);
    const { ids, chosen, other, cases } = GOLDENS[name.split('/')[1]!]!;
    const newCache = () => model.newCache(ids.length);
    let worst = 0;
    for (const [option, ...expected] of cases) {
      const intervention = ablation(model, ablatedParts(option), { ids, newCache, poll });
      // In pieces too: where a prompt is cut changes nothing.
      for (const pieces of [[ids], [ids.slice(0, 7), ids.slice(7, 39), ids.slice(39)]]) {
        const cache = newCache();
        const logits = pieces.map((piece) => model.forward(piece, cache, { poll, intervention })).at(-1)!;
        [chosen, other].forEach((id, i) => {
          const difference = Math.abs(distribution(logits, id, 0).logprob - expected[i]!);
          worst = Math.max(worst, difference);
          expect(difference, JSON.stringify(option)).toBeLessThan(TOLERANCE);
        });
        cache.free();
      }
    }
    console.log(`${name}: ${cases.length} ablations within ${worst.toExponential(1)} nats of numpy's`);
    expect(cases.length).toBe(16);
  },
);
