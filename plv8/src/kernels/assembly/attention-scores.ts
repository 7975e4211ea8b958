// Products of queries with keys, four positions at a time: pieces of attention and of what shows its weights.

/** Positions of a block: keys and values of 64 floats each take 32 KiB. */
export const POSITIONS: i32 = 64;

/** Sums of the lanes of four vectors, one a lane. */
// @ts-ignore: decorator
@inline
function fourSums(a0: v128, a1: v128, a2: v128, a3: v128): v128 {
  const low = f32x4.add(v128.shuffle<i32>(a0, a1, 0, 4, 1, 5), v128.shuffle<i32>(a0, a1, 2, 6, 3, 7));
  const high = f32x4.add(v128.shuffle<i32>(a2, a3, 0, 4, 1, 5), v128.shuffle<i32>(a2, a3, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<i64>(low, high, 0, 2), v128.shuffle<i64>(low, high, 1, 3));
}

/** Products of a query (headBytes / 4 floats) with the keys of four positions, `stride` bytes apart, one a lane. */
// @ts-ignore: decorator
@inline
export function fourScores(q: usize, key: usize, headBytes: usize, stride: usize): v128 {
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
  return fourSums(a0, a1, a2, a3);
}

/** As fourScores, for two queries; stores what they give, times `factor`, `apart` bytes from one another. */
// @ts-ignore: decorator
@inline
export function fourScoresOfTwo(
  q: usize, other: usize, key: usize, to: usize, apart: usize, headBytes: usize, stride: usize, factor: v128,
): void {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
  let k1 = key + stride;
  let k2 = k1 + stride;
  let k3 = k2 + stride;
  const end = q + headBytes;
  do {
    const v = v128.load(q);
    const w = v128.load(other);
    let k = v128.load(key);
    a0 = f32x4.add(a0, f32x4.mul(v, k));
    b0 = f32x4.add(b0, f32x4.mul(w, k));
    k = v128.load(k1);
    a1 = f32x4.add(a1, f32x4.mul(v, k));
    b1 = f32x4.add(b1, f32x4.mul(w, k));
    k = v128.load(k2);
    a2 = f32x4.add(a2, f32x4.mul(v, k));
    b2 = f32x4.add(b2, f32x4.mul(w, k));
    k = v128.load(k3);
    a3 = f32x4.add(a3, f32x4.mul(v, k));
    b3 = f32x4.add(b3, f32x4.mul(w, k));
    q += 16;
    other += 16;
    key += 16;
    k1 += 16;
    k2 += 16;
    k3 += 16;
  } while (q < end);
  v128.store(to, f32x4.mul(fourSums(a0, a1, a2, a3), factor));
  v128.store(to + apart, f32x4.mul(fourSums(b0, b1, b2, b3), factor));
}

/** `n` positions' half floats of a head, `stride` bytes apart, as floats one behind the other. */
export function widenBlock(from: usize, to: usize, n: i32, headBytes: usize, stride: usize): void {
  // As widenHalves, with constants that V8 cannot know and so keeps in registers (matmul-nibbles.ts).
  const zero = n >> 30;
  const mask = i32x4.splat(<i32>0x8fffe000 | zero);
  const factor = i32x4.splat(0x77800000 | zero);
  for (; n > 0; n--) {
    let p = from;
    const end = to + headBytes;
    do {
      v128.store(to, f32x4.mul(v128.and(i32x4.shl(v128.load_ext<i16>(p), 13), mask), factor));
      p += 8;
      to += 16;
    } while (to < end);
    from += stride;
  }
}
