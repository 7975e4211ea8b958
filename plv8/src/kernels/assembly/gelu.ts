// GELU in its tanh form (Hendrycks and Gimpel, 2016): x / 2 * (1 + tanh(u)) = x / (1 + e^-2u) with
// u = sqrt(2 / pi) * (x + 0.044715 x^3).
import { exponential } from './simd';

// 2 * sqrt(2 / pi)
const TWICE_ROOT: f32 = 1.5957691216057308;
const CUBIC: f32 = 0.044715;

// @ts-ignore: decorator
@inline
function gelu4(x: v128): v128 {
  const cubed = f32x4.mul(f32x4.mul(x, x), f32x4.mul(x, f32x4.splat(CUBIC)));
  const exponent = f32x4.mul(f32x4.add(x, cubed), f32x4.splat(-TWICE_ROOT));
  const value = f32x4.div(x, f32x4.add(f32x4.splat(1), exponential(exponent)));
  // Far below zero GELU is zero, where the bounded exponential would leave a rest.
  return v128.andnot(value, f32x4.gt(exponent, f32x4.splat(88)));
}

/** x = gelu(x) over n floats. */
export function gelu(x: usize, n: i32): void {
  let left = n;
  for (; left >= 4; left -= 4) {
    v128.store(x, gelu4(v128.load(x)));
    x += 16;
  }
  for (; left > 0; left--) {
    store<f32>(x, f32x4.extract_lane(gelu4(v128.load_splat<f32>(x)), 0));
    x += 4;
  }
}

/** gate = gelu(gate) * up over n floats. */
export function geluMultiply(gate: usize, up: usize, n: i32): void {
  let left = n;
  for (; left >= 4; left -= 4) {
    v128.store(gate, f32x4.mul(gelu4(v128.load(gate)), v128.load(up)));
    gate += 16;
    up += 16;
  }
  for (; left > 0; left--) {
    store<f32>(gate, f32x4.extract_lane(gelu4(v128.load_splat<f32>(gate)), 0) * load<f32>(up));
    gate += 4;
    up += 4;
  }
}
