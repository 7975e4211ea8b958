// Products with 4-bit matrices. A weight is nibble - offset, times its scale, plus its minimum.
//   Single tokens read the nibbles themselves: the offset is taken off the exact integer sum, as offset times the sum of the
//   activations. Tokens in fours share blocks written out as int8 (four-tokens.ts). Either way a row's product is the same
//   integers in the same order of blocks, and so the same float.
//   The relaxed build has loops of its own for both (matmul-q4-relaxed.ts).
import { splitQuants } from './activations';
import { addScaled, multiplyFours } from './four-tokens';
import { octBytesQ4 } from './layout';
import { octRelaxed } from './matmul-q4-relaxed';
import { BLOCK, storeOct } from './simd';

/**
 * One token against one oct; stores the first `rows` of its rows. Every second nibble is left where it is, 16 times as
 * large, with a sum of its own: a mask takes one operation, a shift and a mask two. `negated`: -offset in each lane.
 */
// @ts-ignore: decorator
@inline
function oneToken(
  w: usize, negated: v128, x: usize, xs: usize, xi: usize, xm: usize, out: usize, blocks: i32, rows: i32,
  minimums: bool,
): void {
  // V8 13.6 makes a constant anew wherever it is used, in four instructions: masks that it cannot know stay in registers.
  const zero = blocks >> 30;
  const mask = i16x8.splat(<i16>(0x0f | zero));
  const mask16 = i16x8.splat(<i16>(0xf0 | zero));
  let low = f32x4.splat(0), high = f32x4.splat(0);
  let b = blocks;
  do {
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
    low = addScaled(low, i32x4.add(s0, i32x4.shr_s(u0, 4)), v128.load(w), scale);
    high = addScaled(high, i32x4.add(s1, i32x4.shr_s(u1, 4)), v128.load(w, 16), scale);
    w += 32;
    xs += 4;
    xi += 4;
    if (minimums) {
      const sum = v128.load_splat<f32>(xm);
      low = f32x4.add(low, f32x4.mul(v128.load(w), sum));
      high = f32x4.add(high, f32x4.mul(v128.load(w, 16), sum));
      w += 32;
      xm += 4;
    }
  } while (--b);
  storeOct(out, low, high, rows);
}

/** As matmulQ8; xi are the sums of the activations' integers, offset what a nibble is above its weight. */
export function matmulQ4(
  w: usize, minimums: bool, offset: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const blocks = cols >> 5;
  const inFours = <usize>(tokens & ~3);
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  const offsets = i8x16.splat(<i8>offset);
  const negated = i32x4.splat(-offset);
  const oct = octBytesQ4(cols, minimums);
  const step = octBytesQ4(BLOCK, minimums);
  for (let left = rows; left > 0; left -= 8) {
    if (ASC_FEATURE_RELAXED_SIMD) {
      const split = splitQuants(x, cols, tokens);
      octRelaxed(w, minimums, i32x4.splat(offset), split, xs, xi, xm, out, left, cols, tokens, outStride);
    } else {
      multiplyFours(w, step, true, offsets, minimums, x, xs, xm, out, left, cols, tokens, outStride, BLOCK);
      let xp = x + inFours * xStride, sp = xs + inFours * sStride;
      let ip = xi + inFours * sStride, mp = xm + inFours * sStride;
      let o = out + inFours * outStride;
      for (let t = tokens & 3; t > 0; t--) {
        oneToken(w, negated, xp, sp, ip, mp, o, blocks, left, minimums);
        xp += xStride;
        sp += sStride;
        ip += sStride;
        mp += sStride;
        o += outStride;
      }
    }
    w += oct;
    out += 32;
  }
}
