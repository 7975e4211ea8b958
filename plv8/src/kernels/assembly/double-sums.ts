// Sums of floats in double precision, two at a time.

/** The two last of four floats, as doubles. */
// @ts-ignore: decorator
@inline
export function promoteHigh(v: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<i64>(v, v, 1, 1));
}

/** Sum of the two lanes. */
// @ts-ignore: decorator
@inline
function bothLanes(v: v128): f64 {
  return f64x2.extract_lane(v, 0) + f64x2.extract_lane(v, 1);
}

/** Sum of n floats. */
// @ts-ignore: decorator
@inline
export function total(x: usize, n: i32): f64 {
  let low = f64x2.splat(0), high = f64x2.splat(0);
  let left = n;
  for (; left >= 4; left -= 4) {
    const v = v128.load(x);
    low = f64x2.add(low, f64x2.promote_low_f32x4(v));
    high = f64x2.add(high, promoteHigh(v));
    x += 16;
  }
  let sum = bothLanes(f64x2.add(low, high));
  for (; left > 0; left--) {
    sum += <f64>load<f32>(x);
    x += 4;
  }
  return sum;
}

/** Sum of the squares of what n floats are above `mean`. */
// @ts-ignore: decorator
@inline
export function squares(x: usize, n: i32, mean: f64): f64 {
  const means = f64x2.splat(mean);
  let low = f64x2.splat(0), high = f64x2.splat(0);
  let left = n;
  for (; left >= 4; left -= 4) {
    const v = v128.load(x);
    const a = f64x2.sub(f64x2.promote_low_f32x4(v), means);
    const b = f64x2.sub(promoteHigh(v), means);
    low = f64x2.add(low, f64x2.mul(a, a));
    high = f64x2.add(high, f64x2.mul(b, b));
    x += 16;
  }
  let sum = bothLanes(f64x2.add(low, high));
  for (; left > 0; left--) {
    const d = <f64>load<f32>(x) - mean;
    sum += d * d;
    x += 4;
  }
  return sum;
}
