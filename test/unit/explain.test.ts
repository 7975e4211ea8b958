/** Explanations against an independent computation: test/golden/models/make-explain-goldens.py, float64 numpy. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rollout, valueNorms, valueWeighted } from '../../plv8/src/explain/attention.ts';
import { capture, newMeanAttention } from '../../plv8/src/explain/capture.ts';
import { componentsOf } from '../../plv8/src/explain/components.ts';
import { lensOf } from '../../plv8/src/explain/lens.ts';
import { unitsOf } from '../../plv8/src/explain/units.ts';
import { readConfig } from '../../plv8/src/model/config.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { availableModels, modelPath } from '../golden/model-files.ts';
import { readGguf } from './gguf-source.ts';
import { goldenPath } from './golden-model.ts';

interface Golden {
  ids: number[];
  chosen: number;
  other: number;
  logit: number;
  components: [kind: string, layer: number, head: number, chosen: number, other: number][];
  lens: [rank: number, probability: number, top: number[]][];
  attention: number[][][];
  rollout: number[];
  value_weighted: number[];
}

const GOLDENS = JSON.parse(readFileSync(goldenPath('goldens', 'explanations.json'), 'utf8')) as Record<
  string,
  Golden[]
>;
/** Differences may be this much of the largest value compared. */
const RELATIVE = 1e-3;
/** A lens may take either of two tokens that are nearer than this in probability. */
const CLOSE_CALL = 1e-3;
const FOLDERS = ['tinystories-656k', 'stories260k', 'zoo'];

const poll = (): void => undefined;

const NAMES = Object.keys(GOLDENS).map((file) => {
  const folder = FOLDERS.find((each) => file.startsWith(each)) ?? 'zoo';
  return `${folder}/${file.replace('.gguf', '')}`;
});

function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  expect(actual.length, `${what}: how many`).toBe(expected.length);
  const scale = Array.from(expected).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const difference = Array.from(expected).reduce((most, x, i) => Math.max(most, Math.abs(x - actual[i]!)), 0);
  expect(difference / scale, what).toBeLessThan(RELATIVE);
}

describe.each(availableModels(NAMES))('%s', (name) => {
  const file = readGguf(modelPath(`${name}.gguf`));
  const config = readConfig(file.architecture, file.hyperparameters, file.source.tensors());
  const model = Model.load(config, file.source, { precision: 'f32', poll });

  it.each(GOLDENS[`${name.split('/')[1]}.gguf`]!.map((golden, i) => [i, golden] as const))(
    'explains prompt %i as numpy does',
    (_, golden) => {
      const n = golden.ids.length;
      const cache = model.newCache(n);
      const mean = newMeanAttention(model, n);
      const [captured] = capture(model, golden.ids, [n - 1], cache, mean, poll);
      const [apart] = componentsOf(model, [{ captured: captured!, ids: [golden.chosen, golden.other] }], poll);

      const key = (kind: string, layer: number, head: number): string => `${kind} ${layer} ${head}`;
      const found = new Map(apart!.components.map((one) => [key(one.kind, one.layer, one.head), one.shares]));
      expect(found.size).toBe(golden.components.length);
      for (const which of [0, 1]) {
        expectNear(
          golden.components.map(([kind, layer, head]) => found.get(key(kind, layer, head))?.[which] ?? NaN),
          golden.components.map((one) => one[which === 0 ? 3 : 4]),
          `components of ${which === 0 ? 'the chosen token' : 'the runner-up'}`,
        );
      }
      const sum = apart!.components.reduce((total, one) => total + one.shares[0]!, 0);
      expect(Math.abs(sum - apart!.logits[0]!) / Math.abs(sum)).toBeLessThan(1e-5);

      const lens = lensOf(model, captured!, golden.chosen, poll);
      expectNear(
        lens.map((row) => row.probability),
        golden.lens.map(([, probability]) => probability),
        'probabilities of the lens',
      );
      lens.forEach((row, i) => {
        const [rank, , top] = golden.lens[i]!;
        expect(Math.abs(row.rank - rank), `rank after layer ${row.layer}`).toBeLessThanOrEqual(row.rank > 5 ? 1 : 0);
        if (row.topProbabilities[0]! - row.topProbabilities[1]! > CLOSE_CALL) expect(row.topIds[0]).toBe(top[0]);
      });

      golden.attention.forEach((heads, layer) =>
        expectNear(captured!.weights[layer]!, heads.flat(), `attention of layer ${layer}`),
      );
      expectNear(rollout(mean!, n - 1), golden.rollout, 'rollout');
      const norms = valueNorms(model, cache, n, poll);
      const shares = valueWeighted(captured!.weights, n, norms, n);
      expectNear(shares, golden.value_weighted, 'norm-weighted attention');
      cache.free();
    },
  );
});

describe('parts of a prompt', () => {
  const prompt = [
    ...['<s>', 'user', '\n'].map((text) => ({ text, isControl: text === '<s>' })),
    ...['Go', ' ho', 'me', '.', ' Now', '!', '</s>', '\n'].map((text) => ({ text, isControl: text === '</s>' })),
  ];
  const text = (mode: 'words' | 'sentences' | 'tokens' | 'spans' | 'none'): string[] =>
    unitsOf(prompt, mode).map(({ from, to }) =>
      prompt
        .slice(from, to)
        .map((one) => one.text)
        .join(''),
    );

  it('are words, with the blanks behind them and without control tokens', () => {
    expect(text('words')).toEqual(['user\n', 'Go', ' home.', ' Now!']);
    expect(text('spans')).toEqual(text('words'));
  });

  it('are sentences', () => {
    expect(text('sentences')).toEqual(['user\n', 'Go home.', ' Now!']);
  });

  it('are all tokens, or none', () => {
    expect(text('tokens').length).toBe(prompt.length);
    expect(text('none')).toEqual([]);
  });

  it('are at most eight spans, which together are everything', () => {
    const long = Array.from({ length: 100 }, (_, i) => ({ text: ` word${i}`, isControl: false }));
    const spans = unitsOf(long, 'spans');
    expect(spans.length).toBe(8);
    expect(spans.map(({ from, to }) => to - from).every((tokens) => tokens >= 12 && tokens <= 13)).toBe(true);
    expect(spans.map(({ from }) => from).slice(1)).toEqual(spans.map(({ to }) => to).slice(0, -1));
    expect([spans[0]!.from, spans[7]!.to]).toEqual([0, 100]);
  });
});
