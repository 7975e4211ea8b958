/** How long the cached values of a layer are as its heads write them into the residual stream. */
import { CHUNK_TOKENS } from './buffers.ts';
import type { KvCache } from './kv-cache.ts';
import type { Layers } from './layers.ts';
import { copyRow } from './matrix.ts';

/**
 * Norms (nHeads, positions) of W v for the first `positions` cached values v and each head's part W of the output matrix, before
 * the norm that some architectures put after it. They are v' G v, where G = W' W (headSize, headSize) is made once for all v.
 */
export function valueNorms(
  layers: Layers,
  layer: number,
  cache: KvCache,
  positions: number,
  poll: () => void,
): Float32Array {
  const { config, arena, buffers, weights } = layers;
  const { kernels } = arena;
  const { nHeads, nKvHeads, headSize } = config;
  const { attnOut } = weights.layers[layer]!;
  const gramBytes = nHeads * headSize * headSize * 4;
  const norms = new Float32Array(nHeads * positions);
  cache.withRoom(layer, gramBytes + nHeads * CHUNK_TOKENS * 4, (grams) => {
    arena.f32.fill(0, grams / 4, (grams + gramBytes) / 4);
    for (let first = 0; first < attnOut.rows; first += CHUNK_TOKENS) {
      const count = Math.min(CHUNK_TOKENS, attnOut.rows - first);
      for (let r = 0; r < count; r++) copyRow(arena, attnOut, first + r, buffers.scratch + r * attnOut.cols * 4);
      kernels.addGrams(buffers.scratch, count, grams, nHeads, headSize);
      poll();
    }
    const out = grams + gramBytes;
    for (let first = 0; first < positions; first += CHUNK_TOKENS) {
      const count = Math.min(CHUNK_TOKENS, positions - first);
      cache.loadValues(layer, first, count, buffers.values);
      kernels.gramNorms(grams, buffers.values, out, nHeads, nKvHeads, headSize, count, CHUNK_TOKENS * 4);
      for (let h = 0; h < nHeads; h++) {
        const row = out / 4 + h * CHUNK_TOKENS;
        norms.set(arena.f32.subarray(row, row + count), h * positions + first);
      }
      poll();
    }
  });
  return norms;
}
