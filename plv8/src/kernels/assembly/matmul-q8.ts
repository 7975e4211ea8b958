// Products with int8 matrices in the layout of layout.ts and activations in that of activations.ts.
//   A row's product with a token is a sum over blocks, in their order, of (exact integer sum) * (weight scale *
//   activation scale); minimums are summed the same way and added at the end. Both loops below do just that, so a token's
//   results do not depend on the others that go along with it.
//   Loop bodies are small on purpose: V8 emits all loads of a basic block first, and an unrolled one spills them.
import { storeRows } from './simd';

/** Four tokens against half an oct: 4 rows x 4 tokens, one weight load for four tokens. */
// @ts-ignore: decorator
@inline
function fourTokens(
  w: usize, ws: usize, wm: usize, x: usize, xs: usize, xm: usize, out: usize, outStride: usize, blocks: i32, rows: i32,
  scaleCols: i32,
): void {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  const steps = scaleCols >> 2;
  // With a scale for 16 columns two of them meet one block of activations.
  const halves = scaleCols === 16;
  let b = halves ? blocks << 1 : blocks;
  do {
    let s0 = i32x4.splat(0), s1 = i32x4.splat(0), s2 = i32x4.splat(0), s3 = i32x4.splat(0);
    let k = steps;
    do {
      const first = v128.load_ext<i8>(w);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(first, v128.load_splat<u32>(x)));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(first, v128.load_splat<u32>(x, 4)));
      s2 = i32x4.add(s2, i32x4.dot_i16x8_s(first, v128.load_splat<u32>(x, 8)));
      s3 = i32x4.add(s3, i32x4.dot_i16x8_s(first, v128.load_splat<u32>(x, 12)));
      const second = v128.load_ext<i8>(w, 16);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(second, v128.load_splat<u32>(x, 16)));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(second, v128.load_splat<u32>(x, 20)));
      s2 = i32x4.add(s2, i32x4.dot_i16x8_s(second, v128.load_splat<u32>(x, 24)));
      s3 = i32x4.add(s3, i32x4.dot_i16x8_s(second, v128.load_splat<u32>(x, 28)));
      w += 32;
      x += 32;
    } while (--k);
    const scale = v128.load(ws);
    a0 = f32x4.add(a0, f32x4.mul(f32x4.convert_i32x4_s(s0), f32x4.mul(scale, v128.load_splat<f32>(xs))));
    a1 = f32x4.add(a1, f32x4.mul(f32x4.convert_i32x4_s(s1), f32x4.mul(scale, v128.load_splat<f32>(xs, 4))));
    a2 = f32x4.add(a2, f32x4.mul(f32x4.convert_i32x4_s(s2), f32x4.mul(scale, v128.load_splat<f32>(xs, 8))));
    a3 = f32x4.add(a3, f32x4.mul(f32x4.convert_i32x4_s(s3), f32x4.mul(scale, v128.load_splat<f32>(xs, 12))));
    ws += 32;
    if (!halves || b & 1) xs += 16;
  } while (--b);
  if (wm) {
    let m0 = f32x4.splat(0), m1 = f32x4.splat(0), m2 = f32x4.splat(0), m3 = f32x4.splat(0);
    b = blocks;
    do {
      const minimum = v128.load(wm);
      m0 = f32x4.add(m0, f32x4.mul(minimum, v128.load_splat<f32>(xm)));
      m1 = f32x4.add(m1, f32x4.mul(minimum, v128.load_splat<f32>(xm, 4)));
      m2 = f32x4.add(m2, f32x4.mul(minimum, v128.load_splat<f32>(xm, 8)));
      m3 = f32x4.add(m3, f32x4.mul(minimum, v128.load_splat<f32>(xm, 12)));
      wm += 32;
      xm += 16;
    } while (--b);
    a0 = f32x4.add(a0, m0);
    a1 = f32x4.add(a1, m1);
    a2 = f32x4.add(a2, m2);
    a3 = f32x4.add(a3, m3);
  }
  storeRows(out, a0, rows);
  storeRows(out + outStride, a1, rows);
  storeRows(out + 2 * outStride, a2, rows);
  storeRows(out + 3 * outStride, a3, rows);
}

/** One token against one oct; stores the first `rows` of its rows. */
// @ts-ignore: decorator
@inline
function oneToken(
  w: usize, ws: usize, wm: usize, x: usize, xs: usize, xm: usize, out: usize, blocks: i32, rows: i32, scaleCols: i32,
): void {
  let low = f32x4.splat(0), high = f32x4.splat(0);
  const steps = scaleCols >> 3;
  const halves = scaleCols === 16;
  let b = halves ? blocks << 1 : blocks;
  do {
    let s0 = i32x4.splat(0), u0 = i32x4.splat(0), s1 = i32x4.splat(0), u1 = i32x4.splat(0);
    let k = steps;
    do {
      const pairs = v128.load(x);
      const x0 = v128.shuffle<i32>(pairs, pairs, 0, 0, 0, 0);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.load_ext<i8>(w), x0));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 8), x0));
      const x1 = v128.shuffle<i32>(pairs, pairs, 1, 1, 1, 1);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 16), x1));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 24), x1));
      const x2 = v128.shuffle<i32>(pairs, pairs, 2, 2, 2, 2);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 32), x2));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 40), x2));
      const x3 = v128.shuffle<i32>(pairs, pairs, 3, 3, 3, 3);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 48), x3));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 56), x3));
      w += 64;
      x += 16;
    } while (--k);
    const scale = v128.load_splat<f32>(xs);
    low = f32x4.add(low, f32x4.mul(f32x4.convert_i32x4_s(i32x4.add(s0, u0)), f32x4.mul(v128.load(ws), scale)));
    high = f32x4.add(high, f32x4.mul(f32x4.convert_i32x4_s(i32x4.add(s1, u1)), f32x4.mul(v128.load(ws, 16), scale)));
    ws += 32;
    if (!halves || b & 1) xs += 4;
  } while (--b);
  if (wm) {
    let m0 = f32x4.splat(0), m1 = f32x4.splat(0);
    b = blocks;
    do {
      const sum = v128.load_splat<f32>(xm);
      m0 = f32x4.add(m0, f32x4.mul(v128.load(wm), sum));
      m1 = f32x4.add(m1, f32x4.mul(v128.load(wm, 16), sum));
      wm += 32;
      xm += 4;
    } while (--b);
    low = f32x4.add(low, m0);
    high = f32x4.add(high, m1);
  }
  storeRows(out, low, rows);
  if (rows > 4) storeRows(out + 16, high, rows - 4);
}

/**
 * out[t][row] = (matrix row) . (token t) for rows [0, rows) and tokens [0, tokens). w begins at an oct; xm are the scaled
 * sums. outStride: bytes between tokens in out. wm is 0 for matrices without
 * minimums. scaleCols: columns that share a weight scale, 32 or 16.
 */
export function matmulQ8(
  w: usize, ws: usize, wm: usize, x: usize, xs: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize, scaleCols: i32,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  for (let r = 0; r < rows; r += 8) {
    const left = rows - r;
    let xp = x, sp = xs, mp = xm, o = out;
    let t = tokens;
    for (; t >= 4; t -= 4) {
      fourTokens(w, ws, wm, xp, sp, mp, o, outStride, blocks, left, scaleCols);
      if (left > 4) fourTokens(w + 8, ws + 16, wm ? wm + 16 : 0, xp, sp, mp, o + 16, outStride, blocks, left - 4, scaleCols);
      xp += 4 * xStride;
      sp += 4 * sStride;
      mp += 4 * sStride;
      o += 4 * outStride;
    }
    for (; t > 0; t--) {
      oneToken(w, ws, wm, xp, sp, mp, o, blocks, left, scaleCols);
      xp += xStride;
      sp += sStride;
      mp += sStride;
      o += outStride;
    }
    w += <usize>cols << 3;
    ws += (scaleCols === 16 ? 16 : 8) * sStride;
    if (wm) wm += 8 * sStride;
    out += 32;
  }
}
