/** The arithmetic of a layer apart from attention itself, over up to CHUNK_TOKENS tokens at a time. */
import { TILE_TARGET_BYTES } from '../format/tiles.ts';
import { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';
import type { Matrix } from './matrix.ts';
import { copyRow, multiplyIntegers } from './matrix.ts';
import { RopeTable } from './rope.ts';
import type { WeightSource } from './source.ts';
import type { LayerWeights, Norm, Precision, WeightPlan, Weights } from './weights.ts';
import { loadWeights, planWeights } from './weights.ts';
import type { WeightSegment } from './segment.ts';
import { loadShared } from './segment.ts';

/** Tokens that go through a layer together: one pass over its weights serves them all. */
export const CHUNK_TOKENS = 32;
/** Sequences whose last tokens' logits are computed together. */
export const MAX_SEQUENCES = 16;
/** Multiply-adds of one kernel call, at most; between calls the caller's poll runs. */
const OPS_PER_CALL = 32_000_000;
/** Tokens of several texts that an encoder takes together where its context is shorter. */
const MIN_ENCODER_TOKENS = 512;

export interface LoadOptions {
  precision: Precision;
  /** Where weights that backends share are found and published; without it they are this backend's own. */
  segment?: WeightSegment | null;
  /** Called every few milliseconds; throws to stop. */
  poll(): void;
  /** Called with the memory that the weights are about to fill, before it is touched. */
  prepareMemory?(view: Uint8Array): void;
}

/** Addresses of the activations of up to CHUNK_TOKENS tokens; (tokens, width) floats unless said otherwise. */
export interface Buffers {
  /** (streamTokens, dim) residual stream: CHUNK_TOKENS tokens of a decoder, all of an encoder */
  x: number;
  normed: number; // (tokens, dim)
  q: number; // (tokens, nHeads * headSize)
  /** (streamTokens, nKvHeads * headSize) of one layer; a decoder's go into the caches of their sequences */
  keys: number;
  values: number;
  attended: number; // (tokens, nHeads * headSize)
  projected: number; // (tokens, dim)
  gate: number; // (tokens, hiddenDim)
  up: number; // (tokens, hiddenDim)
  padded: number; // (tokens, widest row rounded up to 4): activations of matrices whose rows are padded
  quants: number; // (tokens, widest row) int16
  quantScales: number; // (tokens, widest row / 32)
  quantSums: number; // (tokens, widest row / 32) int32
  quantScaledSums: number; // (tokens, widest row / 32)
  scores: number; // (128 + 2 * nHeads): scores of a block of positions, and what is known of each head's so far
  lasts: number; // (sequences, dim) residual stream of each sequence's last token
  logits: number; // (sequences, vocabSize)
}

/** Tokens whose residual stream is held at once. */
export function streamTokens(config: ModelConfig): number {
  return config.architecture.kind === 'encoder' ? Math.max(config.contextLength, MIN_ENCODER_TOKENS) : CHUNK_TOKENS;
}

function bufferBytes(config: ModelConfig): Record<keyof Buffers, number> {
  const encoder = config.architecture.kind === 'encoder';
  const widest = Math.max(config.dim, config.hiddenDim, config.nHeads * config.headSize);
  const wide = Math.ceil(widest / 32) * 32;
  const kvBytes = streamTokens(config) * config.nKvHeads * config.headSize * 4;
  return {
    x: streamTokens(config) * config.dim * 4,
    normed: CHUNK_TOKENS * config.dim * 4,
    q: CHUNK_TOKENS * config.nHeads * config.headSize * 4,
    keys: kvBytes,
    values: kvBytes,
    attended: CHUNK_TOKENS * config.nHeads * config.headSize * 4,
    projected: CHUNK_TOKENS * config.dim * 4,
    gate: CHUNK_TOKENS * config.hiddenDim * 4,
    up: CHUNK_TOKENS * config.hiddenDim * 4,
    padded: CHUNK_TOKENS * wide * 4,
    quants: CHUNK_TOKENS * wide * 2,
    quantScales: (CHUNK_TOKENS * wide) / 8,
    quantSums: (CHUNK_TOKENS * wide) / 8,
    quantScaledSums: (CHUNK_TOKENS * wide) / 8,
    scores: (128 + 2 * config.nHeads) * 4,
    lasts: encoder ? 0 : MAX_SEQUENCES * config.dim * 4,
    logits: encoder ? 0 : MAX_SEQUENCES * config.vocabSize * 4,
  };
}

export class Layers {
  /** (nLayers) null where nothing is rotated */
  private readonly ropes: readonly (RopeTable | null)[];

  private constructor(
    readonly config: ModelConfig,
    /** How the matrices are held, as `q4_1, q8_0`. */
    readonly precision: string,
    readonly arena: Arena,
    readonly weights: Weights,
    readonly buffers: Buffers,
  ) {
    this.ropes = ropeTables(arena, config, weights, buffers);
  }

  /** Read every tile of the source into kernel layout. Throws naming the tensor or number that is wrong. */
  static load(config: ModelConfig, source: WeightSource, options: LoadOptions): Layers {
    const plan = planWeights(source.tensors(), options.precision, TILE_TARGET_BYTES);
    const sizes = Object.entries(bufferBytes(config));
    const sum = sizes.reduce((total, [, bytes]) => total + bytes + 16, 0);
    const others = sum + 2 * RopeTable.bytes(config);
    const { arena, weights } =
      loadShared(config, source, plan, others, options) ?? loadPrivate(config, source, plan, others, options);
    const buffers = Object.fromEntries(sizes.map(([name, bytes]) => [name, arena.allocate(bytes)]));
    const layers = new Layers(config, plan.precision, arena, weights, buffers as unknown as Buffers);
    arena.seal();
    return layers;
  }

  /** Embeddings of ids[from, from + tokens), which stand at positions from `position` on, at address x. */
  embed(ids: ArrayLike<number>, from: number, tokens: number, position: number, x: number): void {
    const { arena, config, weights } = this;
    const width = config.dim * 4;
    for (let t = 0; t < tokens; t++) copyRow(arena, weights.embedding, ids[from + t]!, x + t * width);
    if (config.embeddingScale !== 1) arena.kernels.scaleBy(x, tokens * config.dim, config.embeddingScale);
    for (let t = 0; t < tokens; t++) {
      this.addRow(weights.positions, position + t, x + t * width);
      this.addRow(weights.tokenTypes, 0, x + t * width);
    }
    this.normalise(x, weights.embeddingNorm, x, config.dim, tokens);
  }

  private addRow(matrix: Matrix | null, row: number, x: number): void {
    if (matrix === null) return;
    copyRow(this.arena, matrix, row, this.buffers.normed);
    this.arena.kernels.addInto(x, this.buffers.normed, this.config.dim);
  }

  /** What goes into a layer's attention: x (tokens, dim), normalised where the architecture does. */
  attentionInput(layer: LayerWeights, x: number, tokens: number): number {
    return this.normalise(x, layer.attentionInputNorm, this.buffers.normed, this.config.dim, tokens);
  }

  /** q (tokens, nHeads * headSize) of attention's input, with biases and head norms; not rotated. */
  queries(layer: LayerWeights, input: number, q: number, tokens: number, poll: () => void): void {
    this.multiply([layer.q], input, [q], tokens, poll);
    this.finishQueries(layer, q, tokens);
  }

  /** k and v (tokens, nKvHeads * headSize) of attention's input, with biases and head norms; not rotated. */
  keysValues(layer: LayerWeights, input: number, k: number, v: number, tokens: number, poll: () => void): void {
    this.multiply([layer.k, layer.v], input, [k, v], tokens, poll);
    this.finishKeysValues(layer, k, v, tokens);
  }

  /** `queries` and `keysValues` in one. */
  project(layer: LayerWeights, input: number, q: number, k: number, v: number, tokens: number, poll: () => void): void {
    this.multiply([layer.q, layer.k, layer.v], input, [q, k, v], tokens, poll);
    this.finishQueries(layer, q, tokens);
    this.finishKeysValues(layer, k, v, tokens);
  }

  private finishQueries(layer: LayerWeights, q: number, tokens: number): void {
    const { nHeads, headSize } = this.config;
    this.addBias(q, layer.qBias, nHeads * headSize, tokens);
    this.normalise(q, layer.qNorm, q, headSize, nHeads * tokens);
  }

  private finishKeysValues(layer: LayerWeights, k: number, v: number, tokens: number): void {
    const { nKvHeads, headSize } = this.config;
    this.addBias(k, layer.kBias, nKvHeads * headSize, tokens);
    this.addBias(v, layer.vBias, nKvHeads * headSize, tokens);
    this.normalise(k, layer.kNorm, k, headSize, nKvHeads * tokens);
  }

  /** Rotate `heads` heads at address x as of `position`, as layer `index` does. */
  rotate(index: number, x: number, heads: number, position: number): void {
    this.ropes[index]?.apply(x, heads, position);
  }

  /** What attention adds to the residual stream, from `attended` into `projected` (tokens, dim). */
  attentionOutput(layer: LayerWeights, tokens: number, poll: () => void): void {
    const { attended, projected } = this.buffers;
    const { dim } = this.config;
    this.multiply([layer.attnOut], attended, [projected], tokens, poll);
    this.addBias(projected, layer.attnOutBias, dim, tokens);
    this.normalise(projected, layer.attentionOutputNorm, projected, dim, tokens);
  }

  /** Add the feed-forward network's output to x (tokens, dim). */
  feedForward(layer: LayerWeights, x: number, tokens: number, poll: () => void): void {
    const { kernels } = this.arena;
    const { config, buffers } = this;
    const { gate, up } = buffers;
    const n = tokens * config.hiddenDim;
    const gelu = config.architecture.activation === 'gelu';
    const input = this.normalise(x, layer.feedForwardInputNorm, buffers.normed, config.dim, tokens);
    if (layer.gate === null) {
      this.multiply([layer.up], input, [gate], tokens, poll);
      this.addBias(gate, layer.upBias, config.hiddenDim, tokens);
      kernels.gelu(gate, n);
    } else {
      this.multiply([layer.gate, layer.up], input, [gate, up], tokens, poll);
      this.addBias(up, layer.upBias, config.hiddenDim, tokens);
      if (gelu) kernels.geluMultiply(gate, up, n);
      else kernels.siluMultiply(gate, up, n);
    }
    this.multiply([layer.down], gate, [buffers.projected], tokens, poll);
    this.addBias(buffers.projected, layer.downBias, config.dim, tokens);
    this.normalise(buffers.projected, layer.feedForwardOutputNorm, buffers.projected, config.dim, tokens);
    this.addToStream(x, layer.feedForwardSumNorm, tokens);
  }

  /** x += projected (tokens, dim), then the norm of the sum where there is one. */
  addToStream(x: number, sum: Norm | null, tokens: number): void {
    const { dim } = this.config;
    this.arena.kernels.addInto(x, this.buffers.projected, tokens * dim);
    this.normalise(x, sum, x, dim, tokens);
  }

  private addBias(x: number, bias: Matrix | null, n: number, tokens: number): void {
    if (bias !== null) this.arena.kernels.addBias(x, bias.weights, n, tokens);
  }

  /** out = norm of `rows` rows of `width` floats at x; where there is no norm, nothing. Returns where the result is. */
  normalise(x: number, norm: Norm | null, out: number, width: number, rows: number): number {
    if (norm === null) return x;
    const { kernels } = this.arena;
    const { weight, bias } = norm;
    if (bias === null) kernels.rmsNorm(x, weight.weights, out, width, rows, this.config.normEps);
    else kernels.layerNorm(x, weight.weights, bias.weights, out, width, rows, this.config.normEps);
    return out;
  }

  /** outs[i] (tokens, rows) = x (tokens, cols) times each matrix; the activations are prepared once for all of them. */
  multiply(matrices: Matrix[], x: number, outs: number[], tokens: number, poll: () => void): void {
    const { arena, buffers } = this;
    const { kernels } = arena;
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

interface Loaded {
  arena: Arena;
  weights: Weights;
}

function loadPrivate(
  config: ModelConfig,
  source: WeightSource,
  plan: WeightPlan,
  otherBytes: number,
  options: LoadOptions,
): Loaded {
  const arena = new Arena(plan.bytes + plan.stagingBytes + otherBytes);
  options.prepareMemory?.(arena.untouched(plan.bytes));
  return { arena, weights: loadWeights(arena, config, source, plan, options.poll).weights };
}

/** One table for all layers, or two where the windowed layers have a base of their own. */
function ropeTables(arena: Arena, config: ModelConfig, weights: Weights, buffers: Buffers): (RopeTable | null)[] {
  const { windows, windowRopeBase, ropeDims } = config;
  if (config.architecture.rope === null) return windows.map(() => null);
  const inFile = weights.ropeFactors;
  const factors = inFile === null ? config.ropeFactors : floatsOf(arena, inFile, buffers.padded, ropeDims / 2);
  const full = new RopeTable(arena, config, { base: config.ropeBase, scale: config.ropeScale, factors });
  if (windowRopeBase === null) return windows.map(() => full);
  const windowed = new RopeTable(arena, config, { base: windowRopeBase, scale: 1, factors: null });
  return windows.map((window) => (window === Infinity ? full : windowed));
}

/** The first n floats of a vector, by way of a scratch address: JavaScript has no view of shared weights. */
function floatsOf(arena: Arena, vector: Matrix, scratch: number, n: number): number[] {
  copyRow(arena, vector, 0, scratch);
  return Array.from(arena.f32.subarray(scratch / 4, scratch / 4 + n));
}
