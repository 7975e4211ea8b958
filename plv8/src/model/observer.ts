/**
 * Looks into the forward pass of one sequence: what an explanation is made of. Every array is a view into the model's
 * memory, good during the call only; rows are the chunk's tokens, whose first has the cache's length as its position.
 */
export interface ForwardObserver {
  /** Residual stream (tokens, dim) before layer `layer`; `layer` is nLayers for what leaves the last one. */
  residual(layer: number, stream: Float32Array): void;
  /**
   * Attention of layer `layer`: queries as they meet the keys (tokens, nHeads * headSize), the heads' outputs before the
   * output matrix (tokens, nHeads * headSize), and what is added to the residual stream (tokens, dim).
   */
  attention(layer: number, queries: Float32Array, heads: Float32Array, added: Float32Array): void;
}
