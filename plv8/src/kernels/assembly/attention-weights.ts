// The weights of attention as numbers, for who looks at them; attention.ts has what a forward pass does with them.
import { fourScoresOfTwo, POSITIONS, widenBlock } from './attention-scores';
import { promoteHigh } from './double-sums';
import { exponential } from './simd';
import { softcap } from './softcap';

/** Keys (headSize floats) of `n` positions as floats one behind the other. */
function blockKeys(from: usize, to: usize, n: i32, headBytes: usize, stride: usize, halves: bool): void {
  if (halves) {
    widenBlock(from, to, n, headBytes, stride);
    return;
  }
  for (; n > 0; n--) {
    memory.copy(to, from, headBytes);
    from += stride;
    to += headBytes;
  }
}

/** Scores at [first, n) become their softmax, whose sum is taken in double precision; the others of `row`, up to `rowBytes`, become 0. */
function softmax(row: usize, first: i32, n: i32, rowBytes: usize, cap: f32): void {
  if (cap > 0) softcap(row + (<usize>first << 2), n - first, cap);
  const start = row + (<usize>(first & ~3) << 2);
  for (let p = start; p < row + (<usize>first << 2); p += 4) store<f32>(p, -Infinity);
  for (let p = n; p & 3; p++) store<f32>(row + (<usize>p << 2), -Infinity);
  const end = row + (<usize>n << 2);
  let largest = f32x4.splat(-Infinity);
  for (let p = start; p < end; p += 16) largest = f32x4.pmax(largest, v128.load(p));
  const top = f32x4.splat(max<f32>(
    max<f32>(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
    max<f32>(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
  ));
  let low = f64x2.splat(0), high = f64x2.splat(0);
  for (let p = start; p < end; p += 16) {
    const e = exponential(f32x4.sub(v128.load(p), top));
    v128.store(p, e);
    low = f64x2.add(low, f64x2.promote_low_f32x4(e));
    high = f64x2.add(high, promoteHigh(e));
  }
  low = f64x2.add(low, high);
  const inverse = f32x4.splat(<f32>(1.0 / (f64x2.extract_lane(low, 0) + f64x2.extract_lane(low, 1))));
  for (let p = start; p < end; p += 16) v128.store(p, f32x4.mul(v128.load(p), inverse));
  memory.fill(row, 0, <usize>first << 2);
  memory.fill(end, 0, row + rowBytes - end);
}

/**
 * Weights that `tokens` tokens' heads give to cached positions. q: (tokens, heads, headSize); keys: rows of kvStride bytes,
 * (kvHeads, headSize) floats each, or half floats; headSize a multiple of 4. Token t attends to the last `window` of the first
 * length + t positions, length at least 1. out: (tokens, heads, positions), as many positions as the last token sees and up to
 * the next multiple of 4, 0 where a token does not look. room: 64 * headSize floats. Scores are bounded by `cap`, 0 for not.
 */
export function attentionWeights(
  q: usize, keys: usize, out: usize, room: usize, heads: i32, kvHeads: i32, headSize: i32, length: i32, kvStride: usize,
  scale: f32, cap: f32, tokens: i32, window: i32, halves: i32,
): void {
  const group = heads / kvHeads;
  const headBytes = <usize>headSize << 2;
  const total = length + tokens - 1;
  const rowBytes = <usize>((total + 3) & ~3) << 2;
  const factor = f32x4.splat(scale);
  const queries = tokens * group;
  for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
    const head = kvHead * group;
    const kvAt = <usize>kvHead * (halves ? headBytes >> 1 : headBytes);
    for (let from = max<i32>(0, length - window) & ~3; from < total; from += POSITIONS) {
      const n = min<i32>(POSITIONS, total - from);
      blockKeys(keys + kvAt + <usize>from * kvStride, room, n, headBytes, kvStride, halves !== 0);
      // Two queries share the loads of keys: heads of one token, or of two that follow one another.
      for (let i = 0; i < queries; i += 2) {
        const j = min<i32>(i + 1, queries - 1);
        const t = j / group;
        if (from >= length + t) continue;
        const a = <usize>(i / group * heads + head + i % group);
        const b = <usize>(t * heads + head + j % group);
        const qa = q + a * headBytes;
        const qb = q + b * headBytes;
        let to = out + a * rowBytes + (<usize>from << 2);
        const apart = (b - a) * rowBytes;
        let key = room;
        for (let p = 0; p < n; p += 4) {
          fourScoresOfTwo(qa, qb, key, to, apart, headBytes, headBytes, factor);
          key += 4 * headBytes;
          to += 16;
        }
      }
    }
    for (let i = 0; i < queries; i++) {
      const t = i / group;
      const row = out + <usize>(t * heads + head + i % group) * rowBytes;
      softmax(row, max<i32>(0, length + t - window), length + t, rowBytes, cap);
    }
  }
}

/** out (tokens, n) = mean over heads of weights (tokens, heads, n); n a multiple of 4. */
export function meanOfHeads(weights: usize, out: usize, heads: i32, n: i32, tokens: i32): void {
  const rowBytes = <usize>n << 2;
  const divisor = f32x4.splat(<f32>heads);
  for (let t = 0; t < tokens; t++) {
    for (let p: usize = 0; p < rowBytes; p += 16) {
      let sum = f32x4.splat(0);
      let from = weights + p;
      for (let h = 0; h < heads; h++) {
        sum = f32x4.add(sum, v128.load(from));
        from += rowBytes;
      }
      v128.store(out + p, f32x4.div(sum, divisor));
    }
    weights += <usize>heads * rowBytes;
    out += rowBytes;
  }
}
