import type { EmbeddingOptions } from './embedding-options.ts';

/** The first `dimensions` of a vector, all of it without that option, scaled to length 1 where `normalize` says so; as floats. */
export function normalized(vector: Float64Array, options: EmbeddingOptions, normalize: boolean): number[] {
  const kept = options.dimensions === null ? vector : vector.subarray(0, options.dimensions);
  const length = normalize ? Math.hypot(...kept) : 1;
  return Array.from(kept, (value) => Math.fround(value / (length > 0 ? length : 1)));
}
