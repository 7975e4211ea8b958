import type { AttentionWeights } from './attention-weights.ts';

/**
 * Looks into the forward pass of one sequence: what an explanation is made of. Every array is a view into the model's
 * memory, good during the call only; rows are the chunk's tokens, whose first has the cache's length as its position.
 */
export interface ForwardObserver {
  /** Residual stream (tokens, dim) before layer `layer`; `layer` is nLayers for what leaves the last one. */
  residual(layer: number, stream: Float32Array): void;
  /** Where the heads of layer `layer` look; `weights` is good during the call only. */
  weights(layer: number, weights: AttentionWeights): void;
  /**
   * Attention of layer `layer`: the heads' outputs before the output matrix (tokens, nHeads * headSize), and what is added to
   * the residual stream (tokens, dim).
   */
  attention(layer: number, heads: Float32Array, added: Float32Array): void;
}
