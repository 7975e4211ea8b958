/**
 * What attention looked at: the weights of every head; rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928);
 * and weights times the norm of what they carry (Kobayashi et al. 2020, https://arxiv.org/abs/2004.10102).
 */

/** Attention of every position averaged over heads: per layer row after row, row p of p + 1 weights. */
export type MeanAttention = Float32Array[];

/** Row p of a layer's averaged attention. */
export function meanRow(rows: Float32Array, p: number): Float32Array {
  const at = (p * (p + 1)) / 2;
  return rows.subarray(at, at + p + 1);
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

/**
 * Share (n) of each position in the norm-weighted attention of one position, averaged over layers; sums to 1. `weights`:
 * per layer (nHeads, n); `norms`: per layer (nHeads, positions).
 */
export function valueWeighted(
  weightsOfLayers: readonly Float32Array[],
  n: number,
  norms: readonly Float32Array[],
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
