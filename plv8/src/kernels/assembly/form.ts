// How an integer matrix lies in memory, as one number, its form:
//   bits 0 to 3   bits of an integer: 4, 5, 6 or 8
//   16            it has minimums
//   32            16 columns share a scale, else 32
//   64            scales and minimums are half floats
//   128           they are signed bytes, which multiply a half float that 256 columns share ("super scale"); a minimum is the
//                 negated product
//   above 255     256 times what a held integer is above its weight
// model/matrix.ts says which types take which; host/src/kernels/kernels.h knows the same.
import { widenHalves } from './simd';

export const MINIMUMS: i32 = 16;
export const SCALES_OF_16: i32 = 32;
export const HALVES: i32 = 64;
export const SUPER_SCALES: i32 = 128;

/** Columns that share a super scale. */
const SUPER_COLS: i32 = 256;
/** The super scales of an oct's rows as floats, and 32 bytes behind them those of minimums. */
const SUPERS: usize = memory.data(64, 16);

// @ts-ignore: decorator
@inline
export function bitsOf(form: i32): i32 {
  return form & 15;
}

// @ts-ignore: decorator
@inline
export function offsetOf(form: i32): i32 {
  return form >> 8;
}

/** Columns that share a scale: a group. */
// @ts-ignore: decorator
@inline
export function scaleColsOf(form: i32): i32 {
  return form & SCALES_OF_16 ? 16 : 32;
}

/** Bytes of the integers of a group. */
// @ts-ignore: decorator
@inline
export function integerBytes(form: i32): usize {
  return <usize>(bitsOf(form) * scaleColsOf(form));
}

/** Bytes of eight scales, or of eight minimums. */
// @ts-ignore: decorator
@inline
export function floatBytes(form: i32): usize {
  return form & SUPER_SCALES ? 8 : form & HALVES ? 16 : 32;
}

/** Bytes of a group: integers, scales, minimums. */
// @ts-ignore: decorator
@inline
export function groupBytes(form: i32): usize {
  return integerBytes(form) + (floatBytes(form) << (form & MINIMUMS ? 1 : 0));
}

/** Bytes of the super scales, and of those of minimums, that stand before 256 columns. */
// @ts-ignore: decorator
@inline
export function superBytes(form: i32): usize {
  return form & SUPER_SCALES ? (form & MINIMUMS ? 32 : 16) : 0;
}

/** Groups that share super scales. */
// @ts-ignore: decorator
@inline
export function groupsOfSuper(form: i32): i32 {
  return SUPER_COLS / scaleColsOf(form);
}

/** Bytes of an oct of `cols` columns. */
// @ts-ignore: decorator
@inline
export function octBytes(form: i32, cols: i32): usize {
  return <usize>(cols / scaleColsOf(form)) * groupBytes(form) + <usize>(cols / SUPER_COLS) * superBytes(form);
}

/** Where group `g` of an oct begins, from the oct's beginning. */
// @ts-ignore: decorator
@inline
export function groupPlace(form: i32, g: i32): usize {
  return <usize>g * groupBytes(form) + <usize>(g / groupsOfSuper(form) + 1) * superBytes(form);
}

/** Where the `more` higher bits of a column pair begin in their word (layout.ts). */
// @ts-ignore: decorator
@inline
export function morePlace(pair: i32, more: i32): i32 {
  const field = (pair >> 1) * more;
  return ((field >> 2) << 3) + (field & 3) + ((pair & 1) << 2);
}

/** Read the super scales that stand at w, where a group with `left` groups to come, itself included, begins; what is behind them. */
// @ts-ignore: decorator
@inline
export function passSupers(w: usize, form: i32, left: i32): usize {
  if (!(form & SUPER_SCALES) || left & (groupsOfSuper(form) - 1)) return w;
  v128.store(SUPERS, widenHalves(v128.load_ext<i16>(w)));
  v128.store(SUPERS, widenHalves(v128.load_ext<i16>(w, 8)), 16);
  if (form & MINIMUMS) {
    v128.store(SUPERS, widenHalves(v128.load_ext<i16>(w, 16)), 32);
    v128.store(SUPERS, widenHalves(v128.load_ext<i16>(w, 24)), 48);
  }
  return w + superBytes(form);
}

/** Four signed bytes as floats. */
// @ts-ignore: decorator
@inline
function bytesToFloats(at: usize): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at))));
}

/** The scales of four rows, the oct's first or (half = 1) last, of a group whose scales stand at w. */
// @ts-ignore: decorator
@inline
export function scalesAt(w: usize, form: i32, half: usize): v128 {
  if (form & SUPER_SCALES) return f32x4.mul(v128.load(SUPERS + 16 * half), bytesToFloats(w + 4 * half));
  return form & HALVES ? widenHalves(v128.load_ext<i16>(w + 8 * half)) : v128.load(w + 16 * half);
}

/** The same of minimums; w are the minimums of the group. */
// @ts-ignore: decorator
@inline
export function minimumsAt(w: usize, form: i32, half: usize): v128 {
  if (form & SUPER_SCALES) return f32x4.neg(f32x4.mul(v128.load(SUPERS + 32 + 16 * half), bytesToFloats(w + 4 * half)));
  return form & HALVES ? widenHalves(v128.load_ext<i16>(w + 8 * half)) : v128.load(w + 16 * half);
}
