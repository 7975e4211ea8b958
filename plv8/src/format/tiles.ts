/**
 * How a matrix is cut into tiles: whole rows, at most TILE_TARGET_BYTES a tile (one row at least). The cut depends on
 * the row's bytes alone, so equal rows of two models fall into equal tiles and are stored once.
 */

/** Large enough that a model is a few hundred rows, small enough that a tile in transit costs little memory. */
export const TILE_TARGET_BYTES = 1 << 20;

export function rowsPerTile(bytesPerRow: number): number {
  return Math.max(1, Math.floor(TILE_TARGET_BYTES / bytesPerRow));
}
