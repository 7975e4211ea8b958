// Kernels of the forward pass, compiled by AssemblyScript to WebAssembly with 128-bit SIMD.
//
// All arguments are byte addresses in the imported memory, laid out by model/arena.ts. Matrices are row-major:
//   f32   rows x cols floats, cols a multiple of 4
//   q8    rows x cols int8, and per block of 32: a float scale and, in the `min` variant, a float minimum;
//         value = scale * q + minimum
// Activations for q8 are quantised to int16 per block of 32: value = scale * q; `sums` holds scale * (sum of q).
// A row's product with a token's activations is always summed in the same order, whatever the number of tokens, so
// logits do not depend on how a prompt was cut into chunks.

const BLOCK: i32 = 32;
const BLOCK_BYTES: usize = 128;
/** Blocks with no larger magnitude are rounded to zeros. */
const SMALLEST_BLOCK: f32 = 1e-36;

/** Sum of the four lanes, in a fixed order. */
// @ts-ignore: decorator
@inline
function lanes(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 2) + (f32x4.extract_lane(v, 1) + f32x4.extract_lane(v, 3));
}

/** Half float to float, subnormals included. */
// @ts-ignore: decorator
@inline
function half(h: u32): f32 {
  const magnitude = (h & 0x7fff) << 13;
  const exponent = magnitude & 0x0f800000;
  let value: f32;
  if (exponent === 0x0f800000) value = reinterpret<f32>(magnitude + 0x70000000);
  else value = reinterpret<f32>(magnitude) * reinterpret<f32>(0x77800000);
  return reinterpret<f32>(reinterpret<u32>(value) | ((h & 0x8000) << 16));
}

/** Repack q8_0 blocks (half scale, 32 int8) into int8 and scales. */
export function repackQ8_0(src: usize, quants: usize, scales: usize, blocks: i32): void {
  for (let b = 0; b < blocks; b++) {
    store<f32>(scales, half(load<u16>(src)));
    v128.store(quants, v128.load(src, 2));
    v128.store(quants, v128.load(src, 18), 16);
    src += 34;
    quants += 32;
    scales += 4;
  }
}

/** Repack q4_0 blocks (half scale, 16 bytes of nibbles, offset 8). */
export function repackQ4_0(src: usize, quants: usize, scales: usize, blocks: i32): void {
  const mask = i8x16.splat(15);
  const eight = i8x16.splat(8);
  for (let b = 0; b < blocks; b++) {
    store<f32>(scales, half(load<u16>(src)));
    const packed = v128.load(src, 2);
    v128.store(quants, i8x16.sub(v128.and(packed, mask), eight));
    v128.store(quants, i8x16.sub(i8x16.shr_u(packed, 4), eight), 16);
    src += 18;
    quants += 32;
    scales += 4;
  }
}

/** Repack q4_1 blocks (half scale, half minimum, 16 bytes of nibbles). */
export function repackQ4_1(src: usize, quants: usize, scales: usize, mins: usize, blocks: i32): void {
  const mask = i8x16.splat(15);
  for (let b = 0; b < blocks; b++) {
    store<f32>(scales, half(load<u16>(src)));
    store<f32>(mins, half(load<u16>(src, 2)));
    const packed = v128.load(src, 4);
    v128.store(quants, v128.and(packed, mask));
    v128.store(quants, i8x16.shr_u(packed, 4), 16);
    src += 20;
    quants += 32;
    scales += 4;
    mins += 4;
  }
}

/** n half floats to floats. */
export function widenF16(src: usize, dst: usize, n: i32): void {
  for (let i = 0; i < n; i++) {
    store<f32>(dst, half(load<u16>(src)));
    src += 2;
    dst += 4;
  }
}

/** n bfloat16 to floats. */
export function widenBF16(src: usize, dst: usize, n: i32): void {
  for (let i = 0; i < n; i++) {
    store<u32>(dst, <u32>load<u16>(src) << 16);
    src += 2;
    dst += 4;
  }
}

/** 1 when none of n floats is infinite or NaN, else 0. */
export function allFinite(src: usize, n: i32): i32 {
  const exponent = i32x4.splat(0x7f800000);
  let bad = i32x4.splat(0);
  let left = n;
  for (; left >= 4; left -= 4) {
    bad = v128.or(bad, i32x4.eq(v128.and(v128.load(src), exponent), exponent));
    src += 16;
  }
  for (; left > 0; left--) {
    bad = v128.or(bad, i32x4.eq(v128.and(v128.load_splat<u32>(src), exponent), exponent));
    src += 4;
  }
  return v128.any_true(bad) ? 0 : 1;
}

/** Round n floats (a multiple of 32) to int8 with a scale per block of 32: the largest magnitude becomes 127. */
export function roundQ8(src: usize, quants: usize, scales: usize, n: i32): void {
  for (let b = 0; b < n; b += BLOCK) {
    let largest: f32 = 0;
    for (let i = 0; i < BLOCK; i++) largest = max<f32>(largest, abs<f32>(load<f32>(src + (<usize>i << 2))));
    // A block whose scale has no finite inverse is nothing next to any other: it becomes zero.
    const scale: f32 = largest > SMALLEST_BLOCK ? largest / 127 : 0;
    const inverse: f32 = scale > 0 ? 1 / scale : 0;
    store<f32>(scales, scale);
    for (let i = 0; i < BLOCK; i++) {
      store<i8>(quants + i, <i8>nearest<f32>(load<f32>(src + (<usize>i << 2)) * inverse));
    }
    src += BLOCK * 4;
    quants += BLOCK;
    scales += 4;
  }
}

/** One row (cols) of a q8 matrix to floats; mins may be 0 for none. */
export function expandQ8(quants: usize, scales: usize, mins: usize, dst: usize, cols: i32): void {
  for (let b = 0; b < cols; b += BLOCK) {
    const scale = load<f32>(scales);
    const minimum: f32 = mins ? load<f32>(mins) : 0;
    for (let i = 0; i < BLOCK; i++) {
      store<f32>(dst, <f32>load<i8>(quants + i) * scale + minimum);
      dst += 4;
    }
    quants += BLOCK;
    scales += 4;
    if (mins) mins += 4;
  }
}

/** Quantise n floats (a multiple of 32) to int16 with a scale and a scaled sum per block of 32. */
export function quantizeActivations(src: usize, quants: usize, scales: usize, sums: usize, n: i32): void {
  for (let b = 0; b < n; b += BLOCK) {
    let m = f32x4.abs(v128.load(src));
    for (let i: usize = 16; i < BLOCK_BYTES; i += 16) m = f32x4.pmax(m, f32x4.abs(v128.load(src + i)));
    const largest = max<f32>(
      max<f32>(f32x4.extract_lane(m, 0), f32x4.extract_lane(m, 1)),
      max<f32>(f32x4.extract_lane(m, 2), f32x4.extract_lane(m, 3)),
    );
    const scale: f32 = largest / 32767;
    const inverse = f32x4.splat(largest > 0 ? 32767 / largest : 0);
    let total = i32x4.splat(0);
    for (let i: usize = 0; i < BLOCK_BYTES; i += 32) {
      const low = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(src + i), inverse)));
      const high = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(src + i, 16), inverse)));
      total = i32x4.add(total, i32x4.add(low, high));
      v128.store(quants + (i >> 1), i16x8.narrow_i32x4_s(low, high));
    }
    store<f32>(scales, scale);
    store<f32>(
      sums,
      scale *
        <f32>(
          (i32x4.extract_lane(total, 0) +
            i32x4.extract_lane(total, 1) +
            i32x4.extract_lane(total, 2) +
            i32x4.extract_lane(total, 3))
        ),
    );
    src += BLOCK * 4;
    quants += BLOCK * 2;
    scales += 4;
    sums += 4;
  }
}

// @ts-ignore: decorator
@inline
function blockDot(w0: v128, w1: v128, w2: v128, w3: v128, x: usize): v128 {
  return f32x4.convert_i32x4_s(
    i32x4.add(
      i32x4.add(i32x4.dot_i16x8_s(w0, v128.load(x)), i32x4.dot_i16x8_s(w1, v128.load(x, 16))),
      i32x4.add(i32x4.dot_i16x8_s(w2, v128.load(x, 32)), i32x4.dot_i16x8_s(w3, v128.load(x, 48))),
    ),
  );
}

/** Sum over a row's blocks of minimum times scaled sum of the activations. */
// @ts-ignore: decorator
@inline
function minimumPart(wm: usize, xm: usize, blocks: i32): f32 {
  let acc = f32x4.splat(0);
  let b = blocks;
  for (; b >= 4; b -= 4) {
    acc = f32x4.add(acc, f32x4.mul(v128.load(wm), v128.load(xm)));
    wm += 16;
    xm += 16;
  }
  let sum = lanes(acc);
  for (; b > 0; b--) {
    sum += load<f32>(wm) * load<f32>(xm);
    wm += 4;
    xm += 4;
  }
  return sum;
}

// One token against one row, quants and scales only.
// @ts-ignore: decorator
@inline
function rowQ8(w: usize, ws: usize, x: usize, xs: usize, blocks: i32): f32 {
  let acc = f32x4.splat(0);
  let b = blocks;
  do {
    const dot = blockDot(
      v128.load_ext<i8>(w),
      v128.load_ext<i8>(w, 8),
      v128.load_ext<i8>(w, 16),
      v128.load_ext<i8>(w, 24),
      x,
    );
    acc = f32x4.add(acc, f32x4.mul(dot, f32x4.mul(v128.load_splat<f32>(ws), v128.load_splat<f32>(xs))));
    w += 32;
    x += 64;
    ws += 4;
    xs += 4;
  } while (--b);
  return lanes(acc);
}

/**
 * out[t][row] = (matrix row) . (token t) for rows [0, rows) and tokens [0, tokens). x: int16 (tokens, cols) with xs and
 * xm (tokens, cols / 32). outStride: bytes between tokens in out. wm is 0 for matrices without a minimum.
 */
export function matmulQ8(
  w: usize, ws: usize, wm: usize, x: usize, xs: usize, xm: usize, out: usize,
  rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const blocks = cols >> 5;
  const xStride = <usize>cols << 1;
  const sStride = <usize>blocks << 2;
  for (let r = 0; r < rows; r++) {
    let t = 0;
    let o = out + (<usize>r << 2);
    for (; t + 4 <= tokens; t += 4) {
      let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
      let wp = w, wsp = ws;
      let x0 = x + <usize>t * xStride;
      let x1 = x0 + xStride;
      let x2 = x1 + xStride;
      let x3 = x2 + xStride;
      let s0 = xs + <usize>t * sStride;
      let s1 = s0 + sStride;
      let s2 = s1 + sStride;
      let s3 = s2 + sStride;
      let b = blocks;
      do {
        const w0 = v128.load_ext<i8>(wp), w1 = v128.load_ext<i8>(wp, 8);
        const w2 = v128.load_ext<i8>(wp, 16), w3 = v128.load_ext<i8>(wp, 24);
        const scale = v128.load_splat<f32>(wsp);
        a0 = f32x4.add(a0, f32x4.mul(blockDot(w0, w1, w2, w3, x0), f32x4.mul(scale, v128.load_splat<f32>(s0))));
        a1 = f32x4.add(a1, f32x4.mul(blockDot(w0, w1, w2, w3, x1), f32x4.mul(scale, v128.load_splat<f32>(s1))));
        a2 = f32x4.add(a2, f32x4.mul(blockDot(w0, w1, w2, w3, x2), f32x4.mul(scale, v128.load_splat<f32>(s2))));
        a3 = f32x4.add(a3, f32x4.mul(blockDot(w0, w1, w2, w3, x3), f32x4.mul(scale, v128.load_splat<f32>(s3))));
        wp += 32;
        wsp += 4;
        x0 += 64;
        x1 += 64;
        x2 += 64;
        x3 += 64;
        s0 += 4;
        s1 += 4;
        s2 += 4;
        s3 += 4;
      } while (--b);
      store<f32>(o, lanes(a0));
      store<f32>(o + outStride, lanes(a1));
      store<f32>(o + 2 * outStride, lanes(a2));
      store<f32>(o + 3 * outStride, lanes(a3));
      o += 4 * outStride;
    }
    for (; t < tokens; t++) {
      store<f32>(o, rowQ8(w, ws, x + <usize>t * xStride, xs + <usize>t * sStride, blocks));
      o += outStride;
    }
    if (wm) {
      o = out + (<usize>r << 2);
      for (t = 0; t < tokens; t++) {
        store<f32>(o, load<f32>(o) + minimumPart(wm, xm + <usize>t * sStride, blocks));
        o += outStride;
      }
      wm += sStride;
    }
    w += <usize>cols;
    ws += sStride;
  }
}

/** The same for a float matrix; cols a multiple of 4, x: float (tokens, cols). */
export function matmulF32(
  w: usize, x: usize, out: usize, rows: i32, cols: i32, tokens: i32, outStride: usize,
): void {
  const stride = <usize>cols << 2;
  for (let r = 0; r < rows; r++) {
    const end = w + stride;
    let t = 0;
    for (; t + 4 <= tokens; t += 4) {
      let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
      let xp = x + <usize>t * stride;
      let wp = w;
      do {
        const v = v128.load(wp);
        a0 = f32x4.add(a0, f32x4.mul(v, v128.load(xp)));
        a1 = f32x4.add(a1, f32x4.mul(v, v128.load(xp + stride)));
        a2 = f32x4.add(a2, f32x4.mul(v, v128.load(xp + 2 * stride)));
        a3 = f32x4.add(a3, f32x4.mul(v, v128.load(xp + 3 * stride)));
        wp += 16;
        xp += 16;
      } while (wp < end);
      const o = out + (<usize>r << 2) + <usize>t * outStride;
      store<f32>(o, lanes(a0));
      store<f32>(o + outStride, lanes(a1));
      store<f32>(o + 2 * outStride, lanes(a2));
      store<f32>(o + 3 * outStride, lanes(a3));
    }
    for (; t < tokens; t++) {
      let a = f32x4.splat(0);
      let xp = x + <usize>t * stride;
      let wp = w;
      do {
        a = f32x4.add(a, f32x4.mul(v128.load(wp), v128.load(xp)));
        wp += 16;
        xp += 16;
      } while (wp < end);
      store<f32>(out + (<usize>r << 2) + <usize>t * outStride, lanes(a));
    }
    w = end;
  }
}

/** out = x / rms(x) * weight for each of `tokens` rows of n floats. */
export function rmsNorm(x: usize, weight: usize, out: usize, n: i32, tokens: i32, eps: f32): void {
  for (let t = 0; t < tokens; t++) {
    let sum: f64 = 0;
    for (let i = 0; i < n; i++) {
      const v = <f64>load<f32>(x + (<usize>i << 2));
      sum += v * v;
    }
    const scale = <f32>(1.0 / sqrt<f64>(sum / <f64>n + <f64>eps));
    for (let i = 0; i < n; i++) {
      const at = <usize>i << 2;
      store<f32>(out + at, load<f32>(x + at) * scale * load<f32>(weight + at));
    }
    x += <usize>n << 2;
    out += <usize>n << 2;
  }
}

/** x[i] += y[i] over n floats. */
export function addInto(x: usize, y: usize, n: i32): void {
  let left = n;
  for (; left >= 4; left -= 4) {
    v128.store(x, f32x4.add(v128.load(x), v128.load(y)));
    x += 16;
    y += 16;
  }
  for (; left > 0; left--) {
    store<f32>(x, load<f32>(x) + load<f32>(y));
    x += 4;
    y += 4;
  }
}

/** Add one bias row (n) to each of `tokens` rows of x. */
export function addBias(x: usize, bias: usize, n: i32, tokens: i32): void {
  for (let t = 0; t < tokens; t++) {
    addInto(x, bias, n);
    x += <usize>n << 2;
  }
}

/**
 * e^x in each lane for x in [-87, 88], clamped beyond; relative error below 3e-7. Cody-Waite reduction to
 * [-ln2/2, ln2/2], then the Taylor polynomial of degree 7.
 */
// @ts-ignore: decorator
@inline
function exponential(x: v128): v128 {
  const bounded = f32x4.min(f32x4.max(x, f32x4.splat(-87)), f32x4.splat(88));
  const n = f32x4.nearest(f32x4.mul(bounded, f32x4.splat(1.44269504)));
  const r = f32x4.sub(f32x4.sub(bounded, f32x4.mul(n, f32x4.splat(0.693359375))), f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let p = f32x4.splat(1.0 / 5040.0);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 720.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 120.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 24.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0 / 6.0));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(0.5));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return f32x4.mul(p, power);
}

/** silu(g) * u in each lane; gates below -88 give zero. */
// @ts-ignore: decorator
@inline
function siluTimes(g: v128, u: v128): v128 {
  const negative = f32x4.neg(g);
  const value = f32x4.mul(f32x4.div(g, f32x4.add(f32x4.splat(1), exponential(negative))), u);
  return v128.andnot(value, f32x4.gt(negative, f32x4.splat(88)));
}

/** gate = silu(gate) * up over n floats. */
export function siluMultiply(gate: usize, up: usize, n: i32): void {
  let left = n;
  for (; left >= 4; left -= 4) {
    v128.store(gate, siluTimes(v128.load(gate), v128.load(up)));
    gate += 16;
    up += 16;
  }
  for (; left > 0; left--) {
    store<f32>(gate, f32x4.extract_lane(siluTimes(v128.load_splat<f32>(gate), v128.load_splat<f32>(up)), 0));
    gate += 4;
    up += 4;
  }
}

/**
 * Rotate `heads` heads of x (heads, headSize) by the table's row (half pairs of cos, sin). `step` is the distance in
 * floats between the two of a pair and `spread` between pairs: (1, 2) for llama's layout, (half, 1) for neox.
 */
export function rope(x: usize, table: usize, heads: i32, headSize: i32, half_: i32, step: i32, spread: i32): void {
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < half_; i++) {
      const a = x + (<usize>(i * spread) << 2);
      const b = a + (<usize>step << 2);
      const c = load<f32>(table + (<usize>i << 3));
      const s = load<f32>(table + (<usize>i << 3), 4);
      const va = load<f32>(a);
      const vb = load<f32>(b);
      store<f32>(a, va * c - vb * s);
      store<f32>(b, va * s + vb * c);
    }
    x += <usize>headSize << 2;
  }
}

/**
 * Attention of one token's heads over `length` cached positions. q, out: (heads, headSize); keys, values: rows of
 * kvStride bytes, (kvHeads, headSize) each; scores: room for `length` floats,
 * rounded up to a multiple of 4; headSize a multiple of 4.
 */
export function attention(
  q: usize, keys: usize, values: usize, out: usize, scores: usize,
  heads: i32, kvHeads: i32, headSize: i32, length: i32, kvStride: usize, scale: f32,
): void {
  const group = heads / kvHeads;
  const headBytes = <usize>headSize << 2;
  for (let h = 0; h < heads; h++) {
    const kvAt = <usize>(h / group) * headBytes;
    const qp = q + <usize>h * headBytes;
    let largest: f32 = -Infinity;
    let kp = keys + kvAt;
    for (let p = 0; p < length; p++) {
      let acc = f32x4.splat(0);
      for (let d: usize = 0; d < headBytes; d += 16) acc = f32x4.add(acc, f32x4.mul(v128.load(qp + d), v128.load(kp + d)));
      const score = lanes(acc) * scale;
      store<f32>(scores + (<usize>p << 2), score);
      largest = max<f32>(largest, score);
      kp += kvStride;
    }
    // The scores' buffer is whole vectors; what lies past the last position must not weigh.
    for (let p = length; p & 3; p++) store<f32>(scores + (<usize>p << 2), -Infinity);
    const top = f32x4.splat(largest);
    let totals = f32x4.splat(0);
    for (let p = 0; p < length; p += 4) {
      const at = scores + (<usize>p << 2);
      const e = exponential(f32x4.sub(v128.load(at), top));
      v128.store(at, e);
      totals = f32x4.add(totals, e);
    }
    const inverse = f32x4.splat(1 / lanes(totals));
    const op = out + <usize>h * headBytes;
    let d: usize = 0;
    for (; d + 64 <= headBytes; d += 64) {
      let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
      let vp = values + kvAt + d;
      let sp = scores;
      for (let p = length; p > 0; p--) {
        const weight = v128.load_splat<f32>(sp);
        a0 = f32x4.add(a0, f32x4.mul(weight, v128.load(vp)));
        a1 = f32x4.add(a1, f32x4.mul(weight, v128.load(vp, 16)));
        a2 = f32x4.add(a2, f32x4.mul(weight, v128.load(vp, 32)));
        a3 = f32x4.add(a3, f32x4.mul(weight, v128.load(vp, 48)));
        vp += kvStride;
        sp += 4;
      }
      v128.store(op + d, f32x4.mul(a0, inverse));
      v128.store(op + d, f32x4.mul(a1, inverse), 16);
      v128.store(op + d, f32x4.mul(a2, inverse), 32);
      v128.store(op + d, f32x4.mul(a3, inverse), 48);
    }
    for (; d < headBytes; d += 16) {
      let acc = f32x4.splat(0);
      let vp = values + kvAt + d;
      for (let p = 0; p < length; p++) {
        acc = f32x4.add(acc, f32x4.mul(v128.load_splat<f32>(scores + (<usize>p << 2)), v128.load(vp)));
        vp += kvStride;
      }
      v128.store(op + d, f32x4.mul(acc, inverse));
    }
  }
}
