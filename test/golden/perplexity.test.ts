/** Perplexity of a fixed text of 4,000 tokens against llama.cpp's on the same file. */
import { readFileSync } from 'node:fs';
import { setImmediate as otherWork } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { readConfig } from '../../plv8/src/model/config.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { readGguf } from '../unit/gguf-source.ts';
import { smollm2File } from './smollm2-file.ts';

/** llama.cpp rounds activations to 8 bits and keeps its own order of sums. */
const TOLERANCE = 0.005;

interface PerplexityGolden {
  sha256: string;
  window: number;
  perplexity: number;
  losses: number[];
  ids: number[];
}

/** -log of the probability of `id` (natural logarithm). */
function surprise(logits: Float32Array, id: number): number {
  let largest = -Infinity;
  for (const value of logits) if (value > largest) largest = value;
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - largest);
  return Math.log(sum) + largest - logits[id]!;
}

it("perplexity of SmolLM2 on a fixed text is within half a percent of llama.cpp's", async () => {
  const golden = JSON.parse(
    readFileSync(new URL('smollm2-perplexity.json', import.meta.url), 'utf8'),
  ) as PerplexityGolden;
  const { ids, window, losses } = golden;
  expect(ids).toHaveLength(4000);
  const { architecture, hyperparameters, source } = readGguf(smollm2File(golden.sha256));
  const config = readConfig(architecture, hyperparameters, source.tensors());
  const model = Model.load(config, source, { precision: 'auto', poll: () => undefined });
  const ours: number[] = [];
  for (const i of losses.keys()) {
    await otherWork(); // the test runner wants to hear from its worker
    const part = ids.slice(i * window, (i + 1) * window);
    const cache = model.newCache(window);
    let total = 0;
    model.forwardEach([{ ids: part, cache }], { poll: () => undefined }, (_step, index, logits) => {
      if (index + 1 < window) total += surprise(logits, part[index + 1]!);
    });
    cache.free();
    ours.push(total / (window - 1));
  }
  const perplexity = Math.exp(ours.reduce((sum, loss) => sum + loss, 0) / ours.length);
  console.log(`perplexity ${perplexity.toFixed(4)}, llama.cpp ${golden.perplexity.toFixed(4)}`);
  expect(Math.abs(perplexity / golden.perplexity - 1)).toBeLessThan(TOLERANCE);
}, 900_000);
