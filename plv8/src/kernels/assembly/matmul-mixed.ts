// One token against an oct of 5 or 6 bits: the nibbles as in matmul-nibbles.ts, each with its higher bits put above it. Where 32
// columns share a scale the offset is taken off the exact integer sum, as there, and where 16 do off each integer, as sums of activations
// are of 32. So a row's product is the same float as everywhere.
import { bitsOf, floatBytes, MINIMUMS, minimumsAt, offsetOf, passSupers, scaleColsOf, scalesAt } from './form';
import { addScaled } from './four-tokens';
import { storeOct } from './simd';

/** Stores the first `rows` of the oct's rows. */
// @ts-ignore: decorator
@inline
export function mixedWithOneToken(
  w: usize, form: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize, cols: i32, rows: i32,
): void {
  const scaleCols = scaleColsOf(form);
  const halves = scaleCols === 16;
  const more = bitsOf(form) - 4;
  const floats = floatBytes(form);
  const negated = i32x4.splat(-offsetOf(form));
  const offset = i16x8.splat(<i16>offsetOf(form));
  // Masks that V8 cannot know stay in registers (matmul-nibbles.ts).
  const zero = cols >> 30;
  const mask = i16x8.splat(<i16>(0x0f | zero));
  const moreMask = i16x8.splat(<i16>((more === 2 ? 0x30 : 0x10) | zero));
  let low = f32x4.splat(0), high = f32x4.splat(0);
  let n = cols / scaleCols;
  do {
    w = passSupers(w, form, n);
    let s0 = halves ? i32x4.splat(0) : i32x4.mul(negated, v128.load_splat<u32>(xi));
    let s1 = s0;
    // Higher bits, four above their places.
    let a = v128.load(w + <usize>(scaleCols << 2));
    let b = v128.load(w + <usize>(scaleCols << 2), 16);
    let k = scaleCols >> 3;
    do {
      let first = v128.load(w);
      let second = v128.load(w, 16);
      let j = 4;
      do {
        let p = v128.or(v128.and(first, mask), v128.and(i16x8.shl(a, 4), moreMask));
        let q = v128.or(v128.and(second, mask), v128.and(i16x8.shl(b, 4), moreMask));
        if (halves) {
          p = i16x8.sub(p, offset);
          q = i16x8.sub(q, offset);
        }
        const pair = v128.load_splat<u32>(x);
        s0 = i32x4.add(s0, i32x4.dot_i16x8_s(p, pair));
        s1 = i32x4.add(s1, i32x4.dot_i16x8_s(q, pair));
        first = i16x8.shr_u(first, 4);
        second = i16x8.shr_u(second, 4);
        a = i16x8.shr_u(a, more);
        b = i16x8.shr_u(b, more);
        x += 4;
      } while (--j);
      w += 32;
    } while (--k);
    w += <usize>(more * scaleCols);
    const scale = v128.load_splat<f32>(xs);
    low = addScaled(low, s0, scalesAt(w, form, 0), scale);
    high = addScaled(high, s1, scalesAt(w, form, 1), scale);
    w += floats;
    if (!halves || n & 1) {
      xs += 4;
      xi += 4;
    }
    if (form & MINIMUMS) {
      const sum = v128.load_splat<f32>(xm);
      low = f32x4.add(low, f32x4.mul(minimumsAt(w, form, 0), sum));
      high = f32x4.add(high, f32x4.mul(minimumsAt(w, form, 1), sum));
      w += floats;
      xm += 4;
    }
  } while (--n);
  storeOct(out, low, high, rows);
}
