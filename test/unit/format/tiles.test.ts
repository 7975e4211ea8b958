import { describe, expect, test } from 'vitest';
import { RowAssembler, rowsPerTile, TILE_TARGET_BYTES, tileBytes } from '../../../plv8/src/format/tiles.ts';

describe('the cut into tiles', () => {
  test.each([
    [1, TILE_TARGET_BYTES],
    [34, 1_048_560],
    [1_000_000, 1_000_000],
    [TILE_TARGET_BYTES, TILE_TARGET_BYTES],
    [TILE_TARGET_BYTES + 1, TILE_TARGET_BYTES],
    [1_000_000_000, TILE_TARGET_BYTES],
  ])('of rows of %i bytes gives tiles of %i', (rowBytes, bytes) => {
    expect(tileBytes(rowBytes)).toBe(bytes);
    expect(rowsPerTile(rowBytes)).toBe(rowBytes > TILE_TARGET_BYTES ? 0 : bytes / rowBytes);
  });
});

describe('RowAssembler', () => {
  test.each([
    [10, 10],
    [10, 20],
    [10, 15],
    [10, 3],
    [7, 5],
    [7, 64],
    [64, 7],
    [1, 1],
  ])('gives whole rows of %i bytes in order out of tiles of %i', (rowBytes, perTile) => {
    const rows = 23;
    const all = Uint8Array.from({ length: rows * rowBytes }, (_, i) => (i * 31 + (i >> 8)) & 255);
    const assembler = new RowAssembler(rowBytes);
    const seen = new Uint8Array(all.length);
    let next = 0;
    for (let at = 0; at < all.length; at += perTile) {
      assembler.add(all.slice(at, at + perTile), (firstRow, bytes) => {
        expect(firstRow).toBe(next);
        expect(bytes.length % rowBytes).toBe(0);
        seen.set(bytes, firstRow * rowBytes);
        next += bytes.length / rowBytes;
      });
    }
    expect(next).toBe(rows);
    expect(seen).toEqual(all);
    expect(assembler.pendingBytes).toBe(0);
  });

  test('says how much of a row has come', () => {
    const assembler = new RowAssembler(10);
    assembler.add(new Uint8Array(13), () => undefined);
    expect(assembler.pendingBytes).toBe(3);
  });
});
