/** The engine's explanation of a token against another program's: components, lens and attention. */
import { expect } from 'vitest';
import type { Captured } from '../../plv8/src/explain/capture.ts';
import { componentsOf } from '../../plv8/src/explain/components.ts';
import { lensOf } from '../../plv8/src/explain/lens.ts';
import { readConfig } from '../../plv8/src/model/config.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { readGguf } from '../unit/gguf-source.ts';
import { modelPath } from './model-files.ts';

/** Explanation of the most likely token after `ids`, with the components of the runner-up. */
export interface ExplanationGolden {
  ids: number[];
  chosen: number;
  other: number;
  components: [kind: string, layer: number, head: number, chosen: number, other: number][];
  /** From the embedding to the last layer; the five most likely tokens, best first. */
  lens: [rank: number, probability: number, top: number[], topProbabilities?: number[]][];
  /** (nLayers, nHeads, ids.length) weights at the last position. */
  attention: number[][][];
}

/** Largest difference by kind, as a part of the largest absolute value of that kind. */
export interface Differences {
  components: number;
  lens: number;
  attention: number;
}

/** Differences may be this much of the largest absolute value compared. */
const RELATIVE = 1e-3;

export const poll = (): void => undefined;

/** `zoo/qwen2-tiny-f32` of `qwen2-tiny-f32.gguf`. */
export function modelName(file: string): string {
  const folder = ['tinystories-656k', 'stories260k'].find((each) => file.startsWith(each)) ?? 'zoo';
  return `${folder}/${file.replace('.gguf', '')}`;
}

export function loadF32(name: string): Model {
  const file = readGguf(modelPath(`${name}.gguf`));
  const config = readConfig(file.architecture, file.hyperparameters, file.source.tensors());
  return Model.load(config, file.source, { precision: 'f32', poll });
}

/** Fails where they differ; the largest difference, as a part of the largest absolute value expected. */
export function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): number {
  expect(actual.length, `${what}: how many`).toBe(expected.length);
  const scale = Array.from(expected).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const difference = Array.from(expected).reduce((most, x, i) => Math.max(most, Math.abs(x - actual[i]!)), 0);
  expect(difference / scale, what).toBeLessThan(RELATIVE);
  return difference / scale;
}

/** Fails where the explanation of the position behind `golden.ids` differs from the golden's. */
export function expectExplanation(model: Model, captured: Captured, golden: ExplanationGolden): Differences {
  const [apart] = componentsOf(model, [{ captured, ids: [golden.chosen, golden.other] }], poll);
  const key = (kind: string, layer: number, head: number): string => `${kind} ${layer} ${head}`;
  const found = new Map(apart!.components.map((one) => [key(one.kind, one.layer, one.head), one.shares]));
  expect(found.size).toBe(golden.components.length);
  const components = [0, 1].map((which) =>
    expectNear(
      golden.components.map(([kind, layer, head]) => found.get(key(kind, layer, head))?.[which] ?? NaN),
      golden.components.map((one) => one[which === 0 ? 3 : 4]),
      `components of ${which === 0 ? 'the chosen token' : 'the runner-up'}`,
    ),
  );
  const sum = apart!.components.reduce((total, one) => total + one.shares[0]!, 0);
  expect(Math.abs(sum - apart!.logits[0]!) / Math.abs(sum)).toBeLessThan(1e-5);

  const rows = lensOf(model, captured, golden.chosen, poll);
  // In the goldens no two of the first six are nearer to one another than 0.2 % of their probability.
  expect(rows.map(({ rank, topIds }) => ({ rank, topIds }))).toEqual(
    golden.lens.map(([rank, , topIds]) => ({ rank, topIds })),
  );
  const lens = [
    expectNear(
      rows.map((row) => row.probability),
      golden.lens.map(([, probability]) => probability),
      'probabilities of the lens',
    ),
    ...golden.lens.map(([, , , top], i) =>
      top === undefined ? 0 : expectNear(rows[i]!.topProbabilities, top, `first five after layer ${i - 1}`),
    ),
  ];

  const attention = golden.attention.map((heads, layer) =>
    expectNear(captured.weights[layer]!, heads.flat(), `attention of layer ${layer}`),
  );
  return { components: Math.max(...components), lens: Math.max(...lens), attention: Math.max(...attention) };
}
