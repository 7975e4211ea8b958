// The order in which matrix products read their weights: rows in eights ("octs"), columns in pairs. An oct is a sequence of
// blocks of 32 columns, and a block one sequence of
//   q8   256 bytes: for each of 16 column pairs the two int8 of row 0, of row 1, ... row 7
//   q4   128 bytes: for each of 4 column eights, 16 uint16 (row 0 even and odd column, row 1, ... row 7) that hold the
//        nibbles of columns 0, 2, 4, 6 (or 1, 3, 5, 7) from the lowest up
//   32 bytes of scales, a float a row; where 16 columns share one (Q6_K, Q3_K), 128 bytes of q8, their scales, and again
//   32 bytes of minimums, a float a row, for the types that have them
// So one multiplication of int16 pairs serves four rows, and their sums stand in four lanes without a reduction; eight rows
// share what is done to the activations; and a matrix is read from memory as one stream, which is a tenth faster than
// one of weights and one of scales. Rows that fill up the last oct are never stored, whatever they hold.
import { BLOCK } from './simd';

/** Bytes of the floats of a block: one a row of the oct. */
const FLOATS: usize = 32;

/** Bytes of `cols` columns (whole blocks) of a q8 oct. */
// @ts-ignore: decorator
@inline
export function octBytesQ8(cols: i32, scaleCols: i32, minimums: bool): usize {
  return (<usize>cols << 3) + <usize>(cols / scaleCols) * FLOATS + (minimums ? <usize>(cols >> 5) * FLOATS : 0);
}

/** Bytes of `cols` columns (whole blocks) of a q4 oct. */
// @ts-ignore: decorator
@inline
export function octBytesQ4(cols: i32, minimums: bool): usize {
  return (<usize>cols << 2) + <usize>(cols >> 5) * (minimums ? 2 * FLOATS : FLOATS);
}

/** Floats (row-major, n a row) of one row into their places in its oct: the first at `to`, then every `step` bytes. */
// @ts-ignore: decorator
@inline
function scatterFloats(src: usize, to: usize, n: i32, step: usize): void {
  for (let i = 0; i < n; i++) {
    store<f32>(to, load<f32>(src));
    src += 4;
    to += step;
  }
}

/** Column pairs k and k + 1 of four rows, into their places 16 bytes apart. */
// @ts-ignore: decorator
@inline
function storeHalves(to: usize, pairs: v128): void {
  v128.store_lane<u64>(to, pairs, 0);
  v128.store_lane<u64>(to, pairs, 1, 16);
}

/**
 * Rows [firstRow, firstRow + rows) of a q8 matrix at `weights`, from row-major int8 (src), scales and minimums (0 for
 * none).
 */
export function interleaveQ8(
  src: usize, scales: usize, mins: usize, weights: usize, firstRow: i32, rows: i32, cols: i32, scaleCols: i32,
): void {
  const oct = octBytesQ8(cols, scaleCols, mins !== 0);
  // A group is the columns that share a scale, with their floats.
  const groupBytes = <usize>scaleCols << 3;
  const groupStep = groupBytes + (mins ? 2 * FLOATS : FLOATS);
  const nScales = cols / scaleCols;
  const end = firstRow + rows;
  for (let r = firstRow; r < end; r++) {
    const floats = weights + <usize>(r >> 3) * oct + groupBytes + (<usize>(r & 7) << 2);
    scatterFloats(scales, floats, nScales, groupStep);
    scales += <usize>nScales << 2;
    if (mins) {
      scatterFloats(mins, floats + FLOATS, nScales, groupStep);
      mins += <usize>nScales << 2;
    }
  }
  let r = firstRow;
  while (r < end) {
    let to = weights + <usize>(r >> 3) * oct + (<usize>(r & 7) << 1);
    if ((r & 3) === 0 && r + 4 <= end) {
      let p = src;
      for (let g = 0; g < nScales; g++) {
        for (let c = 0; c < scaleCols; c += 16) {
          const a = v128.load(p);
          const b = v128.load(p + <usize>cols);
          const d = v128.load(p + 2 * <usize>cols);
          const e = v128.load(p + 3 * <usize>cols);
          const abLow = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
          const abHigh = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
          const deLow = v128.shuffle<i16>(d, e, 0, 8, 1, 9, 2, 10, 3, 11);
          const deHigh = v128.shuffle<i16>(d, e, 4, 12, 5, 13, 6, 14, 7, 15);
          storeHalves(to, v128.shuffle<i32>(abLow, deLow, 0, 4, 1, 5));
          storeHalves(to + 32, v128.shuffle<i32>(abLow, deLow, 2, 6, 3, 7));
          storeHalves(to + 64, v128.shuffle<i32>(abHigh, deHigh, 0, 4, 1, 5));
          storeHalves(to + 96, v128.shuffle<i32>(abHigh, deHigh, 2, 6, 3, 7));
          p += 16;
          to += 128;
        }
        to += groupStep - groupBytes;
      }
      src += <usize>cols << 2;
      r += 4;
      continue;
    }
    for (let g = 0; g < nScales; g++) {
      for (let c = 0; c < scaleCols; c += 2) {
        store<u16>(to, load<u16>(src));
        src += 2;
        to += 16;
      }
      to += groupStep - groupBytes;
    }
    r++;
  }
}

/** Rows [firstRow, firstRow + rows) of a q4 matrix, from row-major bytes of 0 to 15, scales and minimums (0 for none). */
export function interleaveQ4(
  src: usize, scales: usize, mins: usize, weights: usize, firstRow: i32, rows: i32, cols: i32,
): void {
  const blocks = cols >> 5;
  const step = octBytesQ4(BLOCK, mins !== 0);
  for (let r = firstRow; r < firstRow + rows; r++) {
    const oct = weights + <usize>(r >> 3) * <usize>blocks * step;
    const floats = oct + 128 + (<usize>(r & 7) << 2);
    scatterFloats(scales, floats, blocks, step);
    scales += <usize>blocks << 2;
    if (mins) {
      scatterFloats(mins, floats + FLOATS, blocks, step);
      mins += <usize>blocks << 2;
    }
    let block = oct + (<usize>(r & 7) << 2);
    for (let b = 0; b < blocks; b++) {
      let to = block;
      for (let c = 0; c < BLOCK; c += 8) {
        // Bytes c0 c1 ... c7: nibbles 0, 2, 4, 6 of the even columns, then of the odd ones.
        const eight = load<u64>(src);
        const even = eight & 0x000f000f000f000f;
        const odd = (eight >> 8) & 0x000f000f000f000f;
        store<u16>(to, <u16>(even | (even >> 12) | (even >> 24) | (even >> 36)));
        store<u16>(to, <u16>(odd | (odd >> 12) | (odd >> 24) | (odd >> 36)), 2);
        src += 8;
        to += 32;
      }
      block += step;
    }
  }
}

/** Row `lane` (0 to 7) of a q8 oct to floats. */
export function expandQ8(weights: usize, minimums: bool, dst: usize, cols: i32, lane: i32, scaleCols: i32): void {
  const floats = (<usize>lane << 2) + (<usize>scaleCols << 3);
  const step = (<usize>scaleCols << 3) + (minimums ? 2 * FLOATS : FLOATS);
  for (let b = 0; b < cols; b += scaleCols) {
    const scale = load<f32>(weights + floats);
    const minimum: f32 = minimums ? load<f32>(weights + floats + FLOATS) : 0;
    let from = weights + (<usize>lane << 1);
    for (let i = 0; i < scaleCols; i += 2) {
      store<f32>(dst, <f32>load<i8>(from) * scale + minimum);
      store<f32>(dst, <f32>load<i8>(from, 1) * scale + minimum, 4);
      from += 16;
      dst += 8;
    }
    weights += step;
  }
}

/** Row `lane` (0 to 7) of a q4 oct to floats: scale * (nibble - offset) + minimum. */
export function expandQ4(weights: usize, minimums: bool, offset: i32, dst: usize, cols: i32, lane: i32): void {
  const step = octBytesQ4(BLOCK, minimums);
  for (let b = 0; b < cols; b += BLOCK) {
    const floats = weights + 128 + (<usize>lane << 2);
    const scale = load<f32>(floats);
    const minimum: f32 = minimums ? load<f32>(floats + FLOATS) : 0;
    let from = weights + (<usize>lane << 2);
    for (let i = 0; i < BLOCK; i += 8) {
      const even = <i32>load<u16>(from);
      const odd = <i32>load<u16>(from, 2);
      for (let j = 0; j < 4; j++) {
        store<f32>(dst, <f32>(((even >> (j << 2)) & 15) - offset) * scale + minimum);
        store<f32>(dst, <f32>(((odd >> (j << 2)) & 15) - offset) * scale + minimum, 4);
        dst += 8;
      }
      from += 32;
    }
    weights += step;
  }
}
