/**
 * Texts in the order of their bytes. It happens once in a backend, when V8 has compiled nothing of this yet. So most of it is
 * left to the sort of typed arrays, which is native, and the loops have small integers only.
 */

/** Texts of tokens, one after another in `bytes`. */
export interface TokenTexts {
  bytes: Uint8Array;
  /** (texts) where each begins and ends */
  starts: Int32Array;
  stops: Int32Array;
  /** (texts) the token */
  tokens: Int32Array;
}

/** Bytes in a key. */
const WIDTH = 4;
/** Bits of a place in a key, below those of how many of its bytes there are. */
const PLACE_BITS = 28;

/** Texts that are few enough to be put in order one by one. */
const FEW = 16;

/** (texts) places in `texts` in the order of their bytes; equal ones in their own order. */
export function inOrder({ bytes, starts, stops }: TokenTexts): Int32Array {
  const count = starts.length;
  const order = new Int32Array(count);
  for (let place = 0; place < count; place++) order[place] = place;
  // A key as two halves: the next bytes, 0 where there are none; how many they are, WIDTH + 1 for more than fit, and the place.
  const keys = new BigUint64Array(count);
  const halves = new Int32Array(keys.buffer); // the low one first
  const groups = [0, count, 0]; // from, to, bytes that are the same in all of it
  while (groups.length > 0) {
    const depth = groups.pop()!;
    const to = groups.pop()!;
    const from = groups.pop()!;
    for (let i = from; i < to; i++) {
      const place = order[i]!;
      const at = starts[place]! + depth;
      const length = stops[place]! - at;
      let key = bytes[at]! << 24;
      if (length > 1) key |= bytes[at + 1]! << 16;
      if (length > 2) key |= bytes[at + 2]! << 8;
      if (length > 3) key |= bytes[at + 3]!;
      halves[2 * i] = ((length > WIDTH ? WIDTH + 1 : length) << PLACE_BITS) | place;
      halves[2 * i + 1] = length > 0 ? key : 0;
    }
    keys.subarray(from, to).sort();
    for (let i = from; i < to;) {
      const first = i;
      const key = halves[2 * i + 1]!;
      const length = halves[2 * i]! >>> PLACE_BITS;
      while (i < to && halves[2 * i + 1] === key && halves[2 * i]! >>> PLACE_BITS === length) {
        order[i] = halves[2 * i]! & (2 ** PLACE_BITS - 1);
        i++;
      }
      // Others of the same key and length are the same texts.
      if (i - first < 2 || length <= WIDTH) continue;
      if (i - first > FEW) groups.push(first, i, depth + WIDTH);
      else insertEach(bytes, starts, stops, order, first, i, depth + WIDTH);
    }
  }
  return order;
}

/** Put the texts at [from, to) of `order` in order, whose first `depth` bytes are the same. */
function insertEach(
  bytes: Uint8Array,
  starts: Int32Array,
  stops: Int32Array,
  order: Int32Array,
  from: number,
  to: number,
  depth: number,
): void {
  for (let i = from + 1; i < to; i++) {
    const place = order[i]!;
    const start = starts[place]! + depth;
    const stop = stops[place]!;
    let at = i;
    for (; at > from; at--) {
      const before = order[at - 1]!;
      const end = stops[before]!;
      let a = starts[before]! + depth;
      let b = start;
      while (a < end && b < stop && bytes[a] === bytes[b]) {
        a++;
        b++;
      }
      if (a === end || (b < stop && bytes[a]! < bytes[b]!)) break;
      order[at] = before;
    }
    order[at] = place;
  }
}
