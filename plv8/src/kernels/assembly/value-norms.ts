// How long values are as heads write them into the residual stream: v' G v, where G holds the inner products of the columns
// by which a head's part of the output matrix reads v. G is symmetric: what stands below its blocks of 4 by 4 on the diagonal
// is left out.
import { lanes } from './simd';

/** 4 by 4 of the sum of outer products of a[0..4) and b[0..4) over `count` rows, added to out. */
// @ts-ignore: decorator
@inline
function addFour(a: usize, b: usize, count: i32, stride: usize, out: usize, outStride: usize): void {
  let g0 = f32x4.splat(0), g1 = f32x4.splat(0), g2 = f32x4.splat(0), g3 = f32x4.splat(0);
  do {
    const v = v128.load(b);
    g0 = f32x4.add(g0, f32x4.mul(v128.load_splat<f32>(a), v));
    g1 = f32x4.add(g1, f32x4.mul(v128.load_splat<f32>(a, 4), v));
    g2 = f32x4.add(g2, f32x4.mul(v128.load_splat<f32>(a, 8), v));
    g3 = f32x4.add(g3, f32x4.mul(v128.load_splat<f32>(a, 12), v));
    a += stride;
    b += stride;
  } while (--count);
  addTo(out, g0);
  addTo(out + outStride, g1);
  addTo(out + 2 * outStride, g2);
  addTo(out + 3 * outStride, g3);
}

/** As addFour for b[0..8). */
// @ts-ignore: decorator
@inline
function addEight(a: usize, b: usize, count: i32, stride: usize, out: usize, outStride: usize): void {
  let g0 = f32x4.splat(0), g1 = f32x4.splat(0), g2 = f32x4.splat(0), g3 = f32x4.splat(0);
  let h0 = f32x4.splat(0), h1 = f32x4.splat(0), h2 = f32x4.splat(0), h3 = f32x4.splat(0);
  do {
    const v = v128.load(b);
    const w = v128.load(b, 16);
    let each = v128.load_splat<f32>(a);
    g0 = f32x4.add(g0, f32x4.mul(each, v));
    h0 = f32x4.add(h0, f32x4.mul(each, w));
    each = v128.load_splat<f32>(a, 4);
    g1 = f32x4.add(g1, f32x4.mul(each, v));
    h1 = f32x4.add(h1, f32x4.mul(each, w));
    each = v128.load_splat<f32>(a, 8);
    g2 = f32x4.add(g2, f32x4.mul(each, v));
    h2 = f32x4.add(h2, f32x4.mul(each, w));
    each = v128.load_splat<f32>(a, 12);
    g3 = f32x4.add(g3, f32x4.mul(each, v));
    h3 = f32x4.add(h3, f32x4.mul(each, w));
    a += stride;
    b += stride;
  } while (--count);
  addTo(out, g0);
  addTo(out + 16, h0);
  addTo(out + outStride, g1);
  addTo(out + outStride + 16, h1);
  addTo(out + 2 * outStride, g2);
  addTo(out + 2 * outStride + 16, h2);
  addTo(out + 3 * outStride, g3);
  addTo(out + 3 * outStride + 16, h3);
}

// @ts-ignore: decorator
@inline
function addTo(out: usize, sum: v128): void {
  v128.store(out, f32x4.add(v128.load(out), sum));
}

/**
 * Add to grams (heads, size, size) the outer products of each head's `size` columns over `count` rows (heads * size); size a
 * multiple of 4, count at least 1.
 */
export function addGrams(rows: usize, count: i32, grams: usize, heads: i32, size: i32): void {
  const stride = <usize>(heads * size) << 2;
  const bytes = <usize>size << 2;
  for (let h = 0; h < heads; h++) {
    for (let i: usize = 0; i < bytes; i += 16) {
      const out = grams + i * <usize>size;
      let j = i;
      if ((bytes - i) & 16) {
        addFour(rows + i, rows + j, count, stride, out + j, bytes);
        j += 16;
      }
      for (; j < bytes; j += 32) addEight(rows + i, rows + j, count, stride, out + j, bytes);
    }
    rows += bytes;
    grams += bytes * <usize>size;
  }
}

/** What four rows of a gram, from the block on the diagonal on, add to v' G v; v: their elements of it and those up to `end`. */
// @ts-ignore: decorator
@inline
function fourRows(gram: usize, v: usize, end: usize, stride: usize): v128 {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  const diagonal = gram;
  for (let at = v + 16; at < end; at += 16) {
    gram += 16;
    const x = v128.load(at);
    a0 = f32x4.add(a0, f32x4.mul(v128.load(gram), x));
    a1 = f32x4.add(a1, f32x4.mul(v128.load(gram + stride), x));
    a2 = f32x4.add(a2, f32x4.mul(v128.load(gram + 2 * stride), x));
    a3 = f32x4.add(a3, f32x4.mul(v128.load(gram + 3 * stride), x));
  }
  // What stands below the diagonal is what stands beside it.
  const x = v128.load(v);
  a0 = f32x4.add(f32x4.add(a0, a0), f32x4.mul(v128.load(diagonal), x));
  a1 = f32x4.add(f32x4.add(a1, a1), f32x4.mul(v128.load(diagonal + stride), x));
  a2 = f32x4.add(f32x4.add(a2, a2), f32x4.mul(v128.load(diagonal + 2 * stride), x));
  a3 = f32x4.add(f32x4.add(a3, a3), f32x4.mul(v128.load(diagonal + 3 * stride), x));
  let sum = f32x4.mul(a0, v128.load_splat<f32>(v));
  sum = f32x4.add(sum, f32x4.mul(a1, v128.load_splat<f32>(v, 4)));
  sum = f32x4.add(sum, f32x4.mul(a2, v128.load_splat<f32>(v, 8)));
  return f32x4.add(sum, f32x4.mul(a3, v128.load_splat<f32>(v, 12)));
}

/**
 * out (heads, outStride bytes) = norm of what each head makes of `count` values (kvHeads, size), by grams (heads, size, size) as
 * addGrams leaves them.
 */
export function gramNorms(
  grams: usize, values: usize, out: usize, heads: i32, kvHeads: i32, size: i32, count: i32, outStride: usize,
): void {
  const group = heads / kvHeads;
  const bytes = <usize>size << 2;
  for (let h = 0; h < heads; h++) {
    let v = values + <usize>(h / group) * bytes;
    for (let p = 0; p < count; p++) {
      const end = v + bytes;
      let sum = f32x4.splat(0);
      let row = grams;
      for (let at = v; at < end; at += 16) {
        sum = f32x4.add(sum, fourRows(row + (at - v), at, end, bytes));
        row += 4 * bytes;
      }
      store<f32>(out + (<usize>p << 2), sqrt<f32>(max<f32>(0, lanes(sum))));
      v += <usize>kvHeads * bytes;
    }
    grams += bytes * <usize>size;
    out += outStride;
  }
}
