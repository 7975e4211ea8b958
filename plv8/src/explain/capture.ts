/** One forward pass over a sequence, with what went on at the positions to be explained kept. */
import type { KvCache, Model } from '../model/model.ts';
import type { MeanAttention } from './attention.ts';
import { attentionWeights, meanRow } from './attention.ts';

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
  model.forward(ids, cache, {
    poll,
    observer: {
      residual(_layer, stream) {
        const tokens = stream.length / dim;
        for (const one of captured) {
          const at = one.position - cache.length;
          if (at >= 0 && at < tokens) one.residuals.push(row(stream, at, dim));
        }
      },
      attention(layer, queries, heads, added) {
        const tokens = added.length / dim;
        const qDim = queries.length / tokens;
        const inChunk = ({ position }: Captured): boolean =>
          position >= cache.length && position < cache.length + tokens;
        // Half floats are copied out: only where somebody looks at them.
        if (mean === null && !captured.some(inChunk)) return;
        const keys = cache.keys(layer, cache.length + tokens);
        for (const one of captured) {
          if (!inChunk(one)) continue;
          const at = one.position - cache.length;
          one.heads.push(row(heads, at, qDim));
          one.added.push(row(added, at, dim));
          const query = queries.subarray(at * qDim, (at + 1) * qDim);
          one.weights.push(attentionWeights(model, layer, query, one.position, keys));
        }
        if (mean === null) return;
        for (let t = 0; t < tokens; t++) {
          const p = cache.length + t;
          const weights = attentionWeights(model, layer, queries.subarray(t * qDim, (t + 1) * qDim), p, keys);
          averageHeads(weights, meanRow(mean[layer]!, p));
          poll();
        }
      },
    },
  });
  return captured;
}

/** Mean over heads of weights (nHeads, out.length). */
function averageHeads(weights: Float32Array, out: Float32Array): void {
  const n = out.length;
  const heads = weights.length / n;
  for (let p = 0; p < n; p++) {
    let sum = 0;
    for (let at = p; at < weights.length; at += n) sum += weights[at]!;
    out[p] = sum / heads;
  }
}
