import { describe, expect, it } from 'vitest';
import { capture } from '../../../plv8/src/explain/capture.ts';
import { ablation } from '../../../plv8/src/model/ablation.ts';
import { readConfig } from '../../../plv8/src/model/config.ts';
import type { KvCache, Precision } from '../../../plv8/src/model/model.ts';
import { MAX_SEQUENCES, Model } from '../../../plv8/src/model/model.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';

const poll = () => undefined;

function loadModel(file: string, precision: Precision): Model {
  const { architecture, hyperparameters, source } = readGguf(goldenPath(`${file}.gguf`));
  return Model.load(readConfig(architecture, hyperparameters, source.tensors()), source, { precision, poll });
}

/** Ids of a sequence: `length` of them, another series for every seed. */
function idsOf(seed: number, length: number, vocabSize: number): number[] {
  let state = seed * 2654435761 + 1;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % vocabSize;
  });
}

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Logits after the prompt and after each of `steps` greedy tokens, computed alone. */
function alone(model: Model, prompt: number[], steps: number): number[][] {
  const cache = model.newCache(prompt.length + steps);
  const all = [Array.from(model.forward(prompt, cache, { poll }))];
  for (let i = 0; i < steps; i++) {
    all.push(Array.from(model.forward([argmax(Float32Array.from(all[i]!))], cache, { poll })));
  }
  cache.free();
  return all;
}

const MODELS: [file: string, precision: Precision][] = [
  ['llama-260k/llama-260k-f32', 'auto'],
  ['llama-260k/llama-260k-f16', 'q8'],
  ['llama-260k/llama-260k-q4_0', 'auto'],
  ['zoo/llama-untied-gqa-f32', 'auto'],
  ['zoo/llama32-ropefreqs-f32', 'q8'],
  ['zoo/qwen2-tiny-f32', 'auto'],
  ['zoo/qwen3-tiny-f32', 'auto'],
  ['zoo/phi3-tiny-f32', 'auto'],
  ['zoo/gemma2-tiny-f32', 'auto'],
  ['zoo/gemma3-tiny-f32', 'q8'],
  ['zoo/gpt2-tiny-f32', 'auto'],
  ['quants/qwen2-256-q8_0', 'auto'],
  ['quants/qwen2-256-q4_1', 'auto'],
  ['quants/qwen2-256-q4_k_m-mix', 'auto'],
  ['quants/qwen2-256-q6_k', 'auto'],
];

describe.each(MODELS)('a batch of %s with precision %s', (file, precision) => {
  const model = loadModel(file, precision);
  const { vocabSize } = model.config;

  it('gives every sequence the bits that it gets alone, prompts packed and then token by token', () => {
    const prompts = [1, 2, 31, 32, 33, 5, 40, 7, 64, 3].map((length, seed) => idsOf(seed + 1, length, vocabSize));
    const steps = 4;
    const expected = prompts.map((prompt) => alone(model, prompt, steps));
    for (const size of [1, 2, 3, 5, 8, prompts.length]) {
      const some = prompts.slice(0, size);
      const caches = some.map((prompt) => model.newCache(prompt.length + steps));
      let ids = some;
      for (let step = 0; step <= steps; step++) {
        const logits = model.forwardBatch(
          ids.map((each, i) => ({ ids: each, cache: caches[i]! })),
          { poll },
        );
        logits.forEach((each, i) => expect(Array.from(each), `${size}: ${i} at ${step}`).toEqual(expected[i]![step]));
        ids = logits.map((each) => [argmax(each)]);
      }
      for (const cache of caches) cache.free();
    }
  });

  it('gives the same bits when a new prompt joins sequences that go on', () => {
    const prompts = [20, 50].map((length, seed) => idsOf(seed + 40, length, vocabSize));
    const expected = prompts.map((prompt) => alone(model, prompt, 1));
    const caches = prompts.map(() => model.newCache(64));
    const first = argmax(model.forward(prompts[0]!, caches[0]!, { poll }));
    const [going, joining] = model.forwardBatch(
      [
        { ids: [first], cache: caches[0]! },
        { ids: prompts[1]!, cache: caches[1]! },
      ],
      { poll },
    );
    expect(Array.from(going!)).toEqual(expected[0]![1]);
    expect(Array.from(joining!)).toEqual(expected[1]![0]);
    for (const cache of caches) cache.free();
  });

  it('gives the same bits to sequences that share the beginning of one cache', () => {
    const beginning = idsOf(80, 45, vocabSize);
    const ends = [1, 30, 3, 40, 2].map((length, seed) => idsOf(seed + 81, length, vocabSize));
    const starts = [45, 40, 40, 33, 7];
    const cache = model.newCache(80);
    model.fill(beginning, cache, { poll });
    const logits = model.forwardBatch(
      ends.map((ids, i) => ({ ids, cache, start: starts[i]! })),
      { poll },
    );
    ends.forEach((ids, i) => {
      const whole = [...beginning.slice(0, starts[i]!), ...ids];
      expect(Array.from(logits[i]!), `${i}`).toEqual(alone(model, whole, 0)[0]);
      if (i === ends.length - 1) expect(cache.ids).toEqual(whole);
    });
    cache.free();
  });

  it('shows the logits after every token with forwardEach', () => {
    const prompts = [3, 1, 40, 17].map((length, seed) => idsOf(seed + 60, length, vocabSize));
    const caches = prompts.map(() => model.newCache(64));
    const seen = prompts.map((): number[][] => []);
    model.forwardEach(
      prompts.map((ids, i) => ({ ids, cache: caches[i]! })),
      { poll },
      (step, index, logits) => {
        expect(index).toBe(seen[step]!.length);
        seen[step]!.push(Array.from(logits));
      },
    );
    prompts.forEach((prompt, i) => {
      expect(seen[i]).toHaveLength(prompt.length);
      for (const length of new Set([1, Math.ceil(prompt.length / 2), prompt.length])) {
        expect(seen[i]![length - 1], `${i}: ${length} tokens`).toEqual(alone(model, prompt.slice(0, length), 0)[0]);
      }
      caches[i]!.free();
    });
  });
});

describe.each(MODELS)('tokens of %s with precision %s whose first layers are known', (file, precision) => {
  const model = loadModel(file, precision);
  const { vocabSize, nLayers, nHeads } = model.config;

  it('join with the bits that they have from the beginning, more of them than a chunk takes', () => {
    const ids = idsOf(90, 37, vocabSize);
    const last = ids.length - 1;
    const cache = model.newCache(ids.length);
    const { residuals } = capture(model, ids, [last], cache, null, poll)[0]!;
    const parts = Array.from({ length: 41 }, (_, i) => ({ layer: Math.floor((i * nLayers) / 41), head: i % nHeads }));
    const logitsOf = (joining: boolean): number[][] => {
      const seen: number[][] = [];
      const steps = parts.map(({ layer, head }, i) => ({
        ids: [ids[last]!],
        cache,
        start: last,
        intervention: ablation(model, {
          heads: i % 3 === 0 ? [] : [{ layer, head }],
          ffns: i % 3 === 0 ? [{ layer }] : [],
          neurons: [],
          by: 'zero',
          from: last,
        }),
        ...(joining ? { joins: { layer, stream: residuals[layer]! } } : {}),
      }));
      model.forwardEach(steps, { poll }, (step, _index, logits) => (seen[step] = Array.from(logits)));
      return seen;
    };
    const whole = logitsOf(false);
    expect(logitsOf(true)).toEqual(whole);
    expect(new Set(whole.map((logits) => logits.join())).size).toBeGreaterThan(nLayers);
    cache.free();
  });
});

describe('a cache', () => {
  const model = loadModel('llama-260k/llama-260k-q8_0', 'auto');
  const { vocabSize, contextLength } = model.config;
  const ids = idsOf(7, 100, vocabSize);
  const expected = alone(model, ids, 0)[0];

  it('takes memory as it grows, keeps its content and gives all of it back', () => {
    const before = model.memoryBytes;
    const other = model.newCache(contextLength);
    const cache = model.newCache(contextLength);
    let logits: Float32Array = new Float32Array(0);
    const sizes = new Set<number>();
    for (let at = 0; at < ids.length; at += 10) {
      logits = model.forward(ids.slice(at, at + 10), cache, { poll }).slice();
      model.forward(ids.slice(at, at + 10), other, { poll });
      sizes.add(cache.bytes);
    }
    expect(Array.from(logits)).toEqual(expected);
    expect(sizes.size).toBeGreaterThan(2);
    expect(cache.bytes).toBeLessThan(contextLength * 4 * 2 * model.config.nLayers * model.config.nKvHeads * 8);
    cache.free();
    other.free();
    expect(model.memoryBytes).toBe(before);
  });

  it('begins as a copy of another and goes on independently', () => {
    const source = model.newCache(contextLength);
    model.fill(ids.slice(0, 60), source, { poll });
    const copies = [10, 59, 60].map((length) => {
      const copy = model.newCache(contextLength);
      copy.copyFrom(source, length, poll);
      return copy;
    });
    const logits = model.forwardBatch(
      copies.map((cache) => ({ ids: ids.slice(cache.length), cache })),
      { poll },
    );
    for (const each of logits) expect(Array.from(each)).toEqual(expected);
    expect(Array.from(model.forward(ids.slice(60), source, { poll }))).toEqual(expected);
    for (const cache of [source, ...copies]) cache.free();
  });

  it('can be continued after a call that was cut off anywhere', () => {
    for (let stopAt = 1; stopAt < 40; stopAt += 3) {
      const cache = model.newCache(contextLength);
      let polls = 0;
      const cut = () => {
        if (++polls === stopAt) throw new Error('cut off');
      };
      expect(() => model.forward(ids, cache, { poll: cut })).toThrow('cut off');
      expect(cache.ids).toEqual(ids.slice(0, cache.length));
      expect(Array.from(model.forward(ids.slice(cache.length), cache, { poll }))).toEqual(expected);
      cache.free();
    }
  });

  it('asks its owner for room before it grows and lets others go when memory has run out', () => {
    const asked: number[] = [];
    const cache = model.newCache(contextLength, { makeRoom: (bytes) => void asked.push(bytes) });
    cache.reserve(40, poll);
    cache.reserve(50, poll);
    cache.reserve(200, poll);
    expect(asked).toHaveLength(2);
    expect(asked.reduce((a, b) => a + b)).toBe(cache.bytes);
    cache.free();
  });

  it('refuses a batch that is too large, that shares a cache or that goes over a limit', () => {
    const caches = Array.from({ length: MAX_SEQUENCES + 1 }, () => model.newCache(4));
    const step = (cache: KvCache, n: number) => ({ ids: ids.slice(0, n), cache });
    const run = (steps: { ids: number[]; cache: KvCache; start?: number }[]) => () =>
      model.forwardBatch(steps, { poll });
    expect(run(caches.map((cache) => step(cache, 1)))).toThrow('forward pass takes 16 sequences, 17 were given');
    expect(run([step(caches[0]!, 1), step(caches[0]!, 1)])).toThrow('share a key/value cache');
    expect(run([step(caches[0]!, 1), step(caches[1]!, 5)])).toThrow(
      'context holds 4 tokens, 0 are there and 5 more were given',
    );
    expect(run([step(caches[0]!, 0)])).toThrow('at least one token');
    expect(run([step(caches[0]!, 3), { ...step(caches[0]!, 1), start: 4 }])).toThrow(
      'sequence is to go on after 4 tokens, its cache holds 3',
    );
    expect(run([step(caches[0]!, 3), { ...step(caches[0]!, 3), start: 2 }])).toThrow(
      'context holds 4 tokens, 2 are there and 3 more were given',
    );
    const joins = (layer: number) => ({ layer, stream: new Float32Array(model.config.dim) });
    const joining = (n: number, layer: number) => ({ ...step(caches[0]!, n), start: 0, joins: joins(layer) });
    expect(run([joining(2, 1)])).toThrow('2 tokens join layer 1 after others at layer 0');
    expect(run([joining(1, 2), joining(1, 1)])).toThrow('1 tokens join layer 1 after others at layer 2');
    expect(caches.every((cache) => cache.length === 0)).toBe(true);
    for (const cache of caches) cache.free();
  });
});
