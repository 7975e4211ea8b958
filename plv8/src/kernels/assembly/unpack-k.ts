// Blocks of 5 bits, of a codebook, and of 256 elements (ggml's K-quants) to row-major integers with scales and minimums:
// weight = scale * (integer - offset) + minimum. Integers are held as they are stored, 0 to 15, 31 or 63, those of codebooks and of
// Q3_K as signed bytes. Q4_K, Q5_K and Q6_K keep their scales and minimums as bytes and give the half floats that these multiply as
// super scales, two for each 256 elements, the second for minimums. The formats in plain words: format/block-formats.ts.
import { half } from './simd';

/** 32 nibbles of 16 bytes, each with bit i of `high` as its fifth. */
// @ts-ignore: decorator
@inline
function fiveBits(src: usize, high: u32, dst: usize): void {
  for (let i = 0; i < 16; i++) {
    const pair = <i32>load<u8>(src + i);
    store<i8>(dst + i, <i8>((pair & 15) | <i32>(((high >> i) & 1) << 4)));
    store<i8>(dst + i, <i8>((pair >> 4) | <i32>(((high >> (i + 16)) & 1) << 4)), 16);
  }
}

export function repackQ5_0(src: usize, quants: usize, scales: usize, blocks: i32): void {
  for (let b = 0; b < blocks; b++) {
    store<f32>(scales, half(load<u16>(src)));
    fiveBits(src + 6, load<u32>(src, 2), quants);
    src += 22;
    quants += 32;
    scales += 4;
  }
}

export function repackQ5_1(src: usize, quants: usize, scales: usize, mins: usize, blocks: i32): void {
  for (let b = 0; b < blocks; b++) {
    store<f32>(scales, half(load<u16>(src)));
    store<f32>(mins, half(load<u16>(src, 2)));
    fiveBits(src + 8, load<u32>(src, 4), quants);
    src += 24;
    quants += 32;
    scales += 4;
    mins += 4;
  }
}

/** The codebook of IQ4_NL and IQ4_XS: value of nibble i is byte i. */
// @ts-ignore: decorator
@inline
function codebook(): v128 {
  return i8x16(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
}

export function repackIQ4_NL(src: usize, quants: usize, scales: usize, blocks: i32): void {
  const mask = i8x16.splat(15);
  for (let b = 0; b < blocks; b++) {
    store<f32>(scales, half(load<u16>(src)));
    const packed = v128.load(src, 2);
    v128.store(quants, i8x16.swizzle(codebook(), v128.and(packed, mask)));
    v128.store(quants, i8x16.swizzle(codebook(), i8x16.shr_u(packed, 4)), 16);
    src += 18;
    quants += 32;
    scales += 4;
  }
}

export function repackIQ4_XS(src: usize, quants: usize, scales: usize, superblocks: i32): void {
  const mask = i8x16.splat(15);
  for (let s = 0; s < superblocks; s++) {
    const scale = half(load<u16>(src));
    const highs = <i32>load<u16>(src, 2);
    for (let b = 0; b < 8; b++) {
      const low = (<i32>load<u8>(src + 4 + (b >> 1)) >> (4 * (b & 1))) & 15;
      store<f32>(scales, scale * <f32>((low | (((highs >> (2 * b)) & 3) << 4)) - 32));
      const packed = v128.load(src + 8 + (b << 4));
      v128.store(quants, i8x16.swizzle(codebook(), v128.and(packed, mask)));
      v128.store(quants, i8x16.swizzle(codebook(), i8x16.shr_u(packed, 4)), 16);
      quants += 32;
      scales += 4;
    }
    src += 136;
  }
}

/** Scales and minimums of Q4_K and Q5_K: eight of each, 6 bits, packed in 12 bytes at `p`. */
function unpackScales(p: usize, scales: usize, mins: usize): void {
  for (let j = 0; j < 8; j++) {
    let sc: i32, m: i32;
    if (j < 4) {
      sc = load<u8>(p + j) & 63;
      m = load<u8>(p + j + 4) & 63;
    } else {
      sc = (load<u8>(p + j + 4) & 15) | ((load<u8>(p + j - 4) >> 6) << 4);
      m = (load<u8>(p + j + 4) >> 4) | ((load<u8>(p + j) >> 6) << 4);
    }
    store<u8>(scales + j, <u8>sc);
    store<u8>(mins + j, <u8>m);
  }
}

export function repackQ4_K(
  src: usize, quants: usize, scales: usize, mins: usize, supers: usize, superblocks: i32,
): void {
  const mask = i8x16.splat(15);
  for (let s = 0; s < superblocks; s++) {
    store<u32>(supers, load<u32>(src));
    unpackScales(src + 4, scales, mins);
    for (let c = 0; c < 4; c++) {
      const from = src + 16 + (<usize>c << 5);
      const a = v128.load(from);
      const b = v128.load(from, 16);
      v128.store(quants, v128.and(a, mask));
      v128.store(quants, v128.and(b, mask), 16);
      v128.store(quants, i8x16.shr_u(a, 4), 32);
      v128.store(quants, i8x16.shr_u(b, 4), 48);
      quants += 64;
    }
    src += 144;
    scales += 8;
    mins += 8;
    supers += 4;
  }
}

export function repackQ5_K(
  src: usize, quants: usize, scales: usize, mins: usize, supers: usize, superblocks: i32,
): void {
  for (let s = 0; s < superblocks; s++) {
    store<u32>(supers, load<u32>(src));
    unpackScales(src + 4, scales, mins);
    for (let i = 0; i < 256; i++) {
      const byte = <i32>load<u8>(src + 48 + ((i >> 6) << 5) + (i & 31));
      const nibble = i & 32 ? byte >> 4 : byte & 15;
      const high = (<i32>load<u8>(src + 16 + (i & 31)) >> (i >> 5)) & 1;
      store<u8>(quants + i, <u8>(nibble | (high << 4)));
    }
    src += 176;
    quants += 256;
    scales += 8;
    mins += 8;
    supers += 4;
  }
}

/** Scales stand for 16 elements each. */
export function repackQ6_K(src: usize, quants: usize, scales: usize, supers: usize, superblocks: i32): void {
  for (let s = 0; s < superblocks; s++) {
    store<u32>(supers, load<u16>(src, 208));
    for (let i = 0; i < 256; i++) {
      const byte = <i32>load<u8>(src + ((i >> 7) << 6) + (i & 63));
      const low = i & 64 ? byte >> 4 : byte & 15;
      const high = (<i32>load<u8>(src + 128 + ((i >> 7) << 5) + (i & 31)) >> (((i >> 5) & 3) << 1)) & 3;
      store<u8>(quants + i, <u8>(low | (high << 4)));
    }
    v128.store(scales, v128.load(src, 192));
    src += 210;
    quants += 256;
    scales += 16;
    supers += 4;
  }
}

/** Scales stand for 16 elements each. */
export function repackQ3_K(src: usize, quants: usize, scales: usize, superblocks: i32): void {
  for (let s = 0; s < superblocks; s++) {
    const scale = half(load<u16>(src, 108));
    for (let i = 0; i < 256; i++) {
      const low = (<i32>load<u8>(src + 32 + ((i >> 7) << 5) + (i & 31)) >> (((i >> 5) & 3) << 1)) & 3;
      const high = (<i32>load<u8>(src + (i & 31)) >> (i >> 5)) & 1;
      store<i8>(quants + i, <i8>(low + (high << 2) - 4));
    }
    for (let j = 0; j < 16; j++) {
      const low = <i32>(j < 8 ? load<u8>(src + 96 + j) & 15 : load<u8>(src + 96 + j - 8) >> 4);
      const high = (<i32>load<u8>(src + 104 + (j & 3)) >> ((j >> 2) << 1)) & 3;
      store<f32>(scales + (<usize>j << 2), scale * <f32>((low | (high << 4)) - 32));
    }
    src += 110;
    quants += 256;
    scales += 64;
  }
}
