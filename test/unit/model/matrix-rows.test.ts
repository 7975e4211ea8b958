import { describe, expect, it } from 'vitest';
import { ggmlTypeByName } from '../../../plv8/src/format/ggml-types.ts';
import { Arena } from '../../../plv8/src/model/arena.ts';
import type { Layout } from '../../../plv8/src/model/matrix.ts';
import { allocateMatrix, copyRow, fillMatrix, rowsOf, stagingBytes } from '../../../plv8/src/model/matrix.ts';

const COLS = 256;
const ROWS = 29;

/** A matrix of arbitrary blocks; bytes below 0x78 hold no half float that is infinite or undefined. */
function arbitraryMatrix(type: string, layout: Layout) {
  const { blockSize, blockBytes } = ggmlTypeByName(type)!;
  const tile = Uint8Array.from(
    { length: (ROWS * COLS * blockBytes) / blockSize },
    (_, i) => (i * 73 + (i >> 5)) % 0x78,
  );
  const arena = new Arena(1 << 20);
  const info = { name: `test.${type}`, type, shape: [COLS, ROWS] };
  const matrix = allocateMatrix(arena, info, layout);
  fillMatrix(arena, matrix, 0, tile, arena.allocate(stagingBytes(type, tile.length, COLS)));
  return { arena, matrix };
}

function row(arena: Arena, read: (to: number) => void): number[] {
  const to = arena.allocate(COLS * 4);
  read(to);
  return [...arena.f32.slice(to / 4, to / 4 + COLS)];
}

describe('some rows of a matrix', () => {
  it.each([
    ['F16', 'f32'],
    ['F16', 'q8'],
    ['Q8_0', 'q8'],
    ['Q4_0', 'q4'],
    ['Q4_1', 'q4'],
    ['Q5_1', 'q5'],
    ['Q5_1', 'q8'],
    ['Q6_K', 'q6'],
    ['Q6_K', 'q8'],
    ['Q4_K', 'q4'],
  ] as const)('of type %s held as %s are the rows of the whole', (type, layout) => {
    const { arena, matrix } = arbitraryMatrix(type, layout);
    const part = rowsOf(matrix, 16, 13);
    expect(part.rows).toBe(13);
    for (const index of [0, 1, 7, 8, 12]) {
      const expected = row(arena, (to) => copyRow(arena, matrix, 16 + index, to));
      expect(row(arena, (to) => copyRow(arena, part, index, to))).toEqual(expected);
      expect(expected.some((value) => value !== 0)).toBe(true);
    }
  });

  it('begin at a multiple of eight in the integer layouts', () => {
    const { matrix } = arbitraryMatrix('Q8_0', 'q8');
    expect(() => rowsOf(matrix, 12, 8)).toThrow('tensor test.Q8_0 is divided at row 12, which is no multiple of 8');
  });
});
