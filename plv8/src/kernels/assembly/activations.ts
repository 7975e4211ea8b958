// Activations for the integer products.
//   Tokens stand in fours as long as four are left: per column pair the two int16 of token 0, of token 1, 2, 3; scales and
//   sums per block as 4 floats, one a token. What is left over stands token by token: cols int16, then the next token's;
//   scales and sums one float a block.
//   The relaxed build has all integers a second time, behind the first, in the same places but split into signed bytes: for
//   8 columns not 4 pairs but the high bytes of columns 0, 4, 1, 5, their low bytes, the high bytes of 2, 6, 3, 7, their
//   low bytes. That is the order in which a q4 oct gives its nibbles (layout.ts).
import { BLOCK, ROUNDING, roundedIntegers } from './simd';

const BLOCK_BYTES: usize = 128;
/** The largest integer: 127 * 256 + 127, so that the high and the low byte of every integer are signed bytes. */
const LARGEST: f32 = 32639;
/** Blocks with no larger magnitude become zeros: LARGEST over theirs would be no finite float. */
const SMALLEST_BLOCK: f32 = 1e-34;

/** Where the split integers of `tokens` tokens are, behind `quants`; relaxed build only. */
// @ts-ignore: decorator
@inline
export function splitQuants(quants: usize, cols: i32, tokens: i32): usize {
  return quants + (<usize>cols * <usize>tokens << 1);
}

/** Four groups of four bytes, `step` bytes apart. */
// @ts-ignore: decorator
@inline
function storeWords(to: usize, words: v128, step: usize): void {
  v128.store_lane<u32>(to, words, 0);
  v128.store_lane<u32>(to + step, words, 1);
  v128.store_lane<u32>(to + 2 * step, words, 2);
  v128.store_lane<u32>(to + 3 * step, words, 3);
}

/** The signed high and low bytes of eight integers, in the order of the split form. */
// @ts-ignore: decorator
@inline
function splitBytes(eight: v128): v128 {
  const high = i16x8.shr_s(i16x8.add(eight, i16x8.splat(128)), 8);
  return v128.shuffle<i8>(high, eight, 0, 8, 2, 10, 16, 24, 18, 26, 4, 12, 6, 14, 20, 28, 22, 30);
}
/**
 * Quantise `tokens` rows of `cols` floats (a multiple of 32) to int16 with a scale per block of 32. `sums` gets the sum of
 * each block's integers, `scaledSums` that times its scale. Room at `quants`: four bytes a float.
 */
export function quantizeActivations(
  src: usize, quants: usize, scales: usize, sums: usize, scaledSums: usize, cols: i32, tokens: i32,
): void {
  const blocks = cols >> 5;
  const inFours = tokens & ~3;
  const behind = splitQuants(0, cols, tokens);
  for (let t = 0; t < tokens; t++) {
    const four = t < inFours;
    const first = four ? t & ~3 : t;
    const lane = <usize>(four ? t & 3 : 0) << 2;
    let q = quants + (<usize>first * <usize>cols << 1) + lane;
    const pairStep: usize = four ? 16 : 4;
    const scaleStep: usize = four ? 16 : 4;
    let at = (<usize>first * <usize>blocks << 2) + lane;
    for (let b = 0; b < cols; b += BLOCK) {
      // Magnitudes as integers: those of floats have the same order, and NaN is the largest of all.
      let m = i32x4.splat(0);
      for (let i: usize = 0; i < BLOCK_BYTES; i += 16) m = i32x4.max_s(m, f32x4.abs(v128.load(src + i)));
      const largest = reinterpret<f32>(
        max<i32>(
          max<i32>(i32x4.extract_lane(m, 0), i32x4.extract_lane(m, 1)),
          max<i32>(i32x4.extract_lane(m, 2), i32x4.extract_lane(m, 3)),
        ),
      );
      const scale: f32 = largest / LARGEST;
      const inverse = f32x4.splat(largest > SMALLEST_BLOCK ? LARGEST / largest : 0);
      let total = i32x4.splat(0);
      for (let i: usize = 0; i < BLOCK_BYTES; i += 32) {
        const low = roundedIntegers(f32x4.add(f32x4.mul(v128.load(src + i), inverse), f32x4.splat(ROUNDING)));
        const high = roundedIntegers(f32x4.add(f32x4.mul(v128.load(src + i, 16), inverse), f32x4.splat(ROUNDING)));
        total = i32x4.add(total, i32x4.add(low, high));
        const eight = i16x8.narrow_i32x4_s(low, high);
        storeWords(q, eight, pairStep);
        if (ASC_FEATURE_RELAXED_SIMD) storeWords(q + behind, splitBytes(eight), pairStep);
        q += 4 * pairStep;
      }
      const sum =
        i32x4.extract_lane(total, 0) +
        i32x4.extract_lane(total, 1) +
        i32x4.extract_lane(total, 2) +
        i32x4.extract_lane(total, 3);
      store<f32>(scales + at, scale);
      store<i32>(sums + at, sum);
      store<f32>(scaledSums + at, scale * <f32>sum);
      at += scaleStep;
      src += BLOCK_BYTES;
    }
  }
}
