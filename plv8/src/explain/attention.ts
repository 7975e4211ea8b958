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
      let even = 0;
      let odd = 0;
      for (let d = 0; d < headSize; d += 2) {
        even += query[q + d]! * keys[k + d]!;
        odd += query[q + d + 1]! * keys[k + d + 1]!;
      }
      const score = (even + odd) * attentionScale;
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

/** Columns (nHeads * headSize, dim) of a layer's output matrix, one after the other. */
function outputColumns(model: Model, layer: number, poll: () => void): Float32Array {
  const { attnOut } = model.weights.layers[layer]!;
  const { rows, cols } = attnOut;
  const columns = new Float32Array(cols * rows);
  const row = new Float32Array(cols);
  for (let d = 0; d < rows; d++) {
    model.readRow(attnOut, d, row);
    for (let c = 0; c < cols; c++) columns[c * rows + d] = row[c]!;
    poll();
  }
  return columns;
}

/**
 * Inner products (size, size) of `size` columns of `dim` floats that begin at `first`; two by two, so that a load serves two: the
 * size of a head is a multiple of four.
 */
function gramOf(columns: Float32Array, first: number, size: number, dim: number): Float64Array {
  const gram = new Float64Array(size * size);
  for (let i = 0; i < size; i += 2) {
    const a = (first + i) * dim;
    const a1 = a + dim;
    for (let j = i; j < size; j += 2) {
      const b = (first + j) * dim;
      const b1 = b + dim;
      let ab = 0;
      let ab1 = 0;
      let a1b = 0;
      let a1b1 = 0;
      for (let d = 0; d < dim; d++) {
        const x = columns[a + d]!;
        const x1 = columns[a1 + d]!;
        const y = columns[b + d]!;
        const y1 = columns[b1 + d]!;
        ab += x * y;
        ab1 += x * y1;
        a1b += x1 * y;
        a1b1 += x1 * y1;
      }
      gram[i * size + j] = gram[j * size + i] = ab;
      gram[i * size + j + 1] = gram[(j + 1) * size + i] = ab1;
      gram[(i + 1) * size + j] = gram[j * size + i + 1] = a1b;
      gram[(i + 1) * size + j + 1] = gram[(j + 1) * size + i + 1] = a1b1;
    }
  }
  return gram;
}

/** v' G v for `size` floats that begin at `at`, and a symmetric matrix (size, size). */
function quadraticForm(gram: Float64Array, values: Float32Array, at: number, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++) {
    const row = i * size;
    let inner = 0;
    for (let j = i + 1; j < size; j++) inner += gram[row + j]! * values[at + j]!;
    const v = values[at + i]!;
    sum += v * (gram[row + i]! * v + 2 * inner);
  }
  return sum;
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
    const columns = outputColumns(model, layer, poll);
    const values = cache.values(layer, positions);
    const norms = new Float32Array(nHeads * positions);
    for (let h = 0; h < nHeads; h++) {
      const gram = gramOf(columns, h * headSize, headSize, model.config.dim);
      const first = Math.floor(h / group) * headSize;
      for (let p = 0; p < positions; p++) {
        norms[h * positions + p] = Math.sqrt(Math.max(0, quadraticForm(gram, values, p * kvDim + first, headSize)));
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
