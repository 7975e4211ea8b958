// Pieces that several kernels are made of; all of them are inlined.

/** Columns that share a scale. */
export const BLOCK: i32 = 32;

/** Sum of the four lanes, in a fixed order. */
// @ts-ignore: decorator
@inline
export function lanes(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 2) + (f32x4.extract_lane(v, 1) + f32x4.extract_lane(v, 3));
}

/** Half float to float, subnormals included. */
// @ts-ignore: decorator
@inline
export function half(h: u32): f32 {
  const magnitude = (h & 0x7fff) << 13;
  const exponent = magnitude & 0x0f800000;
  let value: f32;
  if (exponent === 0x0f800000) value = reinterpret<f32>(magnitude + 0x70000000);
  else value = reinterpret<f32>(magnitude) * reinterpret<f32>(0x77800000);
  return reinterpret<f32>(reinterpret<u32>(value) | ((h & 0x8000) << 16));
}

/** Four finite half floats, sign-extended to 32 bits, to floats: the bits in their places, times 2^112. */
// @ts-ignore: decorator
@inline
export function widenHalves(halves: v128): v128 {
  const bits = v128.and(i32x4.shl(halves, 13), i32x4.splat(0x8fffe000));
  return f32x4.mul(bits, f32x4.splat(reinterpret<f32>(0x77800000)));
}

/** A float that is a half float, to that: widenHalves the other way round. */
// @ts-ignore: decorator
@inline
export function narrowHalf(value: f32): u32 {
  const bits = reinterpret<u32>(value);
  return (reinterpret<u32>(abs<f32>(value) * reinterpret<f32>(0x07800000)) >> 13) | ((bits >> 16) & 0x8000);
}

/**
 * A float of magnitude below 2^22 plus this one is rounded to the nearest integer, ties to even, and its bits are this one's
 * plus that integer: one addition where `nearest` and `trunc_sat` take a dozen instructions of x86.
 */
export const ROUNDING: f32 = 12582912;

/** The integers of floats that ROUNDING was added to. */
// @ts-ignore: decorator
@inline
export function roundedIntegers(sum: v128): v128 {
  return i32x4.sub(sum, i32x4.splat(0x4b400000));
}

/**
 * e^x in each lane for x in [-87, 88], clamped beyond; relative error below 3e-7. Cody-Waite reduction to
 * [-ln2/2, ln2/2], then the Taylor polynomial of degree 7.
 */
// @ts-ignore: decorator
@inline
export function exponential(x: v128): v128 {
  const bounded = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-87)), f32x4.splat(88));
  const rounded = f32x4.add(f32x4.mul(bounded, f32x4.splat(1.44269504)), f32x4.splat(ROUNDING));
  const n = f32x4.sub(rounded, f32x4.splat(ROUNDING));
  const r = f32x4.sub(f32x4.sub(bounded, f32x4.mul(n, f32x4.splat(0.693359375))), f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let p = f32x4.splat(1.0 / 5040.0);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 720.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 120.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 24.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 6.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(0.5));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(roundedIntegers(rounded), i32x4.splat(127)), 23);
  return f32x4.mul(p, power);
}

/** Store the first `n` (1 to 4) of four values that belong to neighbouring rows. */
// @ts-ignore: decorator
@inline
export function storeRows(out: usize, values: v128, n: i32): void {
  if (n >= 4) {
    v128.store(out, values);
    return;
  }
  v128.store_lane<u32>(out, values, 0);
  if (n > 1) v128.store_lane<u32>(out, values, 1, 4);
  if (n > 2) v128.store_lane<u32>(out, values, 2, 8);
}

/** Store the first `rows` of eight values that belong to neighbouring rows. */
// @ts-ignore: decorator
@inline
export function storeOct(out: usize, low: v128, high: v128, rows: i32): void {
  storeRows(out, low, rows);
  if (rows > 4) storeRows(out + 16, high, rows - 4);
}
