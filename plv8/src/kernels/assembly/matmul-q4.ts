// Products with 4-bit matrices. A weight is nibble - offset, times its scale, plus its minimum.
//   A few tokens read the nibbles themselves: the offset is taken off the exact integer sum, as offset times the sum of the
//   activations. More tokens share the work of writing an oct as int8 into a panel, which the int8 kernel then multiplies
//   with all of them. Either way a row's product is the same integers in the same order of blocks, and so the same float.
//   The relaxed build has loops of its own for both (matmul-q4-relaxed.ts).
import { splitQuants } from './activations';
import { octBytesQ4 } from './layout';
import { octRelaxed } from './matmul-q4-relaxed';
import { matmulQ8 } from './matmul-q8';
import { BLOCK, storeRows } from './simd';

/** Tokens for which writing a panel costs less than taking the nibbles apart for each. */
const PANEL_TOKENS: i32 = 4;

/** Weights of a q4 oct as a q8 oct at `panel`: one column pair of eight rows after the other, then the floats as they are. */
// @ts-ignore: decorator
@inline
function widenOct(w: usize, panel: usize, blocks: i32, minimums: bool, offset: i32): void {
  const mask = i16x8.splat(15);
  const offsets = i8x16.splat(<i8>offset);
  let b = blocks;
  do {
    let k = 4;
    do {
      let low = v128.load(w);
      let high = v128.load(w, 16);
      let j = 4;
      do {
        const pair = i8x16.narrow_i16x8_u(v128.and(low, mask), v128.and(high, mask));
        v128.store(panel, i8x16.sub(pair, offsets));
        low = i16x8.shr_u(low, 4);
        high = i16x8.shr_u(high, 4);
        panel += 16;
      } while (--j);
      w += 32;
    } while (--k);
    let n = minimums ? 4 : 2;
    do {
      v128.store(panel, v128.load(w));
      w += 16;
      panel += 16;
    } while (--n);
  } while (--b);
}

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
  const mask = i16x8.splat(0x0f);
  const mask16 = i16x8.splat(0xf0);
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
    const sumLow = f32x4.convert_i32x4_s(i32x4.add(s0, i32x4.shr_s(u0, 4)));
    const sumHigh = f32x4.convert_i32x4_s(i32x4.add(s1, i32x4.shr_s(u1, 4)));
    low = f32x4.add(low, f32x4.mul(sumLow, f32x4.mul(v128.load(w), scale)));
    high = f32x4.add(high, f32x4.mul(sumHigh, f32x4.mul(v128.load(w, 16), scale)));
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
  storeRows(out, low, rows);
  if (rows > 4) storeRows(out + 16, high, rows - 4);
}

/**
 * As matmulQ8; xi are the sums of the activations' integers, offset what a nibble is above its weight. panel: room for
 * an oct of int8 with its floats.
 */
export function matmulQ4(
  w: usize, minimums: bool, offset: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize, panel: usize,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  const negated = i32x4.splat(-offset);
  const oct = octBytesQ4(cols, minimums);
  for (let left = rows; left > 0; left -= 8) {
    if (ASC_FEATURE_RELAXED_SIMD) {
      const split = splitQuants(x, cols, tokens);
      octRelaxed(w, minimums, i32x4.splat(offset), split, xs, xi, xm, out, left, cols, tokens, outStride);
    } else if (tokens >= PANEL_TOKENS) {
      widenOct(w, panel, blocks, minimums, offset);
      matmulQ8(panel, minimums, x, xs, xm, out, min(left, 8), cols, tokens, outStride, BLOCK);
    } else {
      let xp = x, sp = xs, ip = xi, mp = xm, o = out;
      for (let t = tokens; t > 0; t--) {
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
