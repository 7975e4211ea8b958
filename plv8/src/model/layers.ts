/** The arithmetic of a layer apart from attention itself, over up to chunkTokens tokens at a time. */
import type { Arena } from './arena.ts';
import type { Buffers } from './buffers.ts';
import type { Kernels } from '../kernels/load.ts';
import type { ModelConfig } from './config.ts';
import { multiplyExperts } from './experts.ts';
import type { KeyValuePlaces } from './kv-cache.ts';
import type { Matrix } from './matrix.ts';
import { copyRow, multiplyIntegers, multiplyTogether } from './matrix.ts';
import type { RopeTables } from './rope.ts';
import type { LayerWeights, Norm, Weights } from './weights.ts';

/** Multiply-adds of one kernel call, at most; between calls the caller's poll runs. */
const OPS_PER_CALL = 32_000_000;
/** The same of attention, whose floats take longer. */
export const ATTENTION_OPS_PER_CALL = 8_000_000;
/** More than any context. */
export const MOST_POSITIONS = 0x7fffffff;

/** What tokens attend to. */
export interface AttentionRange {
  tokens: number;
  /** Positions that the first token sees. */
  length: number;
  /** How many more each next one sees. */
  growth: 0 | 1;
  /** Of those, the last that it attends to; Infinity for all. */
  window: number;
  /** Whether keys and values are half floats. */
  halves: boolean;
}

/** Told of the stages of a feed-forward network, between which an intervention changes what is there. */
export interface FeedForwardStages {
  /** `gate` holds the activations (tokens, hiddenDim). */
  activated(): void;
  /** `projected` holds what is added to the residual stream (tokens, dim). */
  projected(): void;
}

/** The layers [first, end) of a model, which stand in one memory with what they compute with. */
export class Layers {
  constructor(
    readonly config: ModelConfig,
    readonly arena: Arena,
    /** Of the whole model. */
    readonly weights: Weights,
    readonly first: number,
    readonly end: number,
    readonly buffers: Buffers,
    private readonly ropes: RopeTables,
  ) {}

  /** Take over the residual stream of `tokens` tokens where other layers, in another memory, leave it. */
  takeStream(from: Layers, tokens: number): void {
    if (from === this) return;
    const at = from.buffers.x / 4;
    this.arena.f32.set(from.arena.f32.subarray(at, at + tokens * this.config.dim), this.buffers.x / 4);
  }

  /** Let a token join at a row with its residual stream (dim). */
  join(row: number, stream: Float32Array): void {
    this.arena.f32.set(stream, this.buffers.x / 4 + row * this.config.dim);
  }

  /** Embeddings of ids[from, from + tokens), which stand at positions from `position` on and are of a type, at address x. */
  embed(ids: ArrayLike<number>, from: number, tokens: number, position: number, x: number, type = 0): void {
    const { arena, config, weights } = this;
    const width = config.dim * 4;
    for (let t = 0; t < tokens; t++) copyRow(arena, weights.embedding, ids[from + t]!, x + t * width);
    if (config.embeddingScale !== 1) arena.kernels.scaleBy(x, tokens * config.dim, config.embeddingScale);
    for (let t = 0; t < tokens; t++) {
      this.addRow(weights.positions, position + t, x + t * width);
      this.addRow(weights.tokenTypes, Math.min(type, (weights.tokenTypes?.rows ?? 1) - 1), x + t * width);
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

  /**
   * Rotate x (tokens, heads, headSize) as layer `index` does, for tokens from `position` on; `far` in a sequence beyond the
   * original context.
   */
  rotate(index: number, x: number, heads: number, position: number, tokens: number, far = false): void {
    this.ropes[far ? 'far' : 'near'][index]?.apply(x, heads, position, tokens);
  }

  /**
   * Attention of `tokens` tokens at q, into `out`, over keys and values. The first token attends to
   * `length` positions or the last `window` of them, each next one to `growth` more.
   */
  attend(q: number, places: KeyValuePlaces, out: number, range: AttentionRange, poll: () => void): void {
    const { config, buffers, arena } = this;
    const { keys, values, shared, sharedKeys, sharedValues } = places;
    const { nHeads, nKvHeads, headSize } = config;
    const qBytes = nHeads * headSize * 4;
    let { length, tokens } = range;
    for (let t = 0; t < range.tokens; t += tokens) {
      const ops = 2 * nHeads * headSize * Math.min(length, range.window);
      tokens = Math.min(range.tokens - t, Math.max(1, Math.floor(ATTENTION_OPS_PER_CALL / ops)));
      const numbers: Parameters<Kernels['attention']> = [
        q + t * qBytes,
        keys,
        values,
        out + t * qBytes,
        buffers.scores,
        nHeads,
        nKvHeads,
        headSize,
        length,
        nKvHeads * headSize * (range.halves ? 2 : 4),
        config.attentionScale,
        config.attentionSoftcap,
        tokens,
        range.growth,
        Math.min(range.window, MOST_POSITIONS),
        range.halves ? 1 : 0,
      ];
      if (shared > 0) arena.kernels.attentionShared(...numbers, shared, sharedKeys, sharedValues);
      else arena.kernels.attention(...numbers);
      length += tokens * range.growth;
      poll();
    }
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
  feedForward(layer: LayerWeights, x: number, tokens: number, poll: () => void, stages?: FeedForwardStages): void {
    const { kernels } = this.arena;
    const { config, buffers } = this;
    const { gate, up } = buffers;
    const n = tokens * config.hiddenDim;
    const gelu = config.architecture.activation === 'gelu';
    const input = this.normalise(x, layer.feedForwardInputNorm, buffers.normed, config.dim, tokens);
    if (layer.up === null || layer.down === null) {
      multiplyExperts(this, layer.experts!, input, tokens, poll);
      this.addToStream(x, layer.feedForwardSumNorm, tokens);
      return;
    }
    if (layer.gate === null) {
      this.multiply([layer.up], input, [gate], tokens, poll);
      this.addBias(gate, layer.upBias, config.hiddenDim, tokens);
      kernels.gelu(gate, n);
    } else {
      this.multiply([layer.gate, layer.up], input, [gate, up], tokens, poll);
      this.addBias(gate, layer.gateBias, config.hiddenDim, tokens);
      this.addBias(up, layer.upBias, config.hiddenDim, tokens);
      if (gelu) kernels.geluMultiply(gate, up, n);
      else kernels.siluMultiply(gate, up, n);
    }
    stages?.activated();
    this.multiply([layer.down], gate, [buffers.projected], tokens, poll);
    this.addBias(buffers.projected, layer.downBias, config.dim, tokens);
    this.normalise(buffers.projected, layer.feedForwardOutputNorm, buffers.projected, config.dim, tokens);
    stages?.projected();
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
    const quantize = (cols: number): void => {
      const { quants, scales, sums, scaledSums } = activations;
      kernels.quantizeActivations(x, quants, scales, sums, scaledSums, cols, tokens);
    };
    const ops = matrices.reduce((sum, { rows, cols }) => sum + rows * cols * tokens, 0);
    const joint = kernels.matmulTogether !== undefined && matrices.length > 1 && ops <= OPS_PER_CALL;
    if (joint && matrices.every(({ layout }) => layout !== 'f32')) {
      quantize(matrices[0]!.cols);
      multiplyTogether(arena, matrices, activations, tokens, outs);
      return poll();
    }
    let quantized = false;
    matrices.forEach((matrix, i) => {
      const { cols, stride, rows } = matrix;
      const out = outs[i]!;
      const rowsPerCall = Math.max(8, Math.floor(OPS_PER_CALL / (cols * tokens)) & ~7);
      if (matrix.layout !== 'f32') {
        if (!quantized) quantize(cols);
        quantized = true;
        for (let r = 0; r < rows; r += rowsPerCall) {
          const count = Math.min(rowsPerCall, rows - r);
          multiplyIntegers(arena, matrix, r, count, activations, tokens, out + r * 4, rows * 4);
          poll();
        }
        return;
      }
      let from = x;
      if (stride !== cols) {
        from = buffers.scratch;
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
