// Norms, sums, the gate of the feed-forward network, and rotary positions.
import { squares } from './double-sums';
import { exponential } from './simd';

/** out = x / rms(x) * weight for each of `tokens` rows of n floats. */
export function rmsNorm(x: usize, weight: usize, out: usize, n: i32, tokens: i32, eps: f32): void {
  for (let t = 0; t < tokens; t++) {
    const scale = <f32>(1.0 / sqrt<f64>(squares(x, n, 0) / <f64>n + <f64>eps));
    const factor = f32x4.splat(scale);
    let w = weight;
    let left = n;
    for (; left >= 4; left -= 4) {
      v128.store(out, f32x4.mul(f32x4.mul(v128.load(x), factor), v128.load(w)));
      x += 16;
      out += 16;
      w += 16;
    }
    for (; left > 0; left--) {
      store<f32>(out, load<f32>(x) * scale * load<f32>(w));
      x += 4;
      out += 4;
      w += 4;
    }
  }
}

/** x[i] += y[i] over n floats. */
export function addInto(x: usize, y: usize, n: i32): void {
  let left = n;
  for (; left >= 4; left -= 4) {
    v128.store(x, f32x4.add(v128.load(x), v128.load(y)));
    x += 16;
    y += 16;
  }
  for (; left > 0; left--) {
    store<f32>(x, load<f32>(x) + load<f32>(y));
    x += 4;
    y += 4;
  }
}

/** to[i] = from[i] over n floats. */
export function copyFloats(from: usize, to: usize, n: i32): void {
  memory.copy(to, from, <usize>n << 2);
}

/**
 * Floats to half floats: the nearest, of two the even one; what is beyond the largest, 65504, becomes that. n is a multiple of 4.
 * Bits below the last are rounded away by an addition: to a float whose last bit is that of a subnormal half float, or to the
 * integer that the bits are.
 */
export function narrowF16(src: usize, dst: usize, n: i32): void {
  for (let left = n; left > 0; left -= 4) {
    const bits = v128.load(src);
    const magnitude = i32x4.min_u(v128.and(bits, i32x4.splat(0x7fffffff)), i32x4.splat(0x477fe000));
    const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
    const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
    const normal = i32x4.shr_u(i32x4.add(i32x4.sub(magnitude, i32x4.splat(0x37fff001)), odd), 13);
    const half = v128.bitselect(subnormal, normal, i32x4.lt_u(magnitude, i32x4.splat(0x38800000)));
    const signed = v128.or(half, v128.and(i32x4.shr_u(bits, 16), i32x4.splat(0x8000)));
    v128.store64_lane(dst, i16x8.narrow_i32x4_u(signed, signed), 0);
    src += 16;
    dst += 8;
  }
}

/** Add one bias row (n) to each of `tokens` rows of x. */
export function addBias(x: usize, bias: usize, n: i32, tokens: i32): void {
  for (let t = 0; t < tokens; t++) {
    addInto(x, bias, n);
    x += <usize>n << 2;
  }
}

/** silu(g) * u in each lane; gates below -88 give zero. */
// @ts-ignore: decorator
@inline
function siluTimes(g: v128, u: v128): v128 {
  const negative = f32x4.neg(g);
  const value = f32x4.mul(f32x4.div(g, f32x4.add(f32x4.splat(1), exponential(negative))), u);
  return v128.andnot(value, f32x4.gt(negative, f32x4.splat(88)));
}

/** gate = silu(gate) * up over n floats. */
export function siluMultiply(gate: usize, up: usize, n: i32): void {
  let left = n;
  for (; left >= 4; left -= 4) {
    v128.store(gate, siluTimes(v128.load(gate), v128.load(up)));
    gate += 16;
    up += 16;
  }
  for (; left > 0; left--) {
    store<f32>(gate, f32x4.extract_lane(siluTimes(v128.load_splat<f32>(gate), v128.load_splat<f32>(up)), 0));
    gate += 4;
    up += 4;
  }
}

/**
 * Rotate the heads of x (tokens, heads, headSize) by the table's rows (tokens, half pairs of cos, sin). `step` is the
 * distance in floats between the two of a pair and `spread` between pairs: (1, 2) for llama's layout, (half, 1) for neox.
 */
export function rope(
  x: usize, table: usize, heads: i32, headSize: i32, half: i32, step: i32, spread: i32, tokens: i32,
): void {
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < half; i++) {
        const a = x + (<usize>(i * spread) << 2);
        const b = a + (<usize>step << 2);
        const c = load<f32>(table + (<usize>i << 3));
        const s = load<f32>(table + (<usize>i << 3), 4);
        const va = load<f32>(a);
        const vb = load<f32>(b);
        store<f32>(a, va * c - vb * s);
        store<f32>(b, va * s + vb * c);
      }
      x += <usize>headSize << 2;
    }
    table += <usize>half << 3;
  }
}
