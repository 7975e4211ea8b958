// Stored blocks to row-major integers and floats: the first step of loading a matrix.
import { BLOCK, half } from './simd';

/** Blocks with no larger magnitude are rounded to zeros. */
const SMALLEST_BLOCK: f32 = 1e-36;

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

/** Repack q4_0 blocks (half scale, 16 bytes of nibbles): values from 0 to 15, 8 above what they mean. */
export function repackQ4_0(src: usize, quants: usize, scales: usize, blocks: i32): void {
  const mask = i8x16.splat(15);
  for (let b = 0; b < blocks; b++) {
    store<f32>(scales, half(load<u16>(src)));
    const packed = v128.load(src, 2);
    v128.store(quants, v128.and(packed, mask));
    v128.store(quants, i8x16.shr_u(packed, 4), 16);
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

/** n bytes less `offset`. */
export function lowerBytes(at: usize, n: i32, offset: i32): void {
  const by = i8x16.splat(<i8>offset);
  let left = n;
  for (; left >= 16; left -= 16) {
    v128.store(at, i8x16.sub(v128.load(at), by));
    at += 16;
  }
  for (; left > 0; left--) {
    store<i8>(at, <i8>(load<i8>(at) - <i8>offset));
    at++;
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
