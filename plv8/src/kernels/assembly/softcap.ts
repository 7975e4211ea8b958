// Gemma's scaled embeddings and bounded scores.
import { exponential } from './simd';

/** x = x * factor over n floats. */
export function scaleBy(x: usize, n: i32, factor: f32): void {
  const end = x + (<usize>n << 2);
  for (; x < end; x += 4) store<f32>(x, load<f32>(x) * factor);
}

// @ts-ignore: decorator
@inline
function softcap4(x: v128, cap: f32): v128 {
  const e = exponential(f32x4.mul(x, f32x4.splat(2 / cap)));
  const one = f32x4.splat(1);
  return f32x4.mul(f32x4.splat(cap), f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(e, one))));
}

/** x = cap * tanh(x / cap) over n floats, as 1 - 2 / (e^2x/cap + 1): absolute error below 1e-6 * cap. */
export function softcap(x: usize, n: i32, cap: f32): void {
  let left = n;
  for (; left >= 4; left -= 4) {
    v128.store(x, softcap4(v128.load(x), cap));
    x += 16;
  }
  for (; left > 0; left--) {
    store<f32>(x, f32x4.extract_lane(softcap4(v128.load_splat<f32>(x), cap), 0));
    x += 4;
  }
}
