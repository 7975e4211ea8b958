/**
 * What attention looked at: the weights of every head; rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928);
 * and weights times the norm of what they carry (Kobayashi et al. 2020, https://arxiv.org/abs/2004.10102).
 */
import type { KvCache, Model } from '../model/model.ts';

/** Attention of every position averaged over heads: per layer row after row, row p of p + 1 weights. */
export type MeanAttention = Float32Array[];

/** Row p of a layer's averaged attention. */
export function meanRow(rows: Float32Array, p: number): Float32Array {
  const at = (p * (p + 1)) / 2;
  return rows.subarray(at, at + p + 1);
}

/**
 * Softmaxed weights (nHeads, position + 1) of one query (nHeads * headSize) over the cached keys (KvCache.keys) up to its position; 0
 * before the layer's window.
 */
export function attentionWeights(
  model: Model,
  layer: number,
  query: Float32Array,
  position: number,
  keys: Float32Array,
): Float32Array {
  const { nHeads, nKvHeads, headSize, attentionScale, attentionSoftcap, windows } = model.config;
  const kvDim = nKvHeads * headSize;
  const n = position + 1;
  const weights = new Float32Array(nHeads * n);
  const group = nHeads / nKvHeads;
  for (let h = 0; h < nHeads; h++) {
    const row = weights.subarray(h * n, (h + 1) * n);
    const q = h * headSize;
    const first = Math.max(0, n - windows[layer]!);
    let most = -Infinity;
    for (let p = first; p < n; p++) {
      const k = p * kvDim + Math.floor(h / group) * headSize;
      let dot = 0;
      for (let d = 0; d < headSize; d++) dot += query[q + d]! * keys[k + d]!;
      const score = dot * attentionScale;
      row[p] = attentionSoftcap > 0 ? attentionSoftcap * Math.tanh(score / attentionSoftcap) : score;
      most = Math.max(most, row[p]!);
    }
    let sum = 0;
    for (let p = first; p < n; p++) sum += row[p] = Math.exp(row[p]! - most);
    for (let p = first; p < n; p++) row[p]! /= sum;
  }
  return weights;
}

/**
 * Attention rollout from `position`: (position + 1) shares that sum to 1. In every layer half of a position comes from
 * itself, by the residual connection, and half from where its heads look on average.
 */
export function rollout(mean: MeanAttention, position: number): Float64Array {
  let shares = new Float64Array(position + 1);
  shares[position] = 1;
  for (let layer = mean.length - 1; layer >= 0; layer--) {
    const below = new Float64Array(position + 1);
    for (let p = 0; p <= position; p++) {
      const share = shares[p]!;
      if (share === 0) continue;
      below[p]! += share / 2;
      const row = meanRow(mean[layer]!, p);
      for (let from = 0; from <= p; from++) below[from]! += (share / 2) * row[from]!;
    }
    shares = below;
  }
  return shares;
}

/** Per layer the norm (nHeads, positions) of each position's value as a head writes it into the residual stream. */
export type ValueNorms = Float32Array[];

/** Gram matrices (nHeads, headSize, headSize) of the columns of the output matrix that belong to each head. */
function headGrams(model: Model, layer: number, poll: () => void): Float64Array {
  const { nHeads, headSize } = model.config;
  const { attnOut } = model.weights.layers[layer]!;
  const grams = new Float64Array(nHeads * headSize * headSize);
  const row = new Float32Array(nHeads * headSize);
  for (let d = 0; d < attnOut.rows; d++) {
    model.readRow(attnOut, d, row);
    for (let h = 0; h < nHeads; h++) {
      for (let i = 0; i < headSize; i++) {
        const a = row[h * headSize + i]!;
        const at = (h * headSize + i) * headSize;
        for (let j = i; j < headSize; j++) grams[at + j]! += a * row[h * headSize + j]!;
      }
    }
    poll();
  }
  return grams;
}

/**
 * Norms of W v for the first `positions` cached values v and each head's part W of the output matrix, before the norm
 * that some architectures put after it.
 */
export function valueNorms(model: Model, cache: KvCache, positions: number, poll: () => void): ValueNorms {
  const { nLayers, nHeads, nKvHeads, headSize } = model.config;
  const kvDim = nKvHeads * headSize;
  const group = nHeads / nKvHeads;
  return Array.from({ length: nLayers }, (_, layer) => {
    const grams = headGrams(model, layer, poll);
    const values = cache.values(layer, positions);
    const norms = new Float32Array(nHeads * positions);
    for (let h = 0; h < nHeads; h++) {
      for (let p = 0; p < positions; p++) {
        const v = p * kvDim + Math.floor(h / group) * headSize;
        let sum = 0;
        for (let i = 0; i < headSize; i++) {
          const at = (h * headSize + i) * headSize;
          const a = values[v + i]!;
          let inner = grams[at + i]! * a;
          for (let j = i + 1; j < headSize; j++) inner += 2 * grams[at + j]! * values[v + j]!;
          sum += a * inner;
        }
        norms[h * positions + p] = Math.sqrt(Math.max(0, sum));
      }
      poll();
    }
    return norms;
  });
}

/**
 * Share (n) of each position in the norm-weighted attention of one position, averaged over layers; sums to 1. `weights`:
 * per layer (nHeads, n); `norms`: per layer (nHeads, positions).
 */
export function valueWeighted(
  weightsOfLayers: readonly Float32Array[],
  n: number,
  norms: ValueNorms,
  positions: number,
): Float64Array {
  const shares = new Float64Array(n);
  weightsOfLayers.forEach((weights, layer) => {
    const ofLayer = new Float64Array(n);
    let total = 0;
    for (let h = 0; h * n < weights.length; h++) {
      for (let p = 0; p < n; p++) {
        const size = weights[h * n + p]! * norms[layer]![h * positions + p]!;
        ofLayer[p]! += size;
        total += size;
      }
    }
    if (total > 0) for (let p = 0; p < n; p++) shares[p]! += ofLayer[p]! / total / weightsOfLayers.length;
  });
  return shares;
}
