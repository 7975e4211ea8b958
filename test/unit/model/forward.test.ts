import { describe, expect, it } from 'vitest';
import { readConfig } from '../../../plv8/src/model/config.ts';
import type { Precision } from '../../../plv8/src/model/model.ts';
import { Model } from '../../../plv8/src/model/model.ts';
import { availableModels } from '../../golden/available-models.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath, readGolden } from '../golden-model.ts';

/** A greedy step with a smaller margin may go either way; what follows it then means nothing. */
const MARGIN_F32 = 0.002;
const MARGIN_QUANTISED = 0.05;
const LOGIT_TOLERANCE = 1e-3;
const LEAST_COSINE = 0.9999;

const poll = () => undefined;

function loadModel(folder: string, name: string, precision: Precision): Model {
  const file = readGguf(goldenPath(folder, `${name}.gguf`));
  const config = readConfig(file.architecture, file.hyperparameters, file.source.tensors());
  return Model.load(config, file.source, { precision, poll });
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
  return a.length === b.length ? largest : Infinity;
}

function cosine(a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return dot / Math.sqrt(aa * bb);
}

/** Greedy steps compared before the first one whose margin is below `margin`; throws on a wrong id. */
function compareGreedy(model: Model, name: string, margin: number): number {
  let compared = 0;
  for (const prompt of readGolden(name)) {
    const cache = model.newCache(prompt.ids.length + prompt.greedyIds.length);
    let logits = model.forward(prompt.ids, cache, { poll });
    for (let step = 0; step < prompt.greedyIds.length; step++) {
      if (prompt.greedyMargins[step]! < margin) break;
      const id = argmax(logits);
      expect(id, `${name}: greedy step ${step} after ${prompt.ids.length} prompt tokens`).toBe(prompt.greedyIds[step]);
      compared++;
      if (step + 1 < prompt.greedyIds.length) logits = model.forward([id], cache, { poll });
    }
    cache.free();
  }
  return compared;
}

const EXACT: [folder: string, name: string, precision: 'auto' | 'f32'][] = [
  ['stories260k', 'stories260k-f32', 'auto'],
  ['stories260k', 'stories260k-f16', 'f32'],
  ['stories260k', 'stories260k-q8_0', 'f32'],
  ['stories260k', 'stories260k-q4_0', 'f32'],
  ['tinystories-656k', 'tinystories-656k-f32', 'auto'],
  ['zoo', 'llama-untied-gqa-f32', 'auto'],
  ['zoo', 'llama32-ropefreqs-f32', 'auto'],
  ['zoo', 'qwen2-tiny-f32', 'auto'],
  ['quants', 'qwen2-tiny-f16', 'f32'],
  ['quants', 'qwen2-tiny-bf16', 'f32'],
  ['quants', 'qwen2-256-q4_1', 'f32'],
];

const QUANTISED: [folder: string, name: string][] = [
  ['stories260k', 'stories260k-q8_0'],
  ['stories260k', 'stories260k-q4_0'],
  ['quants', 'qwen2-256-q8_0'],
  ['quants', 'qwen2-256-q4_0'],
  ['quants', 'qwen2-256-q4_1'],
];

const here = new Set(
  availableModels([...new Set([...EXACT, ...QUANTISED].map(([folder, name]) => `${folder}/${name}`))]),
);
const isHere = ([folder, name]: readonly [folder: string, name: string, ...rest: unknown[]]): boolean =>
  here.has(`${folder}/${name}`);

describe('forward pass', () => {
  it.each(EXACT.filter(isHere))(
    '%s/%s with precision %s gives the logits and greedy ids of llama.cpp',
    (folder, name, precision) => {
      const model = loadModel(folder, name, precision);
      let compared = 0;
      for (const { ids, lastLogits } of readGolden(name)) {
        if (lastLogits === null) continue;
        const cache = model.newCache(ids.length);
        expect(largestDifference(model.forward(ids, cache, { poll }), lastLogits)).toBeLessThan(LOGIT_TOLERANCE);
        cache.free();
        compared++;
      }
      expect(compared).toBeGreaterThan(0);
      expect(compareGreedy(model, name, MARGIN_F32)).toBeGreaterThan(20);
      model.free();
    },
  );

  it.each(QUANTISED.filter(isHere))(
    '%s/%s computes on its own integers, close to the dequantised weights',
    (folder, name) => {
      const model = loadModel(folder, name, 'auto');
      let compared = 0;
      for (const { ids, lastLogits } of readGolden(name)) {
        if (lastLogits === null) continue;
        const cache = model.newCache(ids.length);
        expect(cosine(model.forward(ids, cache, { poll }), lastLogits)).toBeGreaterThan(LEAST_COSINE);
        cache.free();
        compared++;
      }
      expect(compared).toBeGreaterThan(0);
      expect(compareGreedy(model, name, MARGIN_QUANTISED)).toBeGreaterThan(20);
      model.free();
    },
  );

  it.each([
    ['llama-260k', 'llama-260k-f32'],
    ['llama-260k', 'llama-260k-q4_0'],
    ['quants', 'qwen2-256-q4_1'],
    ['quants', 'qwen2-256-q8_0'],
  ])('%s/%s gives the same bits however the prompt is cut', (folder, name) => {
    const model = loadModel(folder, name, 'auto');
    const ids = readGolden(folder === 'llama-260k' ? 'llama-untied-gqa-f32' : name)[3]!.ids;
    const whole = model.newCache(ids.length);
    const expected = Array.from(model.forward(ids, whole, { poll }));
    for (const step of [1, 2, 3, 5, 7, 33]) {
      const cache = model.newCache(ids.length);
      let logits = new Float32Array(0);
      for (let at = 0; at < ids.length; at += step)
        logits = Float32Array.from(model.forward(ids.slice(at, at + step), cache, { poll }));
      expect(Array.from(logits), `chunks of ${step}`).toEqual(expected);
      cache.free();
    }
    model.free();
  });

  it('continues from a truncated cache as if the rest had never been', () => {
    const model = loadModel('llama-260k', 'llama-260k-f32', 'auto');
    const ids = readGolden('llama-untied-gqa-f32')[3]!.ids;
    const cache = model.newCache(64);
    const expected = Array.from(model.forward(ids.slice(0, 10), cache, { poll }));
    cache.truncate(4);
    model.forward([7, 8, 9], cache, { poll });
    cache.truncate(4);
    expect(cache.ids).toEqual(ids.slice(0, 4));
    expect(Array.from(model.forward(ids.slice(4, 10), cache, { poll }))).toEqual(expected);
    model.free();
  });

  it('frees with a sweep every cache but those that are kept, and says so when one of them is used', () => {
    const model = loadModel('llama-260k', 'llama-260k-f32', 'auto');
    const kept = model.newCache(64);
    const ids = [1, 2, 3];
    const expected = Array.from(model.forward(ids, kept, { poll }));
    const bytes = model.memoryBytes;
    const left = Array.from({ length: 5 }, () => model.newCache(64));
    for (const cache of left) model.forward([4, 5], cache, { poll });
    left[2]!.free();
    expect(model.memoryBytes).toBeGreaterThan(bytes);
    model.sweep(new Set([kept]));
    expect(model.memoryBytes).toBe(bytes);
    expect(() => model.forward([4], left[0]!, { poll })).toThrow('key/value cache was used after it was freed');
    kept.truncate(2);
    expect(Array.from(model.forward([3], kept, { poll }))).toEqual(expected);
    model.free();
    expect(() => model.newCache(4)).toThrow('model was used after it was unloaded');
  });

  it('rounds float matrices to q8 when told to, and stays close', () => {
    const model = loadModel('zoo', 'llama-untied-gqa-f32', 'q8');
    const { ids, lastLogits } = readGolden('llama-untied-gqa-f32')[3]!;
    const similarity = cosine(model.forward(ids, model.newCache(ids.length), { poll }), lastLogits!);
    expect(similarity).toBeGreaterThan(0.999);
    expect(similarity).toBeLessThan(0.9999999);
    model.free();
  });

  it('refuses token ids outside the vocabulary and more tokens than the context holds', () => {
    const model = loadModel('llama-260k', 'llama-260k-f32', 'auto');
    const cache = model.newCache(4);
    for (const id of [-1, 512, 1.5, NaN]) expect(() => model.forward([id], cache, { poll })).toThrow(String(id));
    expect(cache.length).toBe(0);
    expect(() => model.forward([1, 2, 3, 4, 5], cache, { poll })).toThrow(/5|context/);
    expect(model.forward([1, 2, 3, 4], cache, { poll })).toHaveLength(512);
    model.free();
  });

  it('passes on what poll throws and answers the next call', () => {
    const model = loadModel('llama-260k', 'llama-260k-f32', 'auto');
    const ids = readGolden('llama-untied-gqa-f32')[3]!.ids;
    const expected = Array.from(model.forward(ids, model.newCache(ids.length), { poll }));
    const cache = model.newCache(ids.length);
    const cancel = () => {
      throw new Error('cancelled');
    };
    expect(() => model.forward(ids, cache, { poll: cancel })).toThrow('cancelled');
    cache.truncate(0);
    expect(Array.from(model.forward(ids, cache, { poll }))).toEqual(expected);
    model.free();
  });
});
