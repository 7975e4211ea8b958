/** A loaded decoder: weights, buffers and the forward pass. */
import { raise, SQLSTATE } from '../errors.ts';
import { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';
import { KvCache } from './kv-cache.ts';
import type { Matrix } from './matrix.ts';
import { copyRow, multiplyIntegers } from './matrix.ts';
import type { ForwardObserver } from './observer.ts';
import { RopeTable } from './rope.ts';
import type { WeightSource } from './source.ts';
import type { LayerWeights, Precision, Weights } from './weights.ts';
import { loadWeights, planWeights } from './weights.ts';
import { TILE_TARGET_BYTES } from '../format/tiles.ts';

export type { KvCache } from './kv-cache.ts';
export type { Precision } from './weights.ts';

/** Prompt tokens that go through a layer together: one pass over its weights serves them all. */
const CHUNK_TOKENS = 32;
/** Multiply-adds of one kernel call, at most; between calls the caller's poll runs. */
const OPS_PER_CALL = 32_000_000;

export interface LoadOptions {
  precision: Precision;
  /** Called every few milliseconds; throws to stop. */
  poll(): void;
}

/** Addresses of the activations of up to CHUNK_TOKENS tokens; (tokens, width) floats unless said otherwise. */
interface Buffers {
  x: number; // (tokens, dim) residual stream
  normed: number; // (tokens, dim)
  q: number; // (tokens, nHeads * headSize)
  attended: number; // (tokens, nHeads * headSize)
  projected: number; // (tokens, dim)
  gate: number; // (tokens, hiddenDim)
  up: number; // (tokens, hiddenDim)
  padded: number; // (tokens, widest row rounded up to 4): activations of matrices whose rows are padded
  quants: number; // (tokens, widest row) int16
  quantScales: number; // (tokens, widest row / 32)
  quantSums: number; // (tokens, widest row / 32) int32
  quantScaledSums: number; // (tokens, widest row / 32)
  scores: number; // (contextLength)
  logits: number; // (vocabSize)
}

export class Model {
  private readonly caches = new Set<KvCache>();
  /** That of the running forward pass. */
  private observer: ForwardObserver | null = null;

  private constructor(
    readonly config: ModelConfig,
    /** How the matrices are held, as `q4_1, q8_0`. */
    readonly precision: string,
    private arena: Arena | null,
    readonly weights: Weights,
    private readonly rope: RopeTable,
    private readonly buffers: Buffers,
  ) {}

  /** Read every tile of the source into kernel layout. Throws naming the tensor or number that is wrong. */
  static load(config: ModelConfig, source: WeightSource, options: LoadOptions): Model {
    const plan = planWeights(source.tensors(), options.precision, TILE_TARGET_BYTES);
    const widest = Math.max(config.dim, config.hiddenDim, config.nHeads * config.headSize);
    const wide = Math.ceil(widest / 32) * 32;
    const sizes: Record<keyof Buffers, number> = {
      x: CHUNK_TOKENS * config.dim * 4,
      normed: CHUNK_TOKENS * config.dim * 4,
      q: CHUNK_TOKENS * config.nHeads * config.headSize * 4,
      attended: CHUNK_TOKENS * config.nHeads * config.headSize * 4,
      projected: CHUNK_TOKENS * config.dim * 4,
      gate: CHUNK_TOKENS * config.hiddenDim * 4,
      up: CHUNK_TOKENS * config.hiddenDim * 4,
      padded: CHUNK_TOKENS * wide * 4,
      quants: CHUNK_TOKENS * wide * 2,
      quantScales: (CHUNK_TOKENS * wide) / 8,
      quantSums: (CHUNK_TOKENS * wide) / 8,
      quantScaledSums: (CHUNK_TOKENS * wide) / 8,
      scores: config.contextLength * 4,
      logits: config.vocabSize * 4,
    };
    const bufferBytes = Object.values(sizes).reduce((sum, bytes) => sum + bytes + 16, 0);
    const arena = new Arena(plan.bytes + plan.stagingBytes + bufferBytes + RopeTable.bytes(config));
    const weights = loadWeights(arena, config, source, plan, options.poll);
    const rope = new RopeTable(arena, config, weights.ropeFactors);
    const buffers = Object.fromEntries(
      Object.entries(sizes).map(([name, bytes]) => [name, arena.allocate(bytes)]),
    ) as unknown as Buffers;
    return new Model(config, plan.precision, arena, weights, rope, buffers);
  }

  private get memory(): Arena {
    return this.arena ?? raise(SQLSTATE.internalError, 'model was used after it was unloaded');
  }

  /** WebAssembly bytes of weights, buffers and caches. */
  get memoryBytes(): number {
    return this.memory.usedBytes;
  }

  get cacheBytes(): number {
    let bytes = 0;
    for (const cache of this.caches) bytes += cache.bytes;
    return bytes;
  }

  /** An empty cache for `capacity` tokens. One call computes at a time, so every other cache is freed first. */
  newCache(capacity: number): KvCache {
    for (const cache of [...this.caches]) cache.free();
    const cache = new KvCache(this.memory, this.config, capacity, (freed) => this.caches.delete(freed));
    this.caches.add(cache);
    return cache;
  }

  free(): void {
    this.caches.clear();
    this.arena = null;
  }

  /**
   * Append ids to the cache. Returns the logits (vocabSize) after the last one, valid until the next call.
   * Throws when the cache is full or an id is not in the vocabulary. When `poll` throws, the cache keeps what was
   * complete before this call.
   */
  forward(ids: ArrayLike<number>, cache: KvCache, options: { poll(): void; observer?: ForwardObserver }): Float32Array {
    const { config } = this;
    this.observer = options.observer ?? null;
    if (ids.length === 0) raise(SQLSTATE.invalidParameterValue, 'forward pass needs at least one token');
    if (cache.length + ids.length > cache.capacity) {
      raise(
        SQLSTATE.programLimitExceeded,
        `context holds ${cache.capacity} tokens, ${cache.length} are there and ${ids.length} more were given`,
      );
    }
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (!Number.isInteger(id) || id < 0 || id >= config.vocabSize) {
        raise(SQLSTATE.invalidParameterValue, `token ${id} is outside the vocabulary of ${config.vocabSize}`);
      }
    }
    const before = cache.length;
    let done = 0;
    try {
      for (let from = 0; from < ids.length; from += CHUNK_TOKENS) {
        const tokens = Math.min(CHUNK_TOKENS, ids.length - from);
        this.layersOver(ids, from, tokens, cache, options.poll);
        for (let t = 0; t < tokens; t++) cache.ids.push(ids[from + t]!);
        done = tokens;
      }
    } catch (error) {
      cache.truncate(before);
      throw error;
    }
    return this.logitsOf(done - 1, options.poll);
  }

  /** Logits (vocabSize) that the final norm and the output matrix make of a residual stream (dim); valid until the next call. */
  unembed(stream: Float32Array, poll: () => void): Float32Array {
    this.memory.f32.set(stream, this.buffers.x / 4);
    return this.logitsOf(0, poll);
  }

  /** A row of a weight matrix as floats, copied to `out` (cols). */
  readRow(matrix: Matrix, index: number, out: Float32Array): void {
    copyRow(this.memory, matrix, index, this.buffers.padded);
    out.set(this.view(this.buffers.padded, matrix.cols));
  }

  /** Floats from an address on; valid until the memory grows. */
  view(at: number, n: number): Float32Array {
    return this.memory.f32.subarray(at / 4, at / 4 + n);
  }

  /** Run one chunk of tokens through every layer; the residual stream stays in buffers.x. */
  private layersOver(ids: ArrayLike<number>, from: number, tokens: number, cache: KvCache, poll: () => void): void {
    const arena = this.memory;
    const { config, buffers, weights } = this;
    for (let t = 0; t < tokens; t++) copyRow(arena, weights.embedding, ids[from + t]!, buffers.x + t * config.dim * 4);
    weights.layers.forEach((layer, index) => {
      this.observer?.residual(index, this.view(buffers.x, tokens * config.dim));
      this.attention(layer, index, tokens, cache, poll);
      this.feedForward(layer, tokens, poll);
    });
    this.observer?.residual(config.nLayers, this.view(buffers.x, tokens * config.dim));
  }

  private attention(layer: LayerWeights, index: number, tokens: number, cache: KvCache, poll: () => void): void {
    const arena = this.memory;
    const { kernels } = arena;
    const { config, buffers } = this;
    const qDim = config.nHeads * config.headSize;
    const kvDim = config.nKvHeads * config.headSize;
    const start = cache.length;
    const keys = cache.keysAt(index);
    const values = cache.valuesAt(index);
    const newKeys = keys + start * kvDim * 4;
    const newValues = values + start * kvDim * 4;

    kernels.rmsNorm(buffers.x, layer.attnNorm.weights, buffers.normed, config.dim, tokens, config.normEps);
    this.multiply([layer.q, layer.k, layer.v], buffers.normed, [buffers.q, newKeys, newValues], tokens, poll);
    if (layer.qBias !== null) kernels.addBias(buffers.q, layer.qBias.weights, qDim, tokens);
    if (layer.kBias !== null) kernels.addBias(newKeys, layer.kBias.weights, kvDim, tokens);
    if (layer.vBias !== null) kernels.addBias(newValues, layer.vBias.weights, kvDim, tokens);
    this.normHeads(buffers.q, layer.qNorm, config.nHeads * tokens);
    this.normHeads(newKeys, layer.kNorm, config.nKvHeads * tokens);
    const scale = 1 / Math.sqrt(config.headSize);
    for (let t = 0; t < tokens; t++) {
      this.rope.apply(buffers.q + t * qDim * 4, config.nHeads, start + t);
      this.rope.apply(newKeys + t * kvDim * 4, config.nKvHeads, start + t);
    }
    for (let t = 0; t < tokens; t++) {
      kernels.attention(
        buffers.q + t * qDim * 4,
        keys,
        values,
        buffers.attended + t * qDim * 4,
        buffers.scores,
        config.nHeads,
        config.nKvHeads,
        config.headSize,
        start + t + 1,
        kvDim * 4,
        scale,
      );
      poll();
    }
    this.multiply([layer.attnOut], buffers.attended, [buffers.projected], tokens, poll);
    this.observer?.attention(
      index,
      this.view(buffers.q, tokens * qDim),
      this.view(buffers.attended, tokens * qDim),
      this.view(buffers.projected, tokens * config.dim),
    );
    kernels.addInto(buffers.x, buffers.projected, tokens * config.dim);
  }

  /** Normalise `heads` heads (headSize) in place, where the architecture does. */
  private normHeads(x: number, norm: Matrix | null, heads: number): void {
    if (norm === null) return;
    this.memory.kernels.rmsNorm(x, norm.weights, x, this.config.headSize, heads, this.config.normEps);
  }

  private feedForward(layer: LayerWeights, tokens: number, poll: () => void): void {
    const { kernels } = this.memory;
    const { config, buffers } = this;
    kernels.rmsNorm(buffers.x, layer.ffnNorm.weights, buffers.normed, config.dim, tokens, config.normEps);
    this.multiply([layer.gate, layer.up], buffers.normed, [buffers.gate, buffers.up], tokens, poll);
    kernels.siluMultiply(buffers.gate, buffers.up, tokens * config.hiddenDim);
    this.multiply([layer.down], buffers.gate, [buffers.projected], tokens, poll);
    kernels.addInto(buffers.x, buffers.projected, tokens * config.dim);
  }

  /** Final norm and output matrix for token t of the last chunk. */
  private logitsOf(t: number, poll: () => void): Float32Array {
    const arena = this.memory;
    const { config, buffers, weights } = this;
    arena.kernels.rmsNorm(
      buffers.x + t * config.dim * 4,
      weights.norm.weights,
      buffers.normed,
      config.dim,
      1,
      config.normEps,
    );
    this.multiply([weights.output], buffers.normed, [buffers.logits], 1, poll);
    return arena.f32.subarray(buffers.logits / 4, buffers.logits / 4 + config.vocabSize);
  }

  /** outs[i] (tokens, rows) = x (tokens, cols) times each matrix; the activations are prepared once for all of them. */
  private multiply(matrices: Matrix[], x: number, outs: number[], tokens: number, poll: () => void): void {
    const arena = this.memory;
    const { kernels } = arena;
    const { buffers } = this;
    const activations = {
      quants: buffers.quants,
      scales: buffers.quantScales,
      sums: buffers.quantSums,
      scaledSums: buffers.quantScaledSums,
    };
    let quantized = false;
    matrices.forEach((matrix, i) => {
      const { cols, stride, rows } = matrix;
      const out = outs[i]!;
      const rowsPerCall = Math.max(8, Math.floor(OPS_PER_CALL / (cols * tokens)) & ~7);
      if (matrix.layout !== 'f32') {
        if (!quantized) {
          const { quants, scales, sums, scaledSums } = activations;
          kernels.quantizeActivations(x, quants, scales, sums, scaledSums, cols, tokens);
          quantized = true;
        }
        for (let r = 0; r < rows; r += rowsPerCall) {
          const count = Math.min(rowsPerCall, rows - r);
          multiplyIntegers(arena, matrix, r, count, activations, tokens, out + r * 4, rows * 4);
          poll();
        }
        return;
      }
      let from = x;
      if (stride !== cols) {
        from = buffers.padded;
        const floats = arena.f32;
        for (let t = 0; t < tokens; t++) {
          floats.copyWithin(from / 4 + t * stride, x / 4 + t * cols, x / 4 + (t + 1) * cols);
          floats.fill(0, from / 4 + t * stride + cols, from / 4 + (t + 1) * stride);
        }
      }
      for (let r = 0; r < rows; r += rowsPerCall) {
        kernels.matmulF32(
          matrix.weights + r * stride * 4,
          from,
          out + r * 4,
          Math.min(rowsPerCall, rows - r),
          stride,
          tokens,
          rows * 4,
        );
        poll();
      }
    });
  }
}
