// Products with int8 matrices in the layout of layout.ts and activations in that of activations.ts.
//   A row's product with a token is a sum over blocks, in their order, of (exact integer sum) * (weight scale *
//   activation scale), and of minimum * (sum of the block's activations) where there are minimums. Both loops below do
//   just that, so a token's results do not depend on the others that go along with it.
//   Loop bodies are small on purpose. V8 emits all loads of a basic block first, so that an unrolled one spills them; it
//   unrolls such a loop itself; and every constant offset of a load takes a register, so pointers move by small steps.
import { octBytesQ8 } from './layout';
import { storeRows } from './simd';

/** acc + integers * (scale * x) in each lane. */
// @ts-ignore: decorator
@inline
function addScaled(acc: v128, integers: v128, scale: v128, x: v128): v128 {
  return f32x4.add(acc, f32x4.mul(f32x4.convert_i32x4_s(integers), f32x4.mul(scale, x)));
}

/** Four tokens against one oct: 8 rows x 4 tokens, one weight load for four tokens, one activation load for eight rows. */
// @ts-ignore: decorator
@inline
function fourTokens(
  w: usize, x: usize, xs: usize, xm: usize, out: usize, outStride: usize, blocks: i32, rows: i32, scaleCols: i32,
  minimums: bool,
): void {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
  const steps = scaleCols >> 1;
  // With a scale for 16 columns two of them meet one block of activations.
  const halves = scaleCols === 16;
  let n = halves ? blocks << 1 : blocks;
  do {
    let s0 = i32x4.splat(0), s1 = i32x4.splat(0), s2 = i32x4.splat(0), s3 = i32x4.splat(0);
    let t0 = i32x4.splat(0), t1 = i32x4.splat(0), t2 = i32x4.splat(0), t3 = i32x4.splat(0);
    let k = steps;
    do {
      const p = v128.load_ext<i8>(w);
      const q = v128.load_ext<i8>(w, 8);
      let pair = v128.load_splat<u32>(x);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(p, pair));
      t0 = i32x4.add(t0, i32x4.dot_i16x8_s(q, pair));
      pair = v128.load_splat<u32>(x, 4);
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(p, pair));
      t1 = i32x4.add(t1, i32x4.dot_i16x8_s(q, pair));
      pair = v128.load_splat<u32>(x, 8);
      s2 = i32x4.add(s2, i32x4.dot_i16x8_s(p, pair));
      t2 = i32x4.add(t2, i32x4.dot_i16x8_s(q, pair));
      pair = v128.load_splat<u32>(x, 12);
      s3 = i32x4.add(s3, i32x4.dot_i16x8_s(p, pair));
      t3 = i32x4.add(t3, i32x4.dot_i16x8_s(q, pair));
      w += 16;
      x += 16;
    } while (--k);
    let low = v128.load(w);
    let high = v128.load(w, 16);
    let scale = v128.load_splat<f32>(xs);
    a0 = addScaled(a0, s0, low, scale);
    b0 = addScaled(b0, t0, high, scale);
    scale = v128.load_splat<f32>(xs, 4);
    a1 = addScaled(a1, s1, low, scale);
    b1 = addScaled(b1, t1, high, scale);
    scale = v128.load_splat<f32>(xs, 8);
    a2 = addScaled(a2, s2, low, scale);
    b2 = addScaled(b2, t2, high, scale);
    scale = v128.load_splat<f32>(xs, 12);
    a3 = addScaled(a3, s3, low, scale);
    b3 = addScaled(b3, t3, high, scale);
    w += 32;
    if (!halves || n & 1) xs += 16;
    if (minimums) {
      low = v128.load(w);
      high = v128.load(w, 16);
      let sum = v128.load_splat<f32>(xm);
      a0 = f32x4.add(a0, f32x4.mul(low, sum));
      b0 = f32x4.add(b0, f32x4.mul(high, sum));
      sum = v128.load_splat<f32>(xm, 4);
      a1 = f32x4.add(a1, f32x4.mul(low, sum));
      b1 = f32x4.add(b1, f32x4.mul(high, sum));
      sum = v128.load_splat<f32>(xm, 8);
      a2 = f32x4.add(a2, f32x4.mul(low, sum));
      b2 = f32x4.add(b2, f32x4.mul(high, sum));
      sum = v128.load_splat<f32>(xm, 12);
      a3 = f32x4.add(a3, f32x4.mul(low, sum));
      b3 = f32x4.add(b3, f32x4.mul(high, sum));
      w += 32;
      xm += 16;
    }
  } while (--n);
  storeOct(out, a0, b0, rows);
  storeOct(out + outStride, a1, b1, rows);
  storeOct(out + 2 * outStride, a2, b2, rows);
  storeOct(out + 3 * outStride, a3, b3, rows);
}

/** Store the first `rows` of eight values. */
// @ts-ignore: decorator
@inline
function storeOct(out: usize, low: v128, high: v128, rows: i32): void {
  storeRows(out, low, rows);
  if (rows > 4) storeRows(out + 16, high, rows - 4);
}

/** One token against one oct; stores the first `rows` of its rows. */
// @ts-ignore: decorator
@inline
function oneToken(
  w: usize, x: usize, xs: usize, xm: usize, out: usize, blocks: i32, rows: i32, scaleCols: i32, minimums: bool,
): void {
  let low = f32x4.splat(0), high = f32x4.splat(0);
  const steps = scaleCols >> 2;
  const halves = scaleCols === 16;
  let n = halves ? blocks << 1 : blocks;
  do {
    let s0 = i32x4.splat(0), u0 = i32x4.splat(0), s1 = i32x4.splat(0), u1 = i32x4.splat(0);
    let k = steps;
    do {
      const x0 = v128.load_splat<u32>(x);
      s0 = i32x4.add(s0, i32x4.dot_i16x8_s(v128.load_ext<i8>(w), x0));
      s1 = i32x4.add(s1, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 8), x0));
      const x1 = v128.load_splat<u32>(x, 4);
      u0 = i32x4.add(u0, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 16), x1));
      u1 = i32x4.add(u1, i32x4.dot_i16x8_s(v128.load_ext<i8>(w, 24), x1));
      w += 32;
      x += 8;
    } while (--k);
    const scale = v128.load_splat<f32>(xs);
    low = addScaled(low, i32x4.add(s0, u0), v128.load(w), scale);
    high = addScaled(high, i32x4.add(s1, u1), v128.load(w, 16), scale);
    w += 32;
    if (!halves || n & 1) xs += 4;
    if (minimums) {
      const sum = v128.load_splat<f32>(xm);
      low = f32x4.add(low, f32x4.mul(v128.load(w), sum));
      high = f32x4.add(high, f32x4.mul(v128.load(w, 16), sum));
      w += 32;
      xm += 4;
    }
  } while (--n);
  storeOct(out, low, high, rows);
}

/**
 * out[t][row] = (matrix row) . (token t) for rows [0, rows) and tokens [0, tokens). w begins at an oct; x, xs, xm are the
 * activations' integers, scales and scaled sums. outStride: bytes between tokens in out. minimums: whether the matrix has
 * them. scaleCols: columns that share a weight scale, 32 or 16.
 */
export function matmulQ8(
  w: usize, minimums: bool, x: usize, xs: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize, scaleCols: i32,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  const oct = octBytesQ8(cols, scaleCols, minimums);
  for (let left = rows; left > 0; left -= 8) {
    let xp = x, sp = xs, mp = xm, o = out;
    let t = tokens;
    for (; t >= 4; t -= 4) {
      fourTokens(w, xp, sp, mp, o, outStride, blocks, left, scaleCols, minimums);
      xp += 4 * xStride;
      sp += 4 * sStride;
      mp += 4 * sStride;
      o += 4 * outStride;
    }
    for (; t > 0; t--) {
      oneToken(w, xp, sp, mp, o, blocks, left, scaleCols, minimums);
      xp += xStride;
      sp += sStride;
      mp += sStride;
      o += outStride;
    }
    w += oct;
    out += 32;
  }
}
