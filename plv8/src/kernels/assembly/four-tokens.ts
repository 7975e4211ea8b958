// Tokens in fours against an oct: 8 rows x 4 tokens at a time, so that one weight load serves four tokens and one activation
// load eight rows. Each group of the oct meets all fours before the next one is touched: the weights come from memory as
// one steady stream however many tokens there are, which is a tenth faster than pauses between passes over an oct.
// What is summed so far stands in memory meanwhile. Integers of fewer than 8 bits are written out as int8 first, scales and
// minimums as floats, once for all tokens.
import {
  bitsOf, floatBytes, groupBytes, HALVES, integerBytes, MINIMUMS, minimumsAt, morePlace, offsetOf, passSupers, scaleColsOf, scalesAt,
  SUPER_SCALES,
} from './form';
import { storeOct } from './simd';

/** Fours of tokens that go along together. */
const MAX_FOURS: i32 = 8;
/** (MAX_FOURS, token, row) floats: the products of an oct as far as its groups are summed. */
const SUMS: usize = memory.data(1024, 16);
/** A group's integers as int8. */
const WIDE: usize = memory.data(256, 16);
/** A group's scales as floats, then its minimums. */
const FLOATS: usize = memory.data(64, 16);

/** acc + integers * (scale * x) in each lane. */
// @ts-ignore: decorator
@inline
export function addScaled(acc: v128, integers: v128, scale: v128, x: v128): v128 {
  return f32x4.add(acc, f32x4.mul(f32x4.convert_i32x4_s(integers), f32x4.mul(scale, x)));
}

/** A group's integers of fewer than 8 bits at w as int8, less what they are above their weights; where they are. */
// @ts-ignore: decorator
@inline
export function widenGroup(w: usize, form: i32): usize {
  const mask = i16x8.splat(15);
  const offset = i8x16.splat(<i8>offsetOf(form));
  const eights = scaleColsOf(form) >> 3;
  const more = bitsOf(form) - 4;
  const moreMask = i16x8.splat(more === 2 ? 3 : 1);
  let pair = 0;
  let lowBits = i16x8.splat(0), highBits = i16x8.splat(0);
  if (more > 0) {
    lowBits = v128.load(w + (<usize>eights << 5));
    highBits = v128.load(w + (<usize>eights << 5), 16);
  }
  let to = WIDE;
  let k = eights;
  do {
    let low = v128.load(w);
    let high = v128.load(w, 16);
    let j = 4;
    do {
      let a = v128.and(low, mask);
      let b = v128.and(high, mask);
      if (more > 0) {
        const place = morePlace(pair++, more);
        a = v128.or(a, i16x8.shl(v128.and(i16x8.shr_u(lowBits, place), moreMask), 4));
        b = v128.or(b, i16x8.shl(v128.and(i16x8.shr_u(highBits, place), moreMask), 4));
      }
      v128.store(to, i8x16.sub(i8x16.narrow_i16x8_u(a, b), offset));
      low = i16x8.shr_u(low, 4);
      high = i16x8.shr_u(high, 4);
      to += 16;
    } while (--j);
    w += 32;
  } while (--k);
  return WIDE;
}

/** The scales and minimums at w as floats; where they are. */
// @ts-ignore: decorator
@inline
function widenFloats(w: usize, form: i32): usize {
  if (!(form & (HALVES | SUPER_SCALES))) return w;
  v128.store(FLOATS, scalesAt(w, form, 0));
  v128.store(FLOATS, scalesAt(w, form, 1), 16);
  if (form & MINIMUMS) {
    v128.store(FLOATS, minimumsAt(w + floatBytes(form), form, 0), 32);
    v128.store(FLOATS, minimumsAt(w + floatBytes(form), form, 1), 48);
  }
  return FLOATS;
}

/** Four tokens against a group's int8 at w and floats at `floats`; adds to the 4 x 8 floats at `sums`. */
// @ts-ignore: decorator
@inline
function fourTokens(
  w: usize, floats: usize, x: usize, xs: usize, xm: usize, sums: usize, scaleCols: i32, minimums: bool,
): void {
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
  let low = v128.load(floats);
  let high = v128.load(floats, 16);
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
    low = v128.load(floats, 32);
    high = v128.load(floats, 48);
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

/** The tokens of one oct at w that stand in fours (activations.ts), all but the last tokens % 4; stores the first `rows` of its rows. */
// @ts-ignore: decorator
@inline
export function multiplyFours(
  w: usize, form: i32, x: usize, xs: usize, xm: usize, out: usize, rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 3;
  const sStride = <usize>blocks << 4;
  const scaleCols = scaleColsOf(form);
  const minimums = (form & MINIMUMS) !== 0;
  const integers = integerBytes(form);
  const step = groupBytes(form);
  // With a scale for 16 columns two groups meet one block of activations.
  const halves = scaleCols === 16;
  let left = tokens >> 2;
  while (left > 0) {
    const fours = min(left, MAX_FOURS);
    memory.fill(SUMS, 0, <usize>fours << 7);
    let wp = w, xp = x, sp = xs, mp = xm;
    let n = cols / scaleCols;
    do {
      wp = passSupers(wp, form, n);
      const weights = bitsOf(form) === 8 ? wp : widenGroup(wp, form);
      const floats = widenFloats(wp + integers, form);
      let xf = xp, sf = sp, mf = mp, sums = SUMS;
      let f = fours;
      do {
        fourTokens(weights, floats, xf, sf, mf, sums, scaleCols, minimums);
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
