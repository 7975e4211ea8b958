// Tokens in fours against an oct: 8 rows x 4 tokens at a time, so that one weight load serves four tokens and one activation
// load eight rows. Each block of the oct meets all fours before the next block is touched: the weights come from memory as
// one steady stream however many tokens there are, which is a tenth faster than pauses between passes over an oct.
// What is summed so far stands in memory meanwhile. q4 blocks are written out as q8 first, once for all tokens.
import { BLOCK, storeOct } from './simd';

/** Fours of tokens that go along together. */
const MAX_FOURS: i32 = 8;
/** (MAX_FOURS, token, row) floats: the products of an oct as far as its blocks are summed. */
const SUMS: usize = memory.data(1024, 16);
/** A q4 block as int8, with its scales and minimums. */
const WIDE: usize = memory.data(320, 16);

/** acc + integers * (scale * x) in each lane. */
// @ts-ignore: decorator
@inline
export function addScaled(acc: v128, integers: v128, scale: v128, x: v128): v128 {
  return f32x4.add(acc, f32x4.mul(f32x4.convert_i32x4_s(integers), f32x4.mul(scale, x)));
}

/** A q4 block at w as a q8 block at WIDE; `offset`: what a nibble is above its weight, in each byte. */
// @ts-ignore: decorator
@inline
function widenBlock(w: usize, offset: v128, minimums: bool): void {
  const mask = i16x8.splat(15);
  let to = WIDE;
  let k = 4;
  do {
    let low = v128.load(w);
    let high = v128.load(w, 16);
    let j = 4;
    do {
      const pair = i8x16.narrow_i16x8_u(v128.and(low, mask), v128.and(high, mask));
      v128.store(to, i8x16.sub(pair, offset));
      low = i16x8.shr_u(low, 4);
      high = i16x8.shr_u(high, 4);
      to += 16;
    } while (--j);
    w += 32;
  } while (--k);
  v128.store(to, v128.load(w));
  v128.store(to, v128.load(w, 16), 16);
  if (minimums) {
    v128.store(to, v128.load(w, 32), 32);
    v128.store(to, v128.load(w, 48), 48);
  }
}

/** Four tokens against the columns of an oct that share a scale; adds to the 4 x 8 floats at `sums`. */
// @ts-ignore: decorator
@inline
function fourTokens(w: usize, x: usize, xs: usize, xm: usize, sums: usize, scaleCols: i32, minimums: bool): void {
  let s0 = i32x4.splat(0), s1 = i32x4.splat(0), s2 = i32x4.splat(0), s3 = i32x4.splat(0);
  let t0 = i32x4.splat(0), t1 = i32x4.splat(0), t2 = i32x4.splat(0), t3 = i32x4.splat(0);
  let k = scaleCols >> 1;
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
  let a0 = addScaled(v128.load(sums), s0, low, scale);
  let b0 = addScaled(v128.load(sums, 16), t0, high, scale);
  scale = v128.load_splat<f32>(xs, 4);
  let a1 = addScaled(v128.load(sums, 32), s1, low, scale);
  let b1 = addScaled(v128.load(sums, 48), t1, high, scale);
  scale = v128.load_splat<f32>(xs, 8);
  let a2 = addScaled(v128.load(sums, 64), s2, low, scale);
  let b2 = addScaled(v128.load(sums, 80), t2, high, scale);
  scale = v128.load_splat<f32>(xs, 12);
  let a3 = addScaled(v128.load(sums, 96), s3, low, scale);
  let b3 = addScaled(v128.load(sums, 112), t3, high, scale);
  if (minimums) {
    low = v128.load(w, 32);
    high = v128.load(w, 48);
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
  }
  v128.store(sums, a0);
  v128.store(sums, b0, 16);
  v128.store(sums, a1, 32);
  v128.store(sums, b1, 48);
  v128.store(sums, a2, 64);
  v128.store(sums, b2, 80);
  v128.store(sums, a3, 96);
  v128.store(sums, b3, 112);
}

/**
 * The tokens of one oct at w that stand in fours (activations.ts), all but the last tokens % 4; stores the first `rows` of
 * its rows. step: bytes of the columns that share a scale, with their floats. nibbles: whether the oct is q4, with
 * `offset` (in each byte) above its weights.
 */
// @ts-ignore: decorator
@inline
export function multiplyFours(
  w: usize, step: usize, nibbles: bool, offset: v128, minimums: bool, x: usize, xs: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize, scaleCols: i32,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 3;
  const sStride = <usize>blocks << 4;
  // With a scale for 16 columns two of them meet one block of activations.
  const halves = scaleCols === 16;
  let left = tokens >> 2;
  while (left > 0) {
    const fours = min(left, MAX_FOURS);
    memory.fill(SUMS, 0, <usize>fours << 7);
    let wp = w, xp = x, sp = xs, mp = xm;
    let n = halves ? blocks << 1 : blocks;
    do {
      if (nibbles) widenBlock(wp, offset, minimums);
      const weights = nibbles ? WIDE : wp;
      let xf = xp, sf = sp, mf = mp, sums = SUMS;
      let f = fours;
      do {
        fourTokens(weights, xf, sf, mf, sums, scaleCols, minimums);
        xf += xStride;
        sf += sStride;
        mf += sStride;
        sums += 128;
      } while (--f);
      wp += step;
      xp += scaleCols << 3;
      if (!halves || n & 1) {
        sp += 16;
        mp += 16;
      }
    } while (--n);
    let sums = SUMS;
    for (let t = fours << 2; t > 0; t--) {
      storeOct(out, v128.load(sums), v128.load(sums, 16), rows);
      sums += 32;
      out += outStride;
    }
    x += <usize>fours * xStride;
    xs += <usize>fours * sStride;
    xm += <usize>fours * sStride;
    left -= fours;
  }
}
