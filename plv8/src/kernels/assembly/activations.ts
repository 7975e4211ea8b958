// Activations for the integer products.
//   Tokens stand in fours as long as four are left: per column pair the two int16 of token 0, of token 1, 2, 3; scales and
//   sums per block as 4 floats, one a token. What is left over stands token by token: cols int16, then the next token's;
//   scales and sums one float a block.
import { BLOCK } from './simd';

const BLOCK_BYTES: usize = 128;

/**
 * Quantise `tokens` rows of `cols` floats (a multiple of 32) to int16 with a scale per block of 32. `sums` gets the sum of
 * each block's integers, `scaledSums` that times its scale.
 */
export function quantizeActivations(
  src: usize, quants: usize, scales: usize, sums: usize, scaledSums: usize, cols: i32, tokens: i32,
): void {
  const blocks = cols >> 5;
  const inFours = tokens & ~3;
  for (let t = 0; t < tokens; t++) {
    const four = t < inFours;
    const first = four ? t & ~3 : t;
    const lane = <usize>(four ? t & 3 : 0) << 2;
    let q = quants + (<usize>first * <usize>cols << 1) + lane;
    const pairStep: usize = four ? 16 : 4;
    const scaleStep: usize = four ? 16 : 4;
    let at = (<usize>first * <usize>blocks << 2) + lane;
    for (let b = 0; b < cols; b += BLOCK) {
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
        const eight = i16x8.narrow_i32x4_s(low, high);
        v128.store_lane<u32>(q, eight, 0);
        v128.store_lane<u32>(q + pairStep, eight, 1);
        v128.store_lane<u32>(q + 2 * pairStep, eight, 2);
        v128.store_lane<u32>(q + 3 * pairStep, eight, 3);
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
