/** Models spread over several WebAssembly memories: the same bits as in one, and what is refused. */
import { describe, expect, it } from 'vitest';
import { capture, newMeanAttention } from '../../../plv8/src/explain/capture.ts';
import { ablation } from '../../../plv8/src/model/ablation.ts';
import { Arena, MAX_MEMORY_BYTES } from '../../../plv8/src/model/arena.ts';
import { TILE_TARGET_BYTES } from '../../../plv8/src/format/tiles.ts';
import { readConfig } from '../../../plv8/src/model/config.ts';
import {
  allocateMatrix,
  copyRow,
  fillMatrix,
  layoutOf,
  multiplyIntegers,
  rowByteLength,
  stagingBytes,
} from '../../../plv8/src/model/matrix.ts';
import type { MemoryPlan } from '../../../plv8/src/model/memories.ts';
import { planMemories } from '../../../plv8/src/model/memories.ts';
import type { TensorInfo } from '../../../plv8/src/model/source.ts';
import { planWeights } from '../../../plv8/src/model/weights.ts';
import type { KvCache, Model } from '../../../plv8/src/model/model.ts';
import { availableModels } from '../../golden/available-models.ts';
import { ZOO_DECODERS } from '../../golden/model-files.ts';
import { SpreadModel } from '../spread-model.ts';

const poll = (): void => undefined;

const FILES = availableModels([
  'llama-260k/llama-260k-f32',
  'llama-260k/llama-260k-q4_0',
  'tinystories-656k/tinystories-656k-f32',
  ...ZOO_DECODERS,
  'quants/qwen2-256-q8_0',
  'quants/qwen2-256-q4_1',
  'quants/qwen2-256-q4_k_m-mix',
  '../../../models/tiny/hartonomous-tiny-q8_0',
]);
/** A deterministic series of ids. */
function idsOf(seed: number, length: number, vocabSize: number): number[] {
  return Array.from({ length }, (_, i) => (Math.imul(seed * 1000 + i + 1, 2654435761) >>> 0) % vocabSize);
}

function argmax(logits: Float32Array): number {
  return logits.reduce((best, logit, i) => (logit > logits[best]! ? i : best), 0);
}

/** Bits of everything that a decoder computes for others, by what it is. */
function everything(model: Model): Record<string, unknown> {
  const { vocabSize, contextLength, dim } = model.config;
  const copy = (logits: Float32Array): Float32Array => logits.slice();
  const newCache = (): KvCache => model.newCache(contextLength);

  const prompt = idsOf(1, 70, vocabSize);
  const cache = newCache();
  const answer = [copy(model.forward(prompt, cache, { poll }))];
  for (let i = 0; i < 6; i++) answer.push(copy(model.forward([argmax(answer[i]!)], cache, { poll })));

  // A conversation that goes on in a cache, and one that goes on in a copy of its beginning.
  cache.truncate(40);
  const forked = newCache();
  forked.copyFrom(cache, 33, poll);
  const again = copy(model.forward(idsOf(2, 9, vocabSize), cache, { poll }));
  const fork = copy(model.forward(idsOf(3, 9, vocabSize), forked, { poll }));

  const prompts = [1, 33, 5, 40].map((length, i) => idsOf(10 + i, length, vocabSize));
  const caches = prompts.map(newCache);
  const steps = prompts.map((ids, i) => ({ ids, cache: caches[i]! }));
  const batch = model.forwardBatch(steps, { poll }).map(copy);
  const each: Float32Array[] = [];
  model.forwardEach(steps, { poll }, (_step, _index, logits) => void each.push(copy(logits)));

  const replayed = newCache();
  const mean = newMeanAttention(model, prompt.length);
  const captured = capture(model, prompt, [10, prompt.length - 1], replayed, mean, poll);

  // Tokens that join later, at the first layer of each memory among others.
  const last = prompt.length - 1;
  const { residuals } = captured[1]!;
  const joined: Float32Array[] = [];
  model.forwardEach(
    residuals.slice(0, -1).map((stream, layer) => {
      const heads = [{ layer, head: 0 }];
      const intervention = ablation(model, { heads, ffns: [], neurons: [], by: 'zero', from: last });
      return { ids: prompt.slice(-1), cache: replayed, start: last, intervention, joins: { layer, stream } };
    }),
    { poll },
    (_step, _index, logits) => void joined.push(copy(logits)),
  );

  const row = (index: number): Float32Array => {
    const out = new Float32Array(dim);
    model.readRow(model.weights.layers[index]!.q, 3, out);
    return out;
  };
  const hidden: Float32Array[] = [];
  model.hiddenStates(prompts, { poll }, (_text, _first, states) => void hidden.push(states.slice()));
  const result = {
    answer,
    again,
    fork,
    batch,
    each,
    captured,
    joined,
    mean,
    unembedded: copy(model.unembed(captured[1]!.residuals[1]!, poll)),
    rows: model.weights.layers.map((_, index) => row(index)),
    products: model.embeddingProducts(captured[0]!.residuals[0]!, poll),
    hidden,
  };
  model.sweep(new Set());
  return result;
}

describe.each(FILES)('%s', (name) => {
  const spread = new SpreadModel(name);
  const alone = spread.load();
  const expected = everything(alone);

  it.each(spread.limits())('gives the same bits in memories of at most %i bytes as in one', (limit) => {
    const model = spread.load(limit);
    expect(model.memories).toBe(spread.plan(limit).memories.length);
    expect(model.memories).toBeGreaterThan(1);
    const before = model.memoryBytes;
    const found = everything(model);
    for (const [what, bits] of Object.entries(expected)) expect(found[what], what).toEqual(bits);
    expect(model.memoryBytes).toBe(before);
    expect(before).toBeGreaterThan(alone.memoryBytes);
  });
});

describe('an encoder', () => {
  const spread = new SpreadModel('zoo/bert-tiny-f32');
  const texts = (model: Model): Float32Array[] => {
    const ids = Array.from({ length: 30 }, (_, i) => idsOf(i, 1 + 7 * i, model.config.vocabSize));
    const states: Float32Array[] = [];
    model.hiddenStates(ids, { poll }, (_text, _first, rows) => void states.push(rows.slice()));
    return states;
  };
  const expected = texts(spread.load());

  it.each(spread.limits())('gives the same bits in memories of at most %i bytes as in one', (limit) => {
    const model = spread.load(limit);
    expect(model.memories).toBeGreaterThan(1);
    expect(texts(model)).toEqual(expected);
  });
});

describe('addresses above 2 GiB', () => {
  const COLS = 256;
  const ROWS = 16;

  /** Rows and products of a matrix, and floats that went through an arena, where `below` bytes are taken already. */
  function use(below: number, type: string): { at: number; numbers: number[] } {
    const arena = new Arena(below + (1 << 20));
    arena.allocate(below);
    const info = { name: 'w', type, shape: [COLS, ROWS] };
    const matrix = allocateMatrix(arena, info, layoutOf(info, { floats: 'f32', integers: true }));
    const tile = Uint8Array.from({ length: rowByteLength(type, COLS) * ROWS }, (_, i) => (i * 37) & 0x2f);
    fillMatrix(arena, matrix, 0, tile, arena.allocate(stagingBytes(type, tile.length, COLS)));
    const row = arena.allocate(COLS * 4);
    copyRow(arena, matrix, ROWS - 1, row);
    const [quants, scales, sums, scaledSums] = [2 * COLS, COLS, COLS, COLS].map((bytes) => arena.allocate(bytes)) as [
      number,
      number,
      number,
      number,
    ];
    const out = arena.allocate(ROWS * 4);
    arena.kernels.quantizeActivations(row, quants, scales, sums, scaledSums, COLS, 1);
    if (matrix.layout === 'f32') arena.kernels.matmulF32(matrix.weights, row, out, ROWS, COLS, 1, ROWS * 4);
    else multiplyIntegers(arena, matrix, 0, ROWS, { quants, scales, sums, scaledSums }, 1, out, ROWS * 4);
    const floats = (at: number, n: number): number[] => [...arena.f32.subarray(at / 4, at / 4 + n)];
    return { at: matrix.weights, numbers: [...floats(row, COLS), ...floats(out, ROWS)] };
  }

  it.each(['F32', 'Q8_0', 'Q4_0', 'Q4_K', 'Q6_K'])('hold a matrix of %s as well as low ones', (type) => {
    const low = use(0, type);
    const high = use(3 * 1024 ** 3, type);
    expect(high.at).toBeGreaterThan(2 ** 31);
    expect(high.numbers).toEqual(low.numbers);
    expect(low.numbers.some((x) => x !== 0)).toBe(true);
  });
});

/** The memories of a llama in Q8_0 with eight heads of keys and values of 128, whose weights nobody has to write. */
function planLlama(
  nLayers: number,
  dim: number,
  hiddenDim: number,
  vocabSize: number,
): { memories: MemoryPlan[]; bytes: number; kvBytes: number } {
  const meta = {
    'llama.block_count': nLayers,
    'llama.context_length': 131_072,
    'llama.embedding_length': dim,
    'llama.feed_forward_length': hiddenDim,
    'llama.attention.head_count': dim / 128,
    'llama.attention.head_count_kv': 8,
    'llama.attention.layer_norm_rms_epsilon': 1e-5,
  };
  const matrix = (name: string, cols: number, rows: number): TensorInfo => ({
    name: `${name}.weight`,
    type: rows === 1 ? 'F32' : 'Q8_0',
    shape: [cols, rows],
  });
  const tensors = [
    matrix('token_embd', dim, vocabSize),
    matrix('output_norm', dim, 1),
    matrix('output', dim, vocabSize),
  ];
  for (let layer = 0; layer < nLayers; layer++) {
    for (const [role, cols, rows] of [
      ['attn_norm', dim, 1],
      ['attn_q', dim, dim],
      ['attn_k', dim, 1024],
      ['attn_v', dim, 1024],
      ['attn_output', dim, dim],
      ['ffn_norm', dim, 1],
      ['ffn_gate', dim, hiddenDim],
      ['ffn_up', dim, hiddenDim],
      ['ffn_down', hiddenDim, dim],
    ] as const)
      tensors.push(matrix(`blk.${layer}.${role}`, cols, rows));
  }
  const weights = planWeights(tensors, 'auto', TILE_TARGET_BYTES);
  const { memories } = planMemories('llama', readConfig('llama', meta, tensors), tensors, weights, MAX_MEMORY_BYTES);
  return { memories, bytes: weights.bytes, kvBytes: 2 * 2 * 8 * 128 };
}

describe('memories', () => {
  const spread = new SpreadModel('quants/qwen2-256-q8_0');

  it('are as few as hold the model, each with a run of layers, and about as large', () => {
    const counts = spread.limits().map((limit) => spread.plan(limit).memories.length);
    expect(counts).toEqual([...new Set(counts)].sort().reverse());
    expect(counts.at(-1)).toBe(2);
    for (const limit of spread.limits()) {
      const { memories } = spread.plan(limit);
      expect(memories.filter(({ output }) => output)).toHaveLength(1);
      expect(memories[0]!.first).toBe(0);
      memories.slice(1).forEach(({ first }, before) => expect(first).toBe(memories[before]!.end));
      // A limit that nothing needs changes nothing.
      expect(spread.plan(limit + 1).memories).toEqual(memories);
    }
  });

  it('are one without a limit', () => {
    expect(spread.plan(MAX_MEMORY_BYTES).memories).toHaveLength(1);
    expect(spread.load().memories).toBe(1);
  });

  it('have room for 32,768 tokens of context beside the weights of a model of 8 or 70 billion parameters', () => {
    for (const [layers, dim, hiddenDim, least] of [
      [32, 4096, 14_336, 4],
      [80, 8192, 28_672, 21],
    ] as const) {
      const { memories, bytes, kvBytes } = planLlama(layers, dim, hiddenDim, 128_256);
      expect(memories).toHaveLength(least);
      expect(memories.reduce((sum, { weightBytes }) => sum + weightBytes, 0)).toBeLessThan(bytes * 1.001);
      for (const { first, end, weightBytes, otherBytes } of memories)
        expect(weightBytes + otherBytes + (end - first) * kvBytes * 32_768).toBeLessThan(MAX_MEMORY_BYTES);
    }
  });

  it('of 4 GiB hold no larger matrix', () => {
    expect(() => planLlama(2, 65_536, 65_536, 1024)).toThrow(
      /^model llama needs \d{11} bytes of WebAssembly memory for layer 0, one memory holds 4294901760$/,
    );
    expect(() => planLlama(2, 4096, 4096, 4_000_000)).toThrow(
      /^model llama needs \d{11} bytes of WebAssembly memory for its embedding/,
    );
  });

  it('that a layer does not fit are refused by the name of the model, with both sizes, before any is made', () => {
    const limit = spread.limits()[0]!;
    const half = Math.floor(limit / 2);
    expect(() => spread.load(half)).toThrow(
      /^model quants\/qwen2-256-q8_0 needs \d{7} bytes of WebAssembly memory for \S+ \S+( matrix)?, one memory holds \d{6,7}$/,
    );
    expect(() => spread.load(half)).toThrow(`one memory holds ${half}`);
  });

  it('are freed of the caches of a sequence together, and say what is lacking when one of them is full', () => {
    const model = spread.load(spread.limits()[0]);
    const before = model.memoryBytes;
    const caches: KvCache[] = [];
    let evicted = 0;
    const fill = (hooks: { evictOne?(): boolean }) => (): void => {
      for (let i = 0; i < 1000; i++) {
        const cache = model.newCache(model.config.contextLength, hooks);
        caches.push(cache);
        cache.reserve(model.config.contextLength, poll);
      }
    };
    expect(fill({})).toThrow(
      /^context of \d+ tokens needs \d+ bytes more for layer \d, \d{7} of the \d{7} of its WebAssembly memory are taken$/,
    );
    const fit = caches.length - 1;
    expect(fit).toBeGreaterThan(0);
    model.sweep(new Set());
    expect(model.memoryBytes).toBe(before);
    caches.length = 0;
    const evictOne = (): boolean => {
      const oldest = caches.find((cache) => !cache.isFreed);
      oldest?.free();
      return ++evicted < 3 && oldest !== undefined;
    };
    expect(fill({ evictOne })).toThrow('of its WebAssembly memory are taken');
    expect(evicted).toBe(3);
    expect(caches.length).toBeGreaterThan(fit);
    model.sweep(new Set());
    expect(model.memoryBytes).toBe(before);
  });
});
