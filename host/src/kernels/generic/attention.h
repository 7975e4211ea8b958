// Attention over cached positions, as assembly/attention.ts: a softmax that is taken as blocks of positions go by. Two heads
// that share keys stand in the two halves of a vector, so each is summed in four lanes as there.
#pragma once

#include "kernels/generic/elements.h"

namespace host::kernels {
namespace {

// Queries that share keys and values: one head's numbers stand `distance` floats behind the other's, and so does what comes out.
struct Sharers {
  size_t heads;
  size_t distance;
};

// Heads that go through a block together, at most.
constexpr size_t kHeadsTogether = 32;
// Groups of heads that go through a block one after the other, at most.
constexpr size_t kGroupsTogether = 16;
// Floats of a block's keys or values that are made on the stack (64 KiB): of heads of up to 256 numbers all, of larger ones a part.
constexpr size_t kWide = kPositions * 256;

// What is known of a head after the blocks so far.
struct HeadState {
  float top;    // largest score
  float total;  // sum of e^(score - top)
};

// Sums of the lanes of four vectors, one a lane; in each half.
inline F32 four_sums(F32 a, F32 b, F32 c, F32 d) {
  F32 ab = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13) + __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  F32 cd = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13) + __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
  return __builtin_shufflevector(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) + __builtin_shufflevector(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
}

// Numbers of cached keys and values: four or eight.
inline F4 four(const float* from) { return load<F4>(from); }
inline F4 four(const Half* from) { return load_four_halves(from); }
inline F32 eight(const float* from) { return load<F32>(from); }
inline F32 eight(const Half* from) { return load_halves(from); }

// Keys or values of positions to come, asked for a few at a time, in the order in which they lie in memory, while others are
// worked on: what a head has of a position is too little for the processor to see where the next one's lies. (Behind the last
// position that asks in vain, which is no fault.)
template <typename T>
class Ahead {
 public:
  // `numbers` of each of `positions` from `from` on, in `times` calls of `some`.
  Ahead(const T* from, size_t stride, size_t positions, size_t numbers, size_t times) : at_(from), stride_(stride), numbers_(numbers), left_(positions) {
    if (numbers == stride && stride % kCacheLine == 0) {
      stride_ = numbers_ = kCacheLine;
      left_ = positions * (stride / kCacheLine);
    }
    step_ = (left_ + times - 1) / times;
  }

  void some() {
    if (left_ < step_) return;
    left_ -= step_;
    for (size_t i = 0; i < step_; i++, at_ += stride_) {
      for (size_t d = 0; d < numbers_; d += kCacheLine) __builtin_prefetch(at_ + d);
    }
  }

 private:
  static constexpr size_t kCacheLine = 64 / sizeof(T);
  const T* at_;
  size_t stride_, numbers_, left_, step_;
};

// Keys are paired for so many positions at least.
constexpr size_t kScores = 8;
static_assert(kWide / kLargestHead >= kScores, "the keys of the largest head are paired on the stack");

// The keys of n positions as floats, and the last again up to a multiple of kScores: four numbers of a position, the four of
// the next, the four behind those of the first.
template <typename T>
inline void pair_keys(const T* keys, size_t stride, size_t n, size_t head_size, float* to) {
  for (size_t p = 0; p < n || p % kScores != 0; p += 2) {
    const T* one = keys + (p < n ? p : n - 1) * stride;
    const T* other = keys + (p + 1 < n ? p + 1 : n - 1) * stride;
    size_t d = 0;
    for (; d + 8 <= head_size; d += 8, to += 16) {
      const F32 x = eight(one + d), y = eight(other + d);
      store(to, __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11));
      store(to + 8, __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15));
    }
    if (d < head_size) {
      store(to, join(four(one + d), four(other + d)));
      to += 8;
    }
  }
}

// Scores of n positions' paired keys with kHeads queries that stand `distance` floats apart, to rows of kPositions; up to a multiple
// of kScores is written. As many positions go together as there are registers for the sums of.
template <int kHeads, typename A>
inline void score_heads(const Attention& a, const float* q, size_t distance, const float* keys, size_t n, float* to, A& ahead) {
  constexpr size_t kPairs = kHeads == 3 ? 2 : 4;
  for (size_t p = 0; p < n; p += 2 * kPairs, keys += 2 * kPairs * a.head_size) {
    ahead.some();
    F32 s[kHeads][kPairs] = {};
    for (size_t d = 0; d < a.head_size; d += 4) {
      F32 k[kPairs];
      UNROLL for (size_t i = 0; i < kPairs; i++) k[i] = load<F32>(keys + 2 * (i * a.head_size + d));
      UNROLL for (int h = 0; h < kHeads; h++) {
        const F32 query = twice(q + h * distance + d);
        UNROLL for (size_t i = 0; i < kPairs; i++) s[h][i] = s[h][i] + query * k[i];
      }
    }
    UNROLL for (int h = 0; h < kHeads; h++) {
      const F32 sums = four_sums(s[h][0], s[h][1], s[h][2 % kPairs], s[h][3 % kPairs]) * splat(a.scale);
      const F32 scores = __builtin_shufflevector(sums, sums, 0, 4, 1, 5, 2, 6, 3, 7);
      if (kPairs == 4) {
        store(to + h * kPositions + p, scores);
      } else {
        store(to + h * kPositions + p, low(scores));
      }
    }
  }
}

inline float larger_of(float a, float b) { return a > b ? a : b; }

// Take a block's scores into a head's state and turn them into weights; returns what the values added so far are to be
// multiplied by.
inline float take_scores(const Attention& a, HeadState& state, float* scores, size_t n) {
  if (a.cap > 0) {
    const Elements all = {scores, nullptr, n, a.cap};
    softcap(all, 0, 1);
  }
  size_t padded = n;
  for (; padded % 8 != 0; padded++) scores[padded] = -__builtin_inff();
  F32 most = load<F32>(scores);
  for (size_t p = 8; p < padded; p += 8) most = larger(load<F32>(scores + p), most);
  float top = state.top;
  UNROLL for (int i = 0; i < 8; i++) top = larger_of(most[i], top);
  const float kept = exponential(splat(state.top - top))[0];
  F4 totals = {};
  for (size_t p = 0; p < padded; p += 8) {
    F32 e = exponential(load<F32>(scores + p) - splat(top));
    store(scores + p, e);
    totals = totals + low(e);
    if (p + 4 < n) totals = totals + high(e);
  }
  state = {top, state.total * kept + sum_of(totals)};
  return kept;
}

// kVectors x 8 floats of out = out * kept + the n positions' values times their weights, for kHeads heads that stand
// `distance` floats apart and whose weights stand kPositions floats apart.
template <int kHeads, int kVectors, typename T>
inline void add_vectors(float* out, size_t distance, const T* values, size_t stride, const float* weights, size_t n, const float* kept) {
  F32 acc[kHeads][kVectors];
  UNROLL for (int h = 0; h < kHeads; h++) {
    UNROLL for (int i = 0; i < kVectors; i++) acc[h][i] = load<F32>(out + h * distance + 8 * i) * splat(kept[h]);
  }
  for (size_t p = 0; p < n; p++) {
    F32 v[kVectors];
    UNROLL for (int i = 0; i < kVectors; i++) v[i] = eight(values + 8 * i);
    UNROLL for (int h = 0; h < kHeads; h++) {
      const F32 weight = splat(weights[h * kPositions + p]);
      UNROLL for (int i = 0; i < kVectors; i++) acc[h][i] = acc[h][i] + weight * v[i];
    }
    values += stride;
  }
  UNROLL for (int h = 0; h < kHeads; h++) {
    UNROLL for (int i = 0; i < kVectors; i++) store(out + h * distance + 8 * i, acc[h][i]);
  }
}

template <int kHeads, typename T, typename A>
inline void add_values(const Attention& a, float* out, size_t distance, const T* values, size_t stride, const float* weights, size_t n, const float* kept, A& ahead) {
  size_t d = 0;
  for (; d + 32 <= a.head_size; d += 32) {
    ahead.some();
    add_vectors<kHeads, 4>(out + d, distance, values + d, stride, weights, n, kept);
  }
  for (; d + 8 <= a.head_size; d += 8) add_vectors<kHeads, 1>(out + d, distance, values + d, stride, weights, n, kept);
  if (d == a.head_size) return;
  UNROLL for (int h = 0; h < kHeads; h++) {
    float* to = out + h * distance + d;
    F4 acc = load<F4>(to) * splat4(kept[h]);
    for (size_t p = 0; p < n; p++) acc = acc + splat4(weights[h * kPositions + p]) * four(values + p * stride + d);
    store(to, acc);
  }
}

template <int kValue>
struct Count {
  static constexpr int value = kValue;
};

// What heads that share keys and values know of a block of positions.
struct Block {
  size_t n;  // positions
  Sharers sharers;
  alignas(32) float weights[kHeadsTogether][kPositions];
  alignas(32) float wide[kWide];  // keys, then values
  float kept[kHeadsTogether];
};

// Calls work(head, integral_constant<count>) for all heads, most of them two at a time: so many have registers for their sums.
template <typename Work>
inline void in_groups(size_t heads, Work work) {
  size_t h = 0;
  for (; h + 2 <= heads && h + 3 != heads; h += 2) work(h, Count<2>());
  if (h + 3 == heads) work(h, Count<3>());
  if (h + 1 == heads) work(h, Count<1>());
}

template <typename T>
inline void score_block(const Attention& a, const float* q, const T* keys, size_t stride, Block& b, HeadState* states, Ahead<T> ahead) {
  const size_t most = a.head_size * kPositions <= kWide ? kPositions : kWide / a.head_size / kScores * kScores;
  for (size_t p = 0; p < b.n; p += most) {
    const size_t n = b.n - p < most ? b.n - p : most;
    pair_keys(keys + p * stride, stride, n, a.head_size, b.wide);
    in_groups(b.sharers.heads, [&](size_t h, auto count) {
      score_heads<count.value>(a, q + h * b.sharers.distance, b.sharers.distance, b.wide, n, b.weights[h] + p, ahead);
      if (p + n < b.n) return;
      for (size_t each = h; each < h + count.value; each++) b.kept[each] = take_scores(a, states[each], b.weights[each], b.n);
    });
  }
}

// The n positions' numbers of a head as floats, one position's behind the other's.
inline void widen_block(const Half* from, size_t stride, size_t n, size_t head_size, float* to) {
  for (size_t p = 0; p < n; p++, from += stride, to += head_size) {
    size_t d = 0;
    for (; d + 8 <= head_size; d += 8) store(to + d, eight(from + d));
    if (d < head_size) store(to + d, four(from + d));
  }
}

// Half floats are made floats first where more than two heads use them.
template <typename T>
inline void add_block(const Attention& a, float* out, const T* values, size_t stride, Block& b, Ahead<T> ahead) {
  auto add = [&](const auto* from, size_t apart) {
    in_groups(b.sharers.heads, [&](size_t h, auto count) {
      add_values<count.value>(a, out + h * b.sharers.distance, b.sharers.distance, from, apart, b.weights[h], b.n, b.kept + h, ahead);
    });
  };
  if constexpr (sizeof(T) == sizeof(Half)) {
    if (b.sharers.heads > 2 && a.head_size * kPositions <= kWide) {
      widen_block(values, stride, b.n, a.head_size, b.wide);
      return add(static_cast<const float*>(b.wide), a.head_size);
    }
  }
  add(values, stride);
}

// A head's keys and values of n positions from `first` on.
template <typename T>
struct Rows {
  const T* keys;
  const T* values;
};

// A block lies in one place: what is the sequence's own begins a block less one before where the shared positions end.
template <typename T>
inline Rows<T> rows_at(const Attention& a, size_t first, size_t n, size_t kv_head) {
  const size_t stride = a.kv_stride / sizeof(T), own = own_from(a);
  const bool shared = first + n <= a.shared;
  const size_t at = (shared ? first : first - own) * stride + kv_head * a.head_size;
  return {static_cast<const T*>(shared ? a.shared_keys : a.keys) + at, static_cast<const T*>(shared ? a.shared_values : a.values) + at};
}

// Groups of heads from `kv_head` on, each of which shares keys and values with the others of its group, over `length` positions
// from `start` on; `apart` floats lie between the groups' queries. A block of positions goes through all heads before
// the next one: what the groups have of a position stands together in memory, so that keys and values are read from one end to
// the other.
template <typename T>
inline void attend_groups(const Attention& a, const float* q, float* out, size_t kv_head, size_t groups, size_t apart, Sharers sharers, size_t start, size_t length) {
  const size_t stride = a.kv_stride / sizeof(T), heads = sharers.heads;
  Block block;
  block.sharers = sharers;
  HeadState states[kGroupsTogether][kHeadsTogether];
  for (size_t g = 0; g < groups; g++) {
    for (size_t h = 0; h < heads; h++) {
      states[g][h] = {-__builtin_inff(), 0};
      memset(out + g * apart + h * sharers.distance, 0, a.head_size * sizeof(float));
    }
  }
  const size_t times = heads < 2 ? 1 : heads / 2, pieces = a.head_size < 32 ? 1 : a.head_size / 32;
  for (size_t first = 0; first < length; first += kPositions) {
    block.n = length - first < kPositions ? length - first : kPositions;
    const Rows<T> rows = rows_at<T>(a, start + first, block.n, kv_head);
    for (size_t g = 0; g < groups; g++) {
      const T* keys = rows.keys + g * a.head_size;
      const T* values = rows.values + g * a.head_size;
      const size_t from = g * kPositions / groups, to = (g + 1) * kPositions / groups;
      const size_t next = (kPositions + from) * stride - g * a.head_size;
      score_block(a, q + g * apart, keys, stride, block, states[g], Ahead<T>(keys + next, stride, to - from, groups * a.head_size, times * kPositions / kScores));
      add_block(a, out + g * apart, values, stride, block, Ahead<T>(values + next, stride, to - from, groups * a.head_size, times * pieces));
    }
  }
  for (size_t g = 0; g < groups; g++) {
    for (size_t h = 0; h < heads; h++) {
      const float inverse = 1 / states[g][h].total;
      float* of_head = out + g * apart + h * sharers.distance;
      for (size_t d = 0; d < a.head_size; d += 4) store(of_head + d, load<F4>(of_head + d) * splat4(inverse));
    }
  }
}

inline size_t smaller_of(size_t a, size_t b) { return a < b ? a : b; }

template <typename T>
void attend_over(const Attention& a, size_t first, size_t end) {
  const size_t group = a.heads / a.kv_heads;
  const size_t token_size = a.heads * a.head_size;
  for (size_t unit = first; unit < end;) {
    const size_t slice = unit % a.slices;
    const size_t kv_head = unit / a.slices % a.kv_heads;
    const size_t token = unit / a.slices / a.kv_heads;
    const size_t from = slice * group / a.slices, to = (slice + 1) * group / a.slices;
    const size_t seen = a.length + token * a.growth;
    const size_t length = smaller_of(seen, a.window);
    const size_t at = (token * a.heads + kv_head * group) * a.head_size;
    size_t groups = 1, tokens = 1;
    if (a.slices == 1 && group <= kHeadsTogether) {
      groups = smaller_of(smaller_of(kGroupsTogether, end - unit), a.kv_heads - kv_head);
      // Whole tokens that see the same positions share them as heads do.
      if (group == 1 && a.growth == 0 && groups == a.kv_heads) tokens = smaller_of(kHeadsTogether, (end - unit) / a.kv_heads);
    }
    for (size_t head = from; head < to; head += kHeadsTogether) {
      const size_t heads = smaller_of(to - head, kHeadsTogether), here = at + head * a.head_size;
      const Sharers sharers = tokens > 1 ? Sharers{tokens, token_size} : Sharers{heads, a.head_size};
      attend_groups<T>(a, a.q + here, a.out + here, kv_head, groups, group * a.head_size, sharers, seen - length, length);
    }
    unit += groups * tokens;
  }
}

void attend(const Attention& a, size_t first, size_t end) {
  if (a.halves) {
    attend_over<Half>(a, first, end);
  } else {
    attend_over<float>(a, first, end);
  }
}

}  // namespace
}  // namespace host::kernels
