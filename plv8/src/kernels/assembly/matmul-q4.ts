// Products with 4-bit matrices; everything as in matmul-q8.ts, but for the nibbles. A weight is nibble - offset, times its
// scale, plus its minimum: the offset is taken off the exact integer sum, as offset times the sum of the activations.
import { splitQuants } from './activations';
import { octBytesQ4 } from './layout';
import { fourTokensRelaxed, oneTokenRelaxed } from './matmul-q4-relaxed';
import { storeRows } from './simd';

/** Four tokens against half an oct, whose nibbles and floats begin at w. */
// @ts-ignore: decorator
@inline
function fourTokens(
  w: usize, offset: v128, x: usize, xs: usize, xi: usize, xm: usize, out: usize, outStride: usize, blocks: i32,
  rows: i32, minimums: bool,
): void {
  const mask = i16x8.splat(15);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b = blocks;
  do {
    let s0 = i32x4.splat(0), s1 = i32x4.splat(0), s2 = i32x4.splat(0), s3 = i32x4.splat(0);
    let k = 4;
    do {
      let packed = v128.load(w);
      let j = 4;
      do {
        const nibbles = v128.and(packed, mask);
        s0 = i32x4.add(s0, i32x4.dot_i16x8_s(nibbles, v128.load_splat<u32>(x)));
        s1 = i32x4.add(s1, i32x4.dot_i16x8_s(nibbles, v128.load_splat<u32>(x, 4)));
        s2 = i32x4.add(s2, i32x4.dot_i16x8_s(nibbles, v128.load_splat<u32>(x, 8)));
        s3 = i32x4.add(s3, i32x4.dot_i16x8_s(nibbles, v128.load_splat<u32>(x, 12)));
        packed = i16x8.shr_u(packed, 4);
        x += 16;
      } while (--j);
      w += 32;
    } while (--k);
    const scale = v128.load(w);
    w += 32;
    s0 = i32x4.sub(s0, i32x4.mul(offset, v128.load_splat<u32>(xi)));
    s1 = i32x4.sub(s1, i32x4.mul(offset, v128.load_splat<u32>(xi, 4)));
    s2 = i32x4.sub(s2, i32x4.mul(offset, v128.load_splat<u32>(xi, 8)));
    s3 = i32x4.sub(s3, i32x4.mul(offset, v128.load_splat<u32>(xi, 12)));
    a0 = f32x4.add(a0, f32x4.mul(f32x4.convert_i32x4_s(s0), f32x4.mul(scale, v128.load_splat<f32>(xs))));
    a1 = f32x4.add(a1, f32x4.mul(f32x4.convert_i32x4_s(s1), f32x4.mul(scale, v128.load_splat<f32>(xs, 4))));
    a2 = f32x4.add(a2, f32x4.mul(f32x4.convert_i32x4_s(s2), f32x4.mul(scale, v128.load_splat<f32>(xs, 8))));
    a3 = f32x4.add(a3, f32x4.mul(f32x4.convert_i32x4_s(s3), f32x4.mul(scale, v128.load_splat<f32>(xs, 12))));
    xs += 16;
    xi += 16;
    if (minimums) {
      const minimum = v128.load(w);
      a0 = f32x4.add(a0, f32x4.mul(minimum, v128.load_splat<f32>(xm)));
      a1 = f32x4.add(a1, f32x4.mul(minimum, v128.load_splat<f32>(xm, 4)));
      a2 = f32x4.add(a2, f32x4.mul(minimum, v128.load_splat<f32>(xm, 8)));
      a3 = f32x4.add(a3, f32x4.mul(minimum, v128.load_splat<f32>(xm, 12)));
      w += 32;
      xm += 16;
    }
  } while (--b);
  storeRows(out, a0, rows);
  storeRows(out + outStride, a1, rows);
  storeRows(out + 2 * outStride, a2, rows);
  storeRows(out + 3 * outStride, a3, rows);
}

/** One token against one oct; stores the first `rows` of its rows. */
// @ts-ignore: decorator
@inline
function oneToken(
  w: usize, offset: v128, x: usize, xs: usize, xi: usize, xm: usize, out: usize, blocks: i32, rows: i32,
  minimums: bool,
): void {
  const mask = i16x8.splat(15);
  let low = f32x4.splat(0), high = f32x4.splat(0);
  let b = blocks;
  do {
    let s0 = i32x4.splat(0), u0 = i32x4.splat(0), s1 = i32x4.splat(0), u1 = i32x4.splat(0);
    let k = 4;
    do {
      const first = v128.load(w);
      const second = v128.load(w, 16);
      const x0 = v128.load_splat<u32>(x);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.and(first, mask), x0));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.and(second, mask), x0));
      const x1 = v128.load_splat<u32>(x, 4);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(first, 4), mask), x1));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(second, 4), mask), x1));
      const x2 = v128.load_splat<u32>(x, 8);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(first, 8), mask), x2));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(second, 8), mask), x2));
      const x3 = v128.load_splat<u32>(x, 12);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(i16x8.shr_u(first, 12), x3));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(i16x8.shr_u(second, 12), x3));
      w += 32;
      x += 16;
    } while (--k);
    const above = i32x4.mul(offset, v128.load_splat<u32>(xi));
    const scale = v128.load_splat<f32>(xs);
    const sumLow = f32x4.convert_i32x4_s(i32x4.sub(i32x4.add(s0, u0), above));
    const sumHigh = f32x4.convert_i32x4_s(i32x4.sub(i32x4.add(s1, u1), above));
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

/** As matmulQ8; xi are the sums of the activations' integers, offset what a nibble is above its weight. */
export function matmulQ4(
  w: usize, minimums: bool, offset: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  const offsets = i32x4.splat(offset);
  const oct = octBytesQ4(cols, minimums);
  if (ASC_FEATURE_RELAXED_SIMD) x = splitQuants(x, cols, tokens);
  for (let left = rows; left > 0; left -= 8) {
    let xp = x, sp = xs, ip = xi, mp = xm, o = out;
    let t = tokens;
    for (; t >= 4; t -= 4) {
      if (ASC_FEATURE_RELAXED_SIMD) {
        fourTokensRelaxed(w, offsets, xp, sp, ip, mp, o, outStride, blocks, left, minimums);
        if (left > 4) fourTokensRelaxed(w + 16, offsets, xp, sp, ip, mp, o + 16, outStride, blocks, left - 4, minimums);
      } else {
        fourTokens(w, offsets, xp, sp, ip, mp, o, outStride, blocks, left, minimums);
        if (left > 4) fourTokens(w + 16, offsets, xp, sp, ip, mp, o + 16, outStride, blocks, left - 4, minimums);
      }
      xp += 4 * xStride;
      sp += 4 * sStride;
      ip += 4 * sStride;
      mp += 4 * sStride;
      o += 4 * outStride;
    }
    for (; t > 0; t--) {
      if (ASC_FEATURE_RELAXED_SIMD) oneTokenRelaxed(w, offsets, xp, sp, ip, mp, o, blocks, left, minimums);
      else oneToken(w, offsets, xp, sp, ip, mp, o, blocks, left, minimums);
      xp += xStride;
      sp += sStride;
      ip += sStride;
      mp += sStride;
      o += outStride;
    }
    w += oct;
    out += 32;
  }
}
