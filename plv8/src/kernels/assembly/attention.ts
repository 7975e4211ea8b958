// Attention over the key/value cache.
import { exponential, lanes } from './simd';
import { softcap } from './softcap';

/** Products of a query (headBytes / 4 floats) with the keys of four positions, `stride` bytes apart, one a lane. */
// @ts-ignore: decorator
@inline
function fourScores(q: usize, key: usize, headBytes: usize, stride: usize): v128 {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let k1 = key + stride;
  let k2 = k1 + stride;
  let k3 = k2 + stride;
  const end = q + headBytes;
  do {
    const v = v128.load(q);
    a0 = f32x4.add(a0, f32x4.mul(v, v128.load(key)));
    a1 = f32x4.add(a1, f32x4.mul(v, v128.load(k1)));
    a2 = f32x4.add(a2, f32x4.mul(v, v128.load(k2)));
    a3 = f32x4.add(a3, f32x4.mul(v, v128.load(k3)));
    q += 16;
    key += 16;
    k1 += 16;
    k2 += 16;
    k3 += 16;
  } while (q < end);
  const low = f32x4.add(v128.shuffle<i32>(a0, a1, 0, 4, 1, 5), v128.shuffle<i32>(a0, a1, 2, 6, 3, 7));
  const high = f32x4.add(v128.shuffle<i32>(a2, a3, 0, 4, 1, 5), v128.shuffle<i32>(a2, a3, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<i64>(low, high, 0, 2), v128.shuffle<i64>(low, high, 1, 3));
}

/**
 * Attention of one token's heads over `length` cached positions. q, out: (heads, headSize); keys, values: rows of
 * kvStride bytes, (kvHeads, headSize) each; scores: room for `length` floats,
 * rounded up to a multiple of 4; headSize a multiple of 4. Scores are bounded by `cap` before the softmax, 0 for not.
 */
export function attention(
  q: usize, keys: usize, values: usize, out: usize, scores: usize,
  heads: i32, kvHeads: i32, headSize: i32, length: i32, kvStride: usize, scale: f32, cap: f32,
): void {
  const group = heads / kvHeads;
  const headBytes = <usize>headSize << 2;
  for (let h = 0; h < heads; h++) {
    const kvAt = <usize>(h / group) * headBytes;
    const qp = q + <usize>h * headBytes;
    let largest: f32 = -Infinity;
    let kp = keys + kvAt;
    let p = 0;
    for (; p + 4 <= length; p += 4) {
      const four = fourScores(qp, kp, headBytes, kvStride);
      v128.store(scores + (<usize>p << 2), f32x4.mul(four, f32x4.splat(scale)));
      kp += 4 * kvStride;
    }
    for (; p < length; p++) {
      // One position alone, in the order in which it would be summed among four.
      const acc = fourScores(qp, kp, headBytes, 0);
      store<f32>(scores + (<usize>p << 2), f32x4.extract_lane(acc, 0) * scale);
      kp += kvStride;
    }
    if (cap > 0) softcap(scores, length, cap);
    for (p = 0; p < length; p++) largest = max<f32>(largest, load<f32>(scores + (<usize>p << 2)));
    // The scores' buffer is whole vectors; what lies past the last position must not weigh.
    for (p = length; p & 3; p++) store<f32>(scores + (<usize>p << 2), -Infinity);
    const top = f32x4.splat(largest);
    let totals = f32x4.splat(0);
    for (p = 0; p < length; p += 4) {
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
      for (p = length; p > 0; p--) {
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
      for (p = 0; p < length; p++) {
        acc = f32x4.add(acc, f32x4.mul(v128.load_splat<f32>(scores + (<usize>p << 2)), v128.load(vp)));
        vp += kvStride;
      }
      v128.store(op + d, f32x4.mul(acc, inverse));
    }
  }
}
