/** One forward pass over a sequence, with what went on at the positions to be explained kept. */
import type { KvCache, Model } from '../model/model.ts';
import type { MeanAttention } from './attention.ts';
import { meanRow } from './attention.ts';

/** What the forward pass did at one position. */
export interface Captured {
  /** Its place in the sequence; the token explained is the one after it. */
  readonly position: number;
  /** (nLayers + 1) residual streams (dim): before each layer, and after the last. */
  readonly residuals: Float32Array[];
  /** (nLayers) what attention added to the residual stream (dim). */
  readonly added: Float32Array[];
  /** (nLayers) outputs of the heads (nHeads * headSize). */
  readonly heads: Float32Array[];
  /** (nLayers) attention weights of the heads (nHeads, position + 1). */
  readonly weights: Float32Array[];
}

/** Floats that the averaged attention of a sequence may take: 64 MB of the 256 MB that PL/V8 allows by default. */
const MAX_MEAN_FLOATS = 16 * 1024 * 1024;

/** Room for the averaged attention of a sequence; null where it would be too long. */
export function newMeanAttention(model: Model, length: number): MeanAttention | null {
  const { nLayers } = model.config;
  const triangle = (length * (length + 1)) / 2;
  if (triangle * nLayers > MAX_MEAN_FLOATS) return null;
  return Array.from({ length: nLayers }, () => new Float32Array(triangle));
}

/**
 * Append `ids` to the cache and keep what happens at `positions` (ascending, among the appended ones). Where `mean` is
 * given, the averaged attention of every appended position is written into it.
 */
export function capture(
  model: Model,
  ids: readonly number[],
  positions: readonly number[],
  cache: KvCache,
  mean: MeanAttention | null,
  poll: () => void,
): Captured[] {
  const { dim } = model.config;
  const captured = positions.map((position): Captured => ({
    position,
    residuals: [],
    added: [],
    heads: [],
    weights: [],
  }));
  const row = (rows: Float32Array, at: number, width: number): Float32Array => rows.slice(at * width, (at + 1) * width);
  /** Call `visit` with what is captured among `tokens` tokens of a chunk, and which of them it is. */
  const within = (tokens: number, visit: (one: Captured, at: number) => void): void => {
    for (const one of captured) {
      const at = one.position - cache.length;
      if (at >= 0 && at < tokens) visit(one, at);
    }
  };
  model.forward(ids, cache, {
    poll,
    observer: {
      residual(_layer, stream) {
        within(stream.length / dim, (one, at) => one.residuals.push(row(stream, at, dim)));
      },
      weights(layer, weights) {
        within(weights.tokens, (one, at) => one.weights.push(weights.of(at)));
        if (mean === null) return;
        weights.averaged((at, averaged) => meanRow(mean[layer]!, cache.length + at).set(averaged));
      },
      attention(_layer, heads, added) {
        const tokens = added.length / dim;
        within(tokens, (one, at) => {
          one.heads.push(row(heads, at, heads.length / tokens));
          one.added.push(row(added, at, dim));
        });
      },
    },
  });
  return captured;
}
