// Attention over the key/value cache, with the softmax taken as positions go by (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018). Positions go by in blocks, counted from the first one that is attended to, and all heads
// that share a block's keys and values use them while they are in the nearest cache. Those that are half floats are written
// out as floats first, once for all heads.
import { fourScores, fourScoresOfTwo, POSITIONS, widenBlock } from './attention-scores';
import { exponential, lanes } from './simd';
import { softcap } from './softcap';

/** Bytes of a block's scores. */
const SCORES: usize = 256;

/**
 * Scores of `n` positions (at most POSITIONS) with one query, or two (those of the second SCORES bytes on), scaled,
 * bounded and padded to whole vectors by -Infinity.
 */
// @ts-ignore: decorator
@inline
function blockScores(
  q: usize, two: bool, key: usize, scores: usize, n: i32, headBytes: usize, stride: usize, scale: f32, cap: f32,
): void {
  const factor = f32x4.splat(scale);
  let to = scores;
  let left = n;
  for (; left >= 4; left -= 4) {
    if (two) fourScoresOfTwo(q, q + headBytes, key, to, SCORES, headBytes, stride, factor);
    else v128.store(to, f32x4.mul(fourScores(q, key, headBytes, stride), factor));
    key += 4 * stride;
    to += 16;
  }
  for (; left > 0; left--) {
    // One position alone, in the order in which it would be summed among four.
    store<f32>(to, f32x4.extract_lane(fourScores(q, key, headBytes, 0), 0) * scale);
    if (two) store<f32>(to + SCORES, f32x4.extract_lane(fourScores(q + headBytes, key, headBytes, 0), 0) * scale);
    key += stride;
    to += 4;
  }
  finishScores(scores, n, cap);
  if (two) finishScores(scores + SCORES, n, cap);
}

function finishScores(scores: usize, n: i32, cap: f32): void {
  if (cap > 0) softcap(scores, n, cap);
  for (let p = n; p & 3; p++) store<f32>(scores + (<usize>p << 2), -Infinity);
}

/** The largest of `n` scores. */
// @ts-ignore: decorator
@inline
function largestOf(scores: usize, n: i32): f32 {
  let largest = v128.load(scores);
  for (let p = 4; p < n; p += 4) largest = f32x4.pmax(largest, v128.load(scores + (<usize>p << 2)));
  return max<f32>(
    max<f32>(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
    max<f32>(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
  );
}

/**
 * Take a block's scores into a head's state, the largest so far and the sum of e^(score - largest), and turn them into
 * weights. Returns what the values added so far are to be multiplied by.
 */
function takeScores(state: usize, scores: usize, n: i32): f32 {
  const before = load<f32>(state);
  const top = max<f32>(before, largestOf(scores, n));
  const kept = f32x4.extract_lane(exponential(f32x4.splat(before - top)), 0);
  store<f32>(state, top);
  store<f32>(state, load<f32>(state, 4) * kept + exponentials(scores, n, top), 4);
  return kept;
}

/** scores = e^(scores - top) over `n` positions; returns their sum. */
// @ts-ignore: decorator
@inline
function exponentials(scores: usize, n: i32, top: f32): f32 {
  const shift = f32x4.splat(top);
  let totals = f32x4.splat(0);
  for (let p = 0; p < n; p += 4) {
    const e = exponential(f32x4.sub(v128.load(scores), shift));
    v128.store(scores, e);
    totals = f32x4.add(totals, e);
    scores += 16;
  }
  return lanes(totals);
}

/** 16 bytes of out = out * kept + the `n` positions' values times their weights. */
// @ts-ignore: decorator
@inline
function addVector(out: usize, v: usize, w: usize, n: i32, stride: usize, kept: f32): void {
  let acc = f32x4.mul(v128.load(out), f32x4.splat(kept));
  do {
    acc = f32x4.add(acc, f32x4.mul(v128.load_splat<f32>(w), v128.load(v)));
    v += stride;
    w += 4;
  } while (--n);
  v128.store(out, acc);
}

/** out (headSize) = out * kept + the `n` positions' values times their weights. */
function addValues(out: usize, values: usize, weights: usize, n: i32, headBytes: usize, stride: usize, kept: f32): void {
  const factor = f32x4.splat(kept);
  const end = out + headBytes;
  for (; out + 64 <= end; out += 64) {
    let a0 = f32x4.mul(v128.load(out), factor);
    let a1 = f32x4.mul(v128.load(out, 16), factor);
    let a2 = f32x4.mul(v128.load(out, 32), factor);
    let a3 = f32x4.mul(v128.load(out, 48), factor);
    let v = values;
    let w = weights;
    let left = n;
    do {
      const weight = v128.load_splat<f32>(w);
      a0 = f32x4.add(a0, f32x4.mul(weight, v128.load(v)));
      a1 = f32x4.add(a1, f32x4.mul(weight, v128.load(v, 16)));
      a2 = f32x4.add(a2, f32x4.mul(weight, v128.load(v, 32)));
      a3 = f32x4.add(a3, f32x4.mul(weight, v128.load(v, 48)));
      v += stride;
      w += 4;
    } while (--left);
    v128.store(out, a0);
    v128.store(out, a1, 16);
    v128.store(out, a2, 32);
    v128.store(out, a3, 48);
    values += 64;
  }
  for (; out < end; out += 16) {
    addVector(out, values, weights, n, stride, kept);
    values += 16;
  }
}

/** As addValues, for two heads that stand one behind the other; the second's weights are SCORES bytes on. */
function addValuesOfTwo(
  out: usize, values: usize, weights: usize, n: i32, headBytes: usize, stride: usize, kept: f32, keptOther: f32,
): void {
  const end = out + headBytes;
  for (; out + 64 <= end; out += 64) {
    const other = out + headBytes;
    let factor = f32x4.splat(kept);
    let a0 = f32x4.mul(v128.load(out), factor);
    let a1 = f32x4.mul(v128.load(out, 16), factor);
    let a2 = f32x4.mul(v128.load(out, 32), factor);
    let a3 = f32x4.mul(v128.load(out, 48), factor);
    factor = f32x4.splat(keptOther);
    let b0 = f32x4.mul(v128.load(other), factor);
    let b1 = f32x4.mul(v128.load(other, 16), factor);
    let b2 = f32x4.mul(v128.load(other, 32), factor);
    let b3 = f32x4.mul(v128.load(other, 48), factor);
    let v = values;
    let w = weights;
    let left = n;
    do {
      const weight = v128.load_splat<f32>(w);
      const second = v128.load_splat<f32>(w + SCORES);
      let four = v128.load(v);
      a0 = f32x4.add(a0, f32x4.mul(weight, four));
      b0 = f32x4.add(b0, f32x4.mul(second, four));
      four = v128.load(v, 16);
      a1 = f32x4.add(a1, f32x4.mul(weight, four));
      b1 = f32x4.add(b1, f32x4.mul(second, four));
      four = v128.load(v, 32);
      a2 = f32x4.add(a2, f32x4.mul(weight, four));
      b2 = f32x4.add(b2, f32x4.mul(second, four));
      four = v128.load(v, 48);
      a3 = f32x4.add(a3, f32x4.mul(weight, four));
      b3 = f32x4.add(b3, f32x4.mul(second, four));
      v += stride;
      w += 4;
    } while (--left);
    v128.store(out, a0);
    v128.store(out, a1, 16);
    v128.store(out, a2, 32);
    v128.store(out, a3, 48);
    v128.store(other, b0);
    v128.store(other, b1, 16);
    v128.store(other, b2, 32);
    v128.store(other, b3, 48);
    values += 64;
  }
  for (; out < end; out += 16) {
    addVector(out, values, weights, n, stride, kept);
    addVector(out + headBytes, values, weights + SCORES, n, stride, keptOther);
    values += 16;
  }
}

/** Attention of one token's heads over `length` positions from `start` on. */
function attendToken(
  q: usize, keys: usize, values: usize, out: usize, scores: usize,
  heads: i32, kvHeads: i32, headSize: i32, start: i32, length: i32, kvStride: usize, scale: f32, cap: f32, halves: bool,
  shared: i32, sharedKeys: usize, sharedValues: usize,
): void {
  const ownFrom = max<i32>(0, shared - (POSITIONS - 1));
  const group = heads / kvHeads;
  const headBytes = <usize>headSize << 2;
  memory.fill(out, 0, <usize>heads * headBytes);
  const states = scores + 2 * SCORES;
  const wide = states + (<usize>heads << 3);
  const wideBytes = <usize>POSITIONS * headBytes;
  for (let h = 0; h < heads; h++) {
    store<f32>(states + (<usize>h << 3), -Infinity);
    store<f32>(states + (<usize>h << 3), 0, 4);
  }
  for (let first = 0; first < length; first += POSITIONS) {
    const n = min<i32>(POSITIONS, length - first);
    // A block lies in one place.
    const isShared = start + first + n <= shared;
    const blockAt = <usize>(isShared ? start + first : start + first - ownFrom) * kvStride;
    const blockKeys = (isShared ? sharedKeys : keys) + blockAt;
    const blockValues = (isShared ? sharedValues : values) + blockAt;
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const headAt = <usize>kvHead * (halves ? headBytes >> 1 : headBytes);
      let k = blockKeys + headAt;
      let v = blockValues + headAt;
      let stride = kvStride;
      if (halves) {
        widenBlock(k, wide, n, headBytes, kvStride);
        widenBlock(v, wide + wideBytes, n, headBytes, kvStride);
        k = wide;
        v = wide + wideBytes;
        stride = headBytes;
      }
      let h = kvHead * group;
      const end = h + group;
      while (h < end) {
        const at = <usize>h * headBytes;
        const state = states + (<usize>h << 3);
        // Two heads with the same keys and values share their loads.
        const two = h < end - 1;
        blockScores(q + at, two, k, scores, n, headBytes, stride, scale, cap);
        const kept = takeScores(state, scores, n);
        if (two) {
          const keptOther = takeScores(state + 8, scores + SCORES, n);
          addValuesOfTwo(out + at, v, scores, n, headBytes, stride, kept, keptOther);
          h += 2;
        } else {
          addValues(out + at, v, scores, n, headBytes, stride, kept);
          h++;
        }
      }
    }
  }
  for (let h = 0; h < heads; h++) {
    const inverse = f32x4.splat(1 / load<f32>(states + (<usize>h << 3), 4));
    const end = out + headBytes;
    do {
      v128.store(out, f32x4.mul(v128.load(out), inverse));
      out += 16;
    } while (out < end);
  }
}

/**
 * Attention of `tokens` tokens' heads over cached positions. q, out: (tokens, heads, headSize); keys, values: rows of
 * kvStride bytes, (kvHeads, headSize) floats each, or half floats; headSize a multiple of 4. Token t attends to the last `window` of
 * the first length + t * growth positions, length at least 1. scores: room for 128 + 2 * heads floats, and with half floats for
 * 128 * headSize more. Scores are bounded by `cap` before the softmax, 0 for not.
 */
export function attention(
  q: usize, keys: usize, values: usize, out: usize, scores: usize,
  heads: i32, kvHeads: i32, headSize: i32, length: i32, kvStride: usize, scale: f32, cap: f32,
  tokens: i32, growth: i32, window: i32, halves: i32,
): void {
  attentionShared(
    q, keys, values, out, scores, heads, kvHeads, headSize, length, kvStride, scale, cap, tokens, growth, window, halves, 0, 0, 0,
  );
}

/**
 * As attention, where the first `shared` positions, fewer than `length`, are rows at sharedKeys and sharedValues, which other
 * sequences have, too. keys and values begin with position shared - 63, or 0 where that is less.
 */
export function attentionShared(
  q: usize, keys: usize, values: usize, out: usize, scores: usize,
  heads: i32, kvHeads: i32, headSize: i32, length: i32, kvStride: usize, scale: f32, cap: f32,
  tokens: i32, growth: i32, window: i32, halves: i32, shared: i32, sharedKeys: usize, sharedValues: usize,
): void {
  const bytes = <usize>heads * <usize>headSize << 2;
  for (let t = 0; t < tokens; t++) {
    const start = max<i32>(0, length - window);
    attendToken(
      q, keys, values, out, scores, heads, kvHeads, headSize, start, length - start, kvStride, scale, cap, halves !== 0,
      shared, sharedKeys, sharedValues,
    );
    q += bytes;
    out += bytes;
    length += growth;
  }
}
