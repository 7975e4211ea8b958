/**
 * How a matrix is cut into tiles: whole rows, at most TILE_TARGET_BYTES a tile; a longer row is cut at that size. The cut
 * depends on the row's bytes alone, so equal rows of two models fall into equal tiles and are stored once. A matrix whose
 * bytes equal those of another one with other row lengths shares that one's tiles, so whoever reads tiles as rows goes
 * through RowAssembler.
 */

/** Large enough that a model is a few hundred rows, small enough that a tile in transit costs little memory. */
export const TILE_TARGET_BYTES = 1 << 20;

/** Whole rows in a tile; 0 where a row is longer than a tile. */
export function rowsPerTile(bytesPerRow: number): number {
  return Math.floor(TILE_TARGET_BYTES / bytesPerRow);
}

/** Bytes of every tile but the last. */
export function tileBytes(bytesPerRow: number): number {
  return bytesPerRow > TILE_TARGET_BYTES ? TILE_TARGET_BYTES : rowsPerTile(bytesPerRow) * bytesPerRow;
}

/** Turns the tiles of one matrix, in order, into runs of whole rows, wherever the tiles were cut. */
export class RowAssembler {
  private row = 0;
  /** The beginning of a row whose end is in the next tile. */
  private begun: Uint8Array | null = null;
  private begunBytes = 0;

  constructor(private readonly rowBytes: number) {}

  /** Bytes of a row that lacks its end; 0 when all rows are complete. */
  get pendingBytes(): number {
    return this.begunBytes;
  }

  /** Give the next tile; `visit` gets rows from `firstRow` on, as views that hold during the call. */
  add(tile: Uint8Array, visit: (firstRow: number, bytes: Uint8Array) => void): void {
    const { rowBytes } = this;
    let at = 0;
    if (this.begunBytes > 0 && this.begun !== null) {
      at = Math.min(tile.length, rowBytes - this.begunBytes);
      this.begun.set(tile.subarray(0, at), this.begunBytes);
      this.begunBytes += at;
      if (this.begunBytes < rowBytes) return;
      this.begunBytes = 0;
      visit(this.row++, this.begun);
    }
    const whole = Math.floor((tile.length - at) / rowBytes);
    if (whole > 0) {
      visit(this.row, at === 0 && whole * rowBytes === tile.length ? tile : tile.subarray(at, at + whole * rowBytes));
      this.row += whole;
      at += whole * rowBytes;
    }
    if (at < tile.length) {
      this.begun ??= new Uint8Array(rowBytes);
      this.begun.set(tile.subarray(at), 0);
      this.begunBytes = tile.length - at;
    }
  }
}
