import { describe, expect, test } from 'vitest';
import type { CellColumn, CurveOrder } from '../../../plv8/src/explain/vocabulary-map.ts';
import { vocabularyMap } from '../../../plv8/src/explain/vocabulary-map.ts';

/** Tokens whose ids run against the curve, at equal distances on it. */
function evenly(tokens: number): CurveOrder {
  return {
    ids: Int32Array.from({ length: tokens }, (_, rank) => tokens - 1 - rank),
    hilbert: Float64Array.from({ length: tokens }, (_, rank) => 1000 * rank),
    norms: Float32Array.from({ length: tokens }, (_, rank) => rank),
  };
}

const bytesOf = ({ cells }: CellColumn): number[] => [...Buffer.from(cells, 'base64')];

describe('the map of a vocabulary', () => {
  test.each([1, 2, 5, 16, 256, 1000, 1024, 5000])('of %i tokens has a place of its own for each', (tokens) => {
    const { map, placeOf } = vocabularyMap(evenly(tokens));
    const places = Array.from({ length: tokens }, (_, id) => placeOf(id)!);
    expect(new Set(places).size).toBe(tokens);
    expect(Math.min(...places)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...places)).toBeLessThan(map.side ** 2);
    expect(map).toMatchObject({ tokens });
    for (const column of [map.crowding, map.norm, map.id]) {
      expect(bytesOf(column)).toHaveLength(map.cells ** 2);
      expect(Number.isFinite(column.low) && Number.isFinite(column.high)).toBe(true);
    }
    expect(placeOf(tokens)).toBeNull();
    expect(placeOf(-1)).toBeNull();
  });

  test('puts neighbours on the curve side by side where every place has a token', () => {
    const { map, placeOf } = vocabularyMap(evenly(4096));
    expect(map).toMatchObject({ side: 64, cells: 32 });
    for (let id = 1; id < 4096; id++) {
      const [here, before] = [placeOf(id)!, placeOf(id - 1)!];
      const steps = Math.abs((here % 64) - (before % 64)) + Math.abs(Math.floor(here / 64) - Math.floor(before / 64));
      expect(steps).toBe(1);
    }
  });

  test('has cells with the means of the tokens that are there', () => {
    const tokens = 3000;
    const order = evenly(tokens);
    const { map, placeOf } = vocabularyMap(order);
    const sums = Array.from({ length: map.cells ** 2 }, () => ({ count: 0, norm: 0, id: 0 }));
    order.ids.forEach((id, rank) => {
      const place = placeOf(id)!;
      const [x, y] = [place % map.side, Math.floor(place / map.side)].map((at) =>
        Math.floor((at * map.cells) / map.side),
      );
      const cell = sums[y! * map.cells + x!]!;
      cell.count++;
      cell.norm += order.norms[rank]!;
      cell.id += id;
    });
    for (const key of ['norm', 'id'] as const) {
      const { low, high } = map[key];
      bytesOf(map[key]).forEach((byte, at) => {
        const mean = sums[at]![key] / sums[at]!.count;
        expect(Math.abs(low + ((high - low) * byte) / 255 - mean)).toBeLessThanOrEqual((high - low) / 509);
      });
    }
    expect(map.norm.high).toBeGreaterThan(map.norm.low);
  });

  test('is dark where tokens are crowded on the curve', () => {
    const order = evenly(1024);
    // The first quarter of the curve: a thousandth of the distance, and some tokens at one place.
    for (let rank = 0; rank < 256; rank++) order.hilbert[rank] = 255_000 + rank - (rank % 8);
    const { map, placeOf } = vocabularyMap(order);
    const bytes = bytesOf(map.crowding);
    order.ids.forEach((id, rank) => {
      const place = placeOf(id)!;
      const [x, y] = [place % map.side, Math.floor(place / map.side)].map((at) =>
        Math.floor((at * map.cells) / map.side),
      );
      // The last cell of the quarter reaches as far as the first token behind it.
      if (rank < 252) expect(bytes[y! * map.cells + x!]).toBeGreaterThan(150);
      if (rank >= 256) expect(bytes[y! * map.cells + x!]).toBeLessThan(100);
    });
  });
});
