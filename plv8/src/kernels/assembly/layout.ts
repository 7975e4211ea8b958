// The order in which matrix products read their weights: rows in eights ("octs"), columns in pairs. An oct is a sequence of
// groups, the 32 or 16 columns that share a scale, and a group (here of 32) one sequence of
//   integers
//     8 bits    256 bytes: for each of 16 column pairs the two int8 of row 0, of row 1, ... row 7
//     4 bits    128 bytes: for each of 4 column eights, 16 uint16 (row 0 even and odd column, row 1, ... row 7) that hold the
//               nibbles of columns 0, 2, 4, 6 (or 1, 3, 5, 7) from the lowest up
//     5, 6 bits the lower four so, then as many bytes as the higher ones need: 16 uint16 in the same order of rows and
//               columns, with the higher bit of columns 0, 4, 8, 12; 2, 6, 10, 14; 16, 20, 24, 28; 18, 22, 26, 30 (or of the
//               odd ones) from the lowest up, or the higher two bits of columns 0, 4; 2, 6; 8, 12; 10, 14: so those of two
//               columns whose nibbles are neighbours in a word are four bits apart like these, and one shift serves both
//   scales      one a row: floats, half floats or signed bytes (form.ts)
//   minimums    in the same way, for the types that have them
// Before every 256 columns stand the super scales of those whose scales are bytes: a half float a row, then those of minimums.
// So one multiplication of int16 pairs serves four rows, and their sums stand in four lanes without a reduction; eight rows
// share what is done to the activations; and a matrix is read from memory as one stream, which is a tenth faster than
// one of weights and one of scales. Rows that fill up the last oct are never stored, whatever they hold.
import {
  bitsOf, floatBytes, groupPlace, groupsOfSuper, HALVES, integerBytes, MINIMUMS, morePlace, octBytes, offsetOf, scaleColsOf,
  SUPER_SCALES, superBytes,
} from './form';
import { half, narrowHalf } from './simd';

/** Scale or minimum number i of those at src into its place. */
// @ts-ignore: decorator
@inline
function placeFloat(src: usize, i: i32, to: usize, form: i32): void {
  if (form & SUPER_SCALES) store<i8>(to, load<i8>(src + <usize>i));
  else if (form & HALVES) store<u16>(to, <u16>narrowHalf(load<f32>(src + (<usize>i << 2))));
  else store<f32>(to, load<f32>(src + (<usize>i << 2)));
}

/** The scales and minimums of a row, number `row` of those given, into their places among those of its oct. */
// @ts-ignore: decorator
@inline
function placeFloats(
  scales: usize, mins: usize, supers: usize, row: i32, oct: usize, form: i32, lane: usize, groups: i32,
): void {
  const bytes = floatBytes(form);
  const inGroup = integerBytes(form) + lane * (bytes >> 3);
  for (let g = 0; g < groups; g++) {
    const to = oct + groupPlace(form, g) + inGroup;
    placeFloat(scales, row * groups + g, to, form);
    if (form & MINIMUMS) placeFloat(mins, row * groups + g, to + bytes, form);
  }
  if (form & SUPER_SCALES) {
    const n = groups / groupsOfSuper(form);
    for (let s = 0; s < n; s++) {
      const from = supers + (<usize>(row * n + s) << 2);
      const to = oct + groupPlace(form, s * groupsOfSuper(form)) - superBytes(form) + (lane << 1);
      store<u16>(to, load<u16>(from));
      if (form & MINIMUMS) store<u16>(to, load<u16>(from, 2), 16);
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

/** Four rows of 8 bits, `cols` bytes apart; pairs: where the first one's first pair would be in the oct, were that a group. */
// @ts-ignore: decorator
@inline
function placeFourRows(src: usize, pairs: usize, cols: i32, form: i32): void {
  const scaleCols = scaleColsOf(form);
  for (let g = 0; g < cols / scaleCols; g++) {
    let to = pairs + groupPlace(form, g);
    for (let c = 0; c < scaleCols; c += 16) {
      const a = v128.load(src);
      const b = v128.load(src + <usize>cols);
      const d = v128.load(src + 2 * <usize>cols);
      const e = v128.load(src + 3 * <usize>cols);
      const abLow = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
      const abHigh = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
      const deLow = v128.shuffle<i16>(d, e, 0, 8, 1, 9, 2, 10, 3, 11);
      const deHigh = v128.shuffle<i16>(d, e, 4, 12, 5, 13, 6, 14, 7, 15);
      storeHalves(to, v128.shuffle<i32>(abLow, deLow, 0, 4, 1, 5));
      storeHalves(to + 32, v128.shuffle<i32>(abLow, deLow, 2, 6, 3, 7));
      storeHalves(to + 64, v128.shuffle<i32>(abHigh, deHigh, 0, 4, 1, 5));
      storeHalves(to + 96, v128.shuffle<i32>(abHigh, deHigh, 2, 6, 3, 7));
      src += 16;
      to += 128;
    }
  }
}

/** The integers of a row's group of 8 bits. */
// @ts-ignore: decorator
@inline
function placeBytes(src: usize, group: usize, lane: usize, scaleCols: i32): void {
  let to = group + (lane << 1);
  for (let c = 0; c < scaleCols; c += 2) {
    store<u16>(to, load<u16>(src));
    src += 2;
    to += 16;
  }
}

/** Higher bits of four column pairs, 16 apart, next to each other: the second's 4 behind the first's, the others' `more` behind theirs. */
// @ts-ignore: decorator
@inline
function neighboured(bits: u64, more: i32): u64 {
  return (bits | (bits >> 12) | (bits >> (32 - <u64>more)) | (bits >> (44 - <u64>more))) & 0xffff;
}

/** The integers of a row's group of 4, 5 or 6 bits. */
// @ts-ignore: decorator
@inline
function placeNibbles(src: usize, group: usize, lane: usize, scaleCols: i32, bits: i32): void {
  let to = group + (lane << 2);
  const more = bits - 4;
  const mask: u64 = more === 2 ? 0x0003000300030003 : 0x0001000100010001;
  let evens: u64 = 0, odds: u64 = 0;
  for (let c = 0; c < scaleCols; c += 8) {
    // Bytes c0 c1 ... c7: nibbles 0, 2, 4, 6 of the even columns, then of the odd ones.
    const eight = load<u64>(src);
    const even = eight & 0x000f000f000f000f;
    const odd = (eight >> 8) & 0x000f000f000f000f;
    store<u16>(to, <u16>(even | (even >> 12) | (even >> 24) | (even >> 36)));
    store<u16>(to, <u16>(odd | (odd >> 12) | (odd >> 24) | (odd >> 36)), 2);
    if (more > 0) {
      const place = <u64>morePlace(c >> 1, more);
      evens |= neighboured((eight >> 4) & mask, more) << place;
      odds |= neighboured((eight >> 12) & mask, more) << place;
    }
    src += 8;
    to += 32;
  }
  if (more > 0) {
    store<u16>(to, <u16>evens);
    store<u16>(to, <u16>odds, 2);
  }
}

/**
 * Rows [firstRow, firstRow + rows) of a matrix at `weights`, from row-major bytes (src: int8, or what is held of fewer bits),
 * scales and minimums (floats, or signed bytes with super scales: two half floats for 256 columns, the second for minimums).
 */
export function interleave(
  src: usize, scales: usize, mins: usize, supers: usize, weights: usize, form: i32, firstRow: i32, rows: i32, cols: i32,
): void {
  const bits = bitsOf(form);
  const scaleCols = scaleColsOf(form);
  const groups = cols / scaleCols;
  const oct = octBytes(form, cols);
  const end = firstRow + rows;
  for (let r = firstRow; r < end; r++) {
    placeFloats(scales, mins, supers, r - firstRow, weights + <usize>(r >> 3) * oct, form, <usize>(r & 7), groups);
  }
  let r = firstRow;
  while (r < end) {
    const to = weights + <usize>(r >> 3) * oct;
    const lane = <usize>(r & 7);
    if (bits === 8 && (r & 3) === 0 && r + 4 <= end) {
      placeFourRows(src, to + (lane << 1), cols, form);
      src += <usize>cols << 2;
      r += 4;
      continue;
    }
    for (let g = 0; g < groups; g++) {
      const group = to + groupPlace(form, g);
      if (bits === 8) placeBytes(src, group, lane, scaleCols);
      else placeNibbles(src, group, lane, scaleCols, bits);
      src += <usize>scaleCols;
    }
    r++;
  }
}

/** Scale or minimum of row `lane` at w, with its super scale at `top`. */
// @ts-ignore: decorator
@inline
function floatAt(w: usize, top: usize, form: i32, lane: usize): f32 {
  if (form & SUPER_SCALES) return half(load<u16>(top + (lane << 1))) * <f32>load<i8>(w + lane);
  return form & HALVES ? half(load<u16>(w + (lane << 1))) : load<f32>(w + (lane << 2));
}

/** Row `lane` (0 to 7) of the oct at `weights` to floats: scale * (integer - offset) + minimum. */
export function expand(weights: usize, form: i32, dst: usize, cols: i32, lane: usize): void {
  const bits = bitsOf(form);
  const offset = offsetOf(form);
  const scaleCols = scaleColsOf(form);
  const more = bits - 4;
  for (let g = 0; g < cols / scaleCols; g++) {
    const group = weights + groupPlace(form, g);
    const floats = group + integerBytes(form);
    const top = weights + groupPlace(form, g - g % groupsOfSuper(form)) - superBytes(form);
    const scale = floatAt(floats, top, form, lane);
    let minimum: f32 = 0;
    if (form & MINIMUMS) {
      minimum = floatAt(floats + floatBytes(form), top + 16, form, lane);
      if (form & SUPER_SCALES) minimum = -minimum;
    }
    const high = group + <usize>(4 * scaleCols) + (lane << 2);
    for (let c = 0; c < scaleCols; c++) {
      let integer: i32;
      if (bits === 8) {
        integer = load<i8>(group + (<usize>(c >> 1) << 4) + (lane << 1) + <usize>(c & 1));
      } else {
        const odd = <usize>(c & 1) << 1;
        const word = <i32>load<u16>(group + (<usize>(c >> 3) << 5) + (lane << 2) + odd);
        integer = (word >> (((c >> 1) & 3) << 2)) & 15;
        if (more > 0) {
          const bit = (<i32>load<u16>(high + odd) >> morePlace(c >> 1, more)) & ((1 << more) - 1);
          integer |= bit << 4;
        }
      }
      store<f32>(dst, <f32>(integer - offset) * scale + minimum);
      dst += 4;
    }
  }
}
