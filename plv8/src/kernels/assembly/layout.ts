// The order in which matrix products read their weights: rows in eights ("octs"), columns in pairs.
//   q8   per oct and block of 32 columns 256 bytes: for each of 16 column pairs the two int8 of row 0, of row 1, ... row 7
//   q4   per oct and block 128 bytes: for each of 4 column eights, 16 uint16 (row 0 even and odd column, row 1, ... row 7)
//        that hold the nibbles of columns 0, 2, 4, 6 (or 1, 3, 5, 7) from the lowest up
//   scales and minimums: per oct and block 8 floats, one a row; q8 may have scales for 16 columns each (Q6_K, Q3_K)
// So one multiplication of int16 pairs serves four rows, and their sums stand in four lanes without a reduction; eight rows
// share what is done to the activations, and are read as one stream. Rows that fill up the last oct are never stored,
// whatever they hold.
import { BLOCK } from './simd';

/** Floats (rows, blocks), row-major, into their places among the octs; `firstRow` is the first one's row. */
function interleaveFloats(src: usize, dst: usize, firstRow: i32, rows: i32, blocks: i32): void {
  for (let r = firstRow; r < firstRow + rows; r++) {
    let to = dst + (<usize>(r >> 3) * <usize>blocks << 5) + (<usize>(r & 7) << 2);
    for (let b = 0; b < blocks; b++) {
      store<f32>(to, load<f32>(src));
      src += 4;
      to += 32;
    }
  }
}

/** Column pairs k and k + 1 of four rows, into their places 16 bytes apart. */
// @ts-ignore: decorator
@inline
function storeHalves(to: usize, pairs: v128): void {
  v128.store_lane<u64>(to, pairs, 0);
  v128.store_lane<u64>(to, pairs, 1, 16);
}

/** Rows [firstRow, firstRow + rows) of a q8 matrix from row-major int8, scales and minimums (0 for none). */
export function interleaveQ8(
  src: usize, srcScales: usize, srcMins: usize, weights: usize, scales: usize, mins: usize,
  firstRow: i32, rows: i32, cols: i32, scaleCols: i32,
): void {
  interleaveFloats(srcScales, scales, firstRow, rows, cols / scaleCols);
  if (srcMins) interleaveFloats(srcMins, mins, firstRow, rows, cols >> 5);
  let r = firstRow;
  const end = firstRow + rows;
  while (r < end) {
    let to = weights + <usize>(r & ~7) * <usize>cols + (<usize>(r & 7) << 1);
    if ((r & 3) === 0 && r + 4 <= end) {
      let p = src;
      for (let c = 0; c < cols; c += 16) {
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
      src += <usize>cols << 2;
      r += 4;
      continue;
    }
    for (let c = 0; c < cols; c += 2) {
      store<u16>(to, load<u16>(src));
      src += 2;
      to += 16;
    }
    r++;
  }
}

/** Rows [firstRow, firstRow + rows) of a q4 matrix from row-major bytes of 0 to 15, scales and minimums (0 for none). */
export function interleaveQ4(
  src: usize, srcScales: usize, srcMins: usize, weights: usize, scales: usize, mins: usize,
  firstRow: i32, rows: i32, cols: i32,
): void {
  const blocks = cols >> 5;
  interleaveFloats(srcScales, scales, firstRow, rows, blocks);
  if (srcMins) interleaveFloats(srcMins, mins, firstRow, rows, blocks);
  for (let r = firstRow; r < firstRow + rows; r++) {
    let to = weights + (<usize>(r & ~7) * <usize>cols >> 1) + (<usize>(r & 7) << 2);
    for (let c = 0; c < cols; c += 8) {
      // Bytes c0 c1 ... c7: nibbles 0, 2, 4, 6 of the even columns, then of the odd ones.
      const eight = load<u64>(src);
      const even = eight & 0x000f000f000f000f;
      const odd = (eight >> 8) & 0x000f000f000f000f;
      store<u16>(to, <u16>(even | (even >> 12) | (even >> 24) | (even >> 36)));
      store<u16>(to, <u16>(odd | (odd >> 12) | (odd >> 24) | (odd >> 36)), 2);
      src += 8;
      to += 32;
    }
  }
}

/** Row `lane` (0 to 7) of a q8 oct to floats; mins may be 0 for none. */
export function expandQ8(
  weights: usize, scales: usize, mins: usize, dst: usize, cols: i32, lane: i32, scaleCols: i32,
): void {
  weights += <usize>lane << 1;
  scales += <usize>lane << 2;
  if (mins) mins += <usize>lane << 2;
  for (let b = 0; b < cols; b += scaleCols) {
    const scale = load<f32>(scales);
    const minimum: f32 = mins ? load<f32>(mins) : 0;
    for (let i = 0; i < scaleCols; i += 2) {
      store<f32>(dst, <f32>load<i8>(weights) * scale + minimum);
      store<f32>(dst, <f32>load<i8>(weights, 1) * scale + minimum, 4);
      weights += 16;
      dst += 8;
    }
    scales += 32;
    if (mins) mins += 32;
  }
}

/** Row `lane` (0 to 7) of a q4 oct to floats: scale * (nibble - offset) + minimum; mins may be 0 for none. */
export function expandQ4(
  weights: usize, scales: usize, mins: usize, offset: i32, dst: usize, cols: i32, lane: i32,
): void {
  weights += <usize>lane << 2;
  scales += <usize>lane << 2;
  if (mins) mins += <usize>lane << 2;
  for (let b = 0; b < cols; b += BLOCK) {
    const scale = load<f32>(scales);
    const minimum: f32 = mins ? load<f32>(mins) : 0;
    for (let i = 0; i < BLOCK; i += 8) {
      const even = <i32>load<u16>(weights);
      const odd = <i32>load<u16>(weights, 2);
      for (let j = 0; j < 4; j++) {
        store<f32>(dst, <f32>(((even >> (j << 2)) & 15) - offset) * scale + minimum);
        store<f32>(dst, <f32>(((odd >> (j << 2)) & 15) - offset) * scale + minimum, 4);
        dst += 8;
      }
      weights += 32;
    }
    scales += 32;
    if (mins) mins += 32;
  }
}
