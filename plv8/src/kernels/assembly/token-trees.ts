// A vocabulary's tokens as trees (sampling/constraint/token-nodes.ts). The text of token t is the bytes at [starts[t], stops[t]).

/** Texts that are few enough to be put in order one by one. */
const FEW: i32 = 16;

// @ts-ignore: decorator
@inline
function word(at: usize, i: i32): i32 {
  return load<i32>(at + (<usize>i << 2));
}

// @ts-ignore: decorator
@inline
function setWord(at: usize, i: i32, value: i32): void {
  store<i32>(at + (<usize>i << 2), value);
}

/** Bytes of the longest text of the tokens below `count`. */
export function longestToken(starts: usize, stops: usize, count: i32): i32 {
  let longest = 0;
  for (let token = 0; token < count; token++) longest = max(longest, word(stops, token) - word(starts, token));
  return longest;
}

/** Put the tokens at [from, to) of `order` in the order of their texts, whose first `depth` bytes are the same. */
function insertEach(bytes: usize, starts: usize, stops: usize, order: usize, from: i32, to: i32, depth: i32): void {
  for (let i = from + 1; i < to; i++) {
    const token = word(order, i);
    const start = word(starts, token) + depth;
    const stop = word(stops, token);
    let at = i;
    for (; at > from; at--) {
      const before = word(order, at - 1);
      const end = word(stops, before);
      let a = word(starts, before) + depth;
      let b = start;
      while (a < end && b < stop && load<u8>(bytes + a) == load<u8>(bytes + b)) {
        a++;
        b++;
      }
      if (a == end || (b < stop && load<u8>(bytes + a) < load<u8>(bytes + b))) break;
      setWord(order, at, before);
    }
    setWord(order, at, token);
  }
}

/**
 * The tokens below `count` that have a text into `order`, in the order of their bytes, equal ones in their own; how many
 * there are. `room` has `count` words, `counts` 257, `groups` 3 for every
 * FEW tokens and 3 more.
 */
export function sortTokens(
  bytes: usize, starts: usize, stops: usize, count: i32, order: usize, room: usize, counts: usize, groups: usize,
): i32 {
  let texts = 0;
  for (let token = 0; token < count; token++) {
    if (word(stops, token) > word(starts, token)) setWord(order, texts++, token);
  }
  // Tokens from, to, and how many first bytes of theirs are the same.
  let waiting = 1;
  setWord(groups, 0, 0);
  setWord(groups, 1, texts);
  setWord(groups, 2, 0);
  while (waiting > 0) {
    waiting--;
    const group = groups + <usize>waiting * 12;
    const from = word(group, 0);
    const to = word(group, 1);
    const depth = word(group, 2);
    // By the byte at `depth`; those that end there come first.
    memory.fill(counts, 0, 257 * 4);
    for (let i = from; i < to; i++) {
      const token = word(order, i);
      const at = word(starts, token) + depth;
      const bucket = at < word(stops, token) ? 1 + <i32>load<u8>(bytes + at) : 0;
      setWord(counts, bucket, word(counts, bucket) + 1);
    }
    let next = from;
    for (let bucket = 0; bucket < 257; bucket++) {
      const size = word(counts, bucket);
      setWord(counts, bucket, next);
      next += size;
    }
    for (let i = from; i < to; i++) {
      const token = word(order, i);
      const at = word(starts, token) + depth;
      const bucket = at < word(stops, token) ? 1 + <i32>load<u8>(bytes + at) : 0;
      const place = word(counts, bucket);
      setWord(room, place, token);
      setWord(counts, bucket, place + 1);
    }
    memory.copy(order + (<usize>from << 2), room + (<usize>from << 2), <usize>(to - from) << 2);
    let first = word(counts, 0);
    for (let bucket = 1; bucket < 257; bucket++) {
      const end = word(counts, bucket);
      if (end - first > FEW) {
        const later = groups + <usize>waiting * 12;
        waiting++;
        setWord(later, 0, first);
        setWord(later, 1, end);
        setWord(later, 2, depth + 1);
      } else insertEach(bytes, starts, stops, order, first, end, depth + 1);
      first = end;
    }
  }
  return texts;
}

/**
 * The tree of the tokens with more than `shorter` and at most `longest` bytes, of `count` in order: its nodes in depth-first
 * order, how many there are. A node has the byte on the way to it, the bytes before that one, the node after the last one
 * below it, and the token that ends here or -1. `open` has `longest` words. Further tokens with the bytes of one are added to
 * `twins`: after how many they are, the token and the further one of each.
 */
export function growTree(
  bytes: usize, starts: usize, stops: usize, order: usize, count: i32, shorter: i32, longest: i32, open: usize,
  path: usize, depths: usize, ends: usize, tokens: usize, twins: usize,
): i32 {
  let nodes = 0;
  let before = 0; // where the token before begins
  let length = 0; // of the token before
  for (let i = 0; i < count; i++) {
    const token = word(order, i);
    const start = word(starts, token);
    const size = word(stops, token) - start;
    if (size <= shorter || size > longest) continue;
    const common = min(length, size);
    let depth = 0;
    while (depth < common && load<u8>(bytes + before + depth) == load<u8>(bytes + start + depth)) depth++;
    if (depth == size) {
      // A token comes after what it begins with, so these are the bytes of the token before.
      const pairs = load<i32>(twins);
      setWord(twins, 1 + 2 * pairs, word(tokens, nodes - 1));
      setWord(twins, 2 + 2 * pairs, token);
      store<i32>(twins, pairs + 1);
      continue;
    }
    while (length > depth) setWord(ends, word(open, --length), nodes);
    for (; length < size; length++) {
      store<u8>(path + nodes, load<u8>(bytes + start + length));
      store<u16>(depths + (<usize>nodes << 1), <u16>length);
      setWord(tokens, nodes, -1);
      setWord(open, length, nodes++);
    }
    setWord(tokens, nodes - 1, token);
    before = start;
  }
  while (length > 0) setWord(ends, word(open, --length), nodes);
  return nodes;
}
