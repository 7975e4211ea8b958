// Attention over the key/value cache.
import { exponential, lanes } from './simd';

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
