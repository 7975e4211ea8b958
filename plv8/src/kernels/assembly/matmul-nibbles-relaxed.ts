// The loops over octs of 4 bits for the relaxed build, with products of bytes: an activation is 256 * (its high byte) + (its low
// byte), both signed, and a nibble fits into the seven bits in which relaxed_dot_i8x16_i7x16_add is exact. So the integer
// sums, and with them all results, are those of the plain build bit for bit. x points to the split form of activations.ts.
import { floatBytes, MINIMUMS, minimumsAt, offsetOf, passSupers, scalesAt } from './form';
import { storeOct, storeRows } from './simd';

/** Four products of an activation's bytes with nibbles, added up in each lane. */
// @ts-ignore: decorator
@inline
function addDots(sums: v128, bytes: v128, nibbles: v128): v128 {
  return i32x4.relaxed_dot_i8x16_i7x16_add_s(bytes, nibbles, sums);
}

/** Sums of whole activations out of those of their high and low bytes, less `offset` times the activations' sum at xi. */
// @ts-ignore: decorator
@inline
function joinSums(high: v128, low: v128, offset: v128, xi: usize): v128 {
  return i32x4.sub(i32x4.add(i32x4.shl(high, 8), low), i32x4.mul(offset, v128.load_splat<u32>(xi)));
}

/** acc + integers * (scale * x) in each lane. */
// @ts-ignore: decorator
@inline
function addScaled(acc: v128, integers: v128, scale: v128, x: usize): v128 {
  return f32x4.add(acc, f32x4.mul(f32x4.convert_i32x4_s(integers), f32x4.mul(scale, v128.load_splat<f32>(x))));
}

/** Four tokens against four rows of the oct at w, its first or (half = 1) its last. */
// @ts-ignore: decorator
@inline
function fourTokens(
  w: usize, form: i32, half: usize, x: usize, xs: usize, xi: usize, xm: usize, out: usize, outStride: usize, blocks: i32,
  rows: i32,
): void {
  const offset = i32x4.splat(offsetOf(form));
  const floats = floatBytes(form);
  const mask = i8x16.splat(15);
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b = blocks;
  do {
    w = passSupers(w, form, b);
    let h0 = i32x4.splat(0), h1 = i32x4.splat(0), h2 = i32x4.splat(0), h3 = i32x4.splat(0);
    let l0 = i32x4.splat(0), l1 = i32x4.splat(0), l2 = i32x4.splat(0), l3 = i32x4.splat(0);
    let k = 4;
    do {
      let packed = v128.load(w + 16 * half);
      let j = 2;
      do {
        const nibbles = v128.and(packed, mask);
        h0 = addDots(h0, v128.load_splat<u32>(x), nibbles);
        h1 = addDots(h1, v128.load_splat<u32>(x, 4), nibbles);
        h2 = addDots(h2, v128.load_splat<u32>(x, 8), nibbles);
        h3 = addDots(h3, v128.load_splat<u32>(x, 12), nibbles);
        l0 = addDots(l0, v128.load_splat<u32>(x, 16), nibbles);
        l1 = addDots(l1, v128.load_splat<u32>(x, 20), nibbles);
        l2 = addDots(l2, v128.load_splat<u32>(x, 24), nibbles);
        l3 = addDots(l3, v128.load_splat<u32>(x, 28), nibbles);
        packed = i16x8.shr_u(packed, 4);
        x += 32;
      } while (--j);
      w += 32;
    } while (--k);
    const scale = scalesAt(w, form, half);
    w += floats;
    a0 = addScaled(a0, joinSums(h0, l0, offset, xi), scale, xs);
    a1 = addScaled(a1, joinSums(h1, l1, offset, xi + 4), scale, xs + 4);
    a2 = addScaled(a2, joinSums(h2, l2, offset, xi + 8), scale, xs + 8);
    a3 = addScaled(a3, joinSums(h3, l3, offset, xi + 12), scale, xs + 12);
    xs += 16;
    xi += 16;
    if (form & MINIMUMS) {
      const minimum = minimumsAt(w, form, half);
      a0 = f32x4.add(a0, f32x4.mul(minimum, v128.load_splat<f32>(xm)));
      a1 = f32x4.add(a1, f32x4.mul(minimum, v128.load_splat<f32>(xm, 4)));
      a2 = f32x4.add(a2, f32x4.mul(minimum, v128.load_splat<f32>(xm, 8)));
      a3 = f32x4.add(a3, f32x4.mul(minimum, v128.load_splat<f32>(xm, 12)));
      w += floats;
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
  w: usize, form: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize, blocks: i32, rows: i32,
): void {
  const offset = i32x4.splat(offsetOf(form));
  const floats = floatBytes(form);
  const mask = i8x16.splat(15);
  let first = f32x4.splat(0), second = f32x4.splat(0);
  let b = blocks;
  do {
    w = passSupers(w, form, b);
    let h0 = i32x4.splat(0), l0 = i32x4.splat(0), h1 = i32x4.splat(0), l1 = i32x4.splat(0);
    let k = 4;
    do {
      const p = v128.load(w);
      const q = v128.load(w, 16);
      let nibbles = v128.and(p, mask);
      let others = v128.and(q, mask);
      let bytes = v128.load_splat<u32>(x);
      h0 = addDots(h0, bytes, nibbles);
      h1 = addDots(h1, bytes, others);
      bytes = v128.load_splat<u32>(x, 4);
      l0 = addDots(l0, bytes, nibbles);
      l1 = addDots(l1, bytes, others);
      nibbles = v128.and(i16x8.shr_u(p, 4), mask);
      others = v128.and(i16x8.shr_u(q, 4), mask);
      bytes = v128.load_splat<u32>(x, 8);
      h0 = addDots(h0, bytes, nibbles);
      h1 = addDots(h1, bytes, others);
      bytes = v128.load_splat<u32>(x, 12);
      l0 = addDots(l0, bytes, nibbles);
      l1 = addDots(l1, bytes, others);
      w += 32;
      x += 16;
    } while (--k);
    first = addScaled(first, joinSums(h0, l0, offset, xi), scalesAt(w, form, 0), xs);
    second = addScaled(second, joinSums(h1, l1, offset, xi), scalesAt(w, form, 1), xs);
    w += floats;
    xs += 4;
    xi += 4;
    if (form & MINIMUMS) {
      const sum = v128.load_splat<f32>(xm);
      first = f32x4.add(first, f32x4.mul(minimumsAt(w, form, 0), sum));
      second = f32x4.add(second, f32x4.mul(minimumsAt(w, form, 1), sum));
      w += floats;
      xm += 4;
    }
  } while (--b);
  storeOct(out, first, second, rows);
}

/** All tokens against one oct; x is the tokens' split form. */
// @ts-ignore: decorator
@inline
export function octRelaxed(
  w: usize, form: i32, x: usize, xs: usize, xi: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  let t = tokens;
  for (; t >= 4; t -= 4) {
    fourTokens(w, form, 0, x, xs, xi, xm, out, outStride, blocks, rows);
    if (rows > 4) fourTokens(w, form, 1, x, xs, xi, xm, out + 16, outStride, blocks, rows - 4);
    x += 4 * xStride;
    xs += 4 * sStride;
    xi += 4 * sStride;
    xm += 4 * sStride;
    out += 4 * outStride;
  }
  for (; t > 0; t--) {
    oneToken(w, form, x, xs, xi, xm, out, blocks, rows);
    x += xStride;
    xs += sStride;
    xi += sStride;
    xm += sStride;
    out += outStride;
  }
}
