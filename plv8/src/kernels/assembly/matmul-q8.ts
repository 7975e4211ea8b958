// Products with int8 matrices in the layout of layout.ts and activations in that of activations.ts.
//   A row's product with a token is a sum over blocks, in their order, of (exact integer sum) * (weight scale *
//   activation scale), and of minimum * (sum of the block's activations) where there are minimums. The loops below and
//   in four-tokens.ts do just that, so a token's results do not depend on the others that go along with it.
//   Loop bodies are small on purpose. V8 emits all loads of a basic block first, so that an unrolled one spills them; it
//   unrolls such a loop itself; and every constant offset of a load takes a register, so pointers move by small steps.
import { addScaled, multiplyFours } from './four-tokens';
import { octBytesQ8 } from './layout';
import { storeOct } from './simd';

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
  const inFours = <usize>(tokens & ~3);
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  const oct = octBytesQ8(cols, scaleCols, minimums);
  const step = octBytesQ8(scaleCols, scaleCols, minimums);
  const none = i8x16.splat(0);
  for (let left = rows; left > 0; left -= 8) {
    multiplyFours(w, step, false, none, minimums, x, xs, xm, out, left, cols, tokens, outStride, scaleCols);
    let xp = x + inFours * xStride, sp = xs + inFours * sStride, mp = xm + inFours * sStride;
    let o = out + inFours * outStride;
    for (let t = tokens & 3; t > 0; t--) {
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
