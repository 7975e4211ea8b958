// One token against an oct of 4 bits (32 columns a scale). A weight is nibble - offset, times its scale, plus its minimum: the
// nibbles themselves are read, and the offset is taken off the exact integer sum, as offset times the sum of the activations.
// A row's product is the same integers in the same order of groups as in matmul-bytes.ts and four-tokens.ts, and so the
// same float. The relaxed build has loops of its own (matmul-nibbles-relaxed.ts).
import { floatBytes, MINIMUMS, minimumsAt, offsetOf, passSupers, scalesAt } from './form';
import { addScaled } from './four-tokens';
import { storeOct } from './simd';

/**
 * One token against one oct; stores the first `rows` of its rows. Every second nibble is left where it is, 16 times as
 * large, with a sum of its own: a mask takes one operation, a shift and a mask two.
 */
// @ts-ignore: decorator
@inline
export function nibblesWithOneToken(
  w: usize, form: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize, cols: i32, rows: i32,
): void {
  const blocks = cols >> 5;
  const negated = i32x4.splat(-offsetOf(form));
  const floats = floatBytes(form);
  // V8 13.6 makes a constant anew wherever it is used, in four instructions: masks that it cannot know stay in registers.
  const zero = blocks >> 30;
  const mask = i16x8.splat(<i16>(0x0f | zero));
  const mask16 = i16x8.splat(<i16>(0xf0 | zero));
  let low = f32x4.splat(0), high = f32x4.splat(0);
  let b = blocks;
  do {
    w = passSupers(w, form, b);
    let s0 = i32x4.mul(negated, v128.load_splat<u32>(xi)), u0 = i32x4.splat(0);
    let s1 = s0, u1 = i32x4.splat(0);
    let k = 4;
    do {
      let first = v128.load(w);
      let second = v128.load(w, 16);
      const x0 = v128.load_splat<u32>(x);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.and(first, mask), x0));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.and(second, mask), x0));
      const x1 = v128.load_splat<u32>(x, 4);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(v128.and(first, mask16), x1));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(v128.and(second, mask16), x1));
      first = i16x8.shr_u(first, 8);
      second = i16x8.shr_u(second, 8);
      const x2 = v128.load_splat<u32>(x, 8);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.and(first, mask), x2));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.and(second, mask), x2));
      const x3 = v128.load_splat<u32>(x, 12);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(v128.and(first, mask16), x3));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(v128.and(second, mask16), x3));
      w += 32;
      x += 16;
    } while (--k);
    const scale = v128.load_splat<f32>(xs);
    low = addScaled(low, i32x4.add(s0, i32x4.shr_s(u0, 4)), scalesAt(w, form, 0), scale);
    high = addScaled(high, i32x4.add(s1, i32x4.shr_s(u1, 4)), scalesAt(w, form, 1), scale);
    w += floats;
    xs += 4;
    xi += 4;
    if (form & MINIMUMS) {
      const sum = v128.load_splat<f32>(xm);
      low = f32x4.add(low, f32x4.mul(minimumsAt(w, form, 0), sum));
      high = f32x4.add(high, f32x4.mul(minimumsAt(w, form, 1), sum));
      w += floats;
      xm += 4;
    }
  } while (--b);
  storeOct(out, low, high, rows);
}
