// Attention over cached positions, as assembly/attention.ts: a softmax that is taken as blocks of positions go by. Two heads
// that share keys stand in the two halves of a vector, so each is summed in four lanes as there.
#pragma once

#include "kernels/generic/elements.h"

namespace host::kernels {
namespace {

// Positions of a block, counted from the first one that is attended to.
constexpr size_t kPositions = 64;
// Heads that go through a block together, at most.
constexpr size_t kHeadsTogether = 32;
// The largest head of which a block of floats is made on the stack (64 KiB).
constexpr size_t kWideHead = 256;

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

inline F4 four_sums(F4 a, F4 b, F4 c, F4 d) {
  F4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  F4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// Numbers of cached keys and values: four, eight, or four in both halves of a vector.
inline F4 four(const float* from) { return load<F4>(from); }
inline F4 four(const Half* from) { return load_four_halves(from); }
inline F32 eight(const float* from) { return load<F32>(from); }
inline F32 eight(const Half* from) { return load_halves(from); }

// Eight numbers, each four of them in both halves.
inline void eight_twice(const float* from, F32 (&to)[2]) {
  to[0] = twice(from);
  to[1] = twice(from + 4);
}
inline void eight_twice(const Half* from, F32 (&to)[2]) {
  const F32 x = load_halves(from);
  to[0] = __builtin_shufflevector(x, x, 0, 1, 2, 3, 0, 1, 2, 3);
  to[1] = __builtin_shufflevector(x, x, 4, 5, 6, 7, 4, 5, 6, 7);
}

// Where the keys of kCount positions from `p` on stand; of those behind the last there is that one again.
template <typename T, int kCount = 4>
struct SomeKeys {
  SomeKeys(const T* keys, size_t stride, size_t p, size_t n) {
    UNROLL for (size_t i = 0; i < kCount; i++) at[i] = keys + (p + i < n ? p + i : n - 1) * stride;
  }
  const T* at[kCount];
};

// Scores of kCount positions from p on, out of n, with two queries that stand one behind the other.
template <int kCount, typename T>
inline void some_scores_of_two(const Attention& a, const float* q, const T* keys, size_t stride, size_t p, size_t n, float* to, float* other) {
  auto both = [&](size_t d) { return join(load<F4>(q + d), load<F4>(q + a.head_size + d)); };
  const SomeKeys<T, kCount> k(keys, stride, p, n);
  F32 s[kCount] = {};
  size_t d = 0;
  for (; d + 8 <= a.head_size; d += 8) {
    const F32 first = both(d), second = both(d + 4);
    UNROLL for (int i = 0; i < kCount; i++) {
      F32 x[2];
      eight_twice(k.at[i] + d, x);
      s[i] = s[i] + first * x[0];
      s[i] = s[i] + second * x[1];
    }
  }
  if (d < a.head_size) {
    UNROLL for (int i = 0; i < kCount; i++) {
      const F4 x = four(k.at[i] + d);
      s[i] = s[i] + both(d) * join(x, x);
    }
  }
  UNROLL for (int i = 0; i < kCount; i += 4) {
    const F32 scores = four_sums(s[i], s[i + 1], s[i + 2], s[i + 3]) * splat(a.scale);
    store(to + p + i, low(scores));
    store(other + p + i, high(scores));
  }
}

// Scores of n positions with two queries that stand one behind the other; to and other get a multiple of four.
template <typename T>
inline void scores_of_two(const Attention& a, const float* q, const T* keys, size_t stride, size_t n, float* to, float* other) {
  size_t p = 0;
  for (; p + 8 <= n; p += 8) some_scores_of_two<8>(a, q, keys, stride, p, n, to, other);
  for (; p < n; p += 4) some_scores_of_two<4>(a, q, keys, stride, p, n, to, other);
}

// The same with one query: two positions stand in the two halves.
template <typename T>
inline void scores_of_one(const Attention& a, const float* q, const T* keys, size_t stride, size_t n, float* to) {
  for (size_t p = 0; p < n; p += 4) {
    const SomeKeys<T> k(keys, stride, p, n);
    F32 s01 = {}, s23 = {};
    for (size_t d = 0; d < a.head_size; d += 4) {
      const F32 both = twice(q + d);
      s01 = s01 + both * join(four(k.at[0] + d), four(k.at[1] + d));
      s23 = s23 + both * join(four(k.at[2] + d), four(k.at[3] + d));
    }
    store(to + p, four_sums(low(s01), high(s01), low(s23), high(s23)) * splat4(a.scale));
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
// head_size floats apart and whose weights stand kPositions floats apart.
template <int kHeads, int kVectors, typename T>
inline void add_vectors(const Attention& a, float* out, const T* values, size_t stride, const float* weights, size_t n, const float* kept) {
  F32 acc[kHeads][kVectors];
  UNROLL for (int h = 0; h < kHeads; h++) {
    UNROLL for (int i = 0; i < kVectors; i++) acc[h][i] = load<F32>(out + h * a.head_size + 8 * i) * splat(kept[h]);
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
    UNROLL for (int i = 0; i < kVectors; i++) store(out + h * a.head_size + 8 * i, acc[h][i]);
  }
}

template <int kHeads, typename T>
inline void add_values(const Attention& a, float* out, const T* values, size_t stride, const float* weights, size_t n, const float* kept) {
  size_t d = 0;
  for (; d + 32 <= a.head_size; d += 32) add_vectors<kHeads, 4>(a, out + d, values + d, stride, weights, n, kept);
  for (; d + 8 <= a.head_size; d += 8) add_vectors<kHeads, 1>(a, out + d, values + d, stride, weights, n, kept);
  if (d == a.head_size) return;
  UNROLL for (int h = 0; h < kHeads; h++) {
    float* to = out + h * a.head_size + d;
    F4 acc = load<F4>(to) * splat4(kept[h]);
    for (size_t p = 0; p < n; p++) acc = acc + splat4(weights[h * kPositions + p]) * four(values + p * stride + d);
    store(to, acc);
  }
}

// What heads that share keys and values know of a block of positions.
struct Block {
  size_t n;  // positions
  size_t heads;
  alignas(32) float weights[kHeadsTogether][kPositions];
  float kept[kHeadsTogether];
};

template <typename T>
inline void score_block(const Attention& a, const float* q, const T* keys, size_t stride, Block& b, HeadState* states) {
  for (size_t h = 0; h < b.heads; h += 2) {
    const float* queries = q + h * a.head_size;
    const bool two = h + 1 < b.heads;
    if (two) {
      scores_of_two(a, queries, keys, stride, b.n, b.weights[h], b.weights[h + 1]);
    } else {
      scores_of_one(a, queries, keys, stride, b.n, b.weights[h]);
    }
    for (size_t each = h; each < h + 1 + two; each++) b.kept[each] = take_scores(a, states[each], b.weights[each], b.n);
  }
}

template <typename T>
inline void add_block(const Attention& a, float* out, const T* values, size_t stride, const Block& b) {
  for (size_t h = 0; h < b.heads; h += 2) {
    float* to = out + h * a.head_size;
    if (h + 1 < b.heads) {
      add_values<2>(a, to, values, stride, b.weights[h], b.n, b.kept + h);
    } else {
      add_values<1>(a, to, values, stride, b.weights[h], b.n, b.kept + h);
    }
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

// Heads of a token, which share keys and values, over `length` positions from keys and values on. Each block of positions goes
// through all heads while it is in the nearest cache; of half floats it is made of floats first, where more than two heads
// use it.
template <typename T>
inline void attend_heads(const Attention& a, const float* q, const T* keys, const T* values, float* out, size_t heads, size_t length) {
  const size_t stride = a.kv_stride / sizeof(T);
  Block block;
  block.heads = heads;
  HeadState states[kHeadsTogether];
  for (size_t h = 0; h < heads; h++) states[h] = {-__builtin_inff(), 0};
  memset(out, 0, heads * a.head_size * sizeof(float));
  for (size_t first = 0; first < length; first += kPositions) {
    block.n = length - first < kPositions ? length - first : kPositions;
    const T* k = keys + first * stride;
    const T* v = values + first * stride;
    if constexpr (sizeof(T) == sizeof(Half)) {
      if (heads > 2 && a.head_size <= kWideHead) {
        alignas(32) float wide[kPositions * kWideHead];
        widen_block(k, stride, block.n, a.head_size, wide);
        score_block(a, q, wide, a.head_size, block, states);
        widen_block(v, stride, block.n, a.head_size, wide);
        add_block(a, out, wide, a.head_size, block);
        continue;
      }
    }
    score_block(a, q, k, stride, block, states);
    add_block(a, out, v, stride, block);
  }
  for (size_t h = 0; h < heads; h++) {
    const float inverse = 1 / states[h].total;
    float* of_head = out + h * a.head_size;
    for (size_t d = 0; d < a.head_size; d += 4) store(of_head + d, load<F4>(of_head + d) * splat4(inverse));
  }
}

template <typename T>
void attend_over(const Attention& a, size_t first, size_t end) {
  const T* keys = static_cast<const T*>(a.keys);
  const T* values = static_cast<const T*>(a.values);
  const size_t group = a.heads / a.kv_heads;
  for (size_t unit = first; unit < end; unit++) {
    const size_t slice = unit % a.slices;
    const size_t kv_head = unit / a.slices % a.kv_heads;
    const size_t token = unit / a.slices / a.kv_heads;
    const size_t from = slice * group / a.slices, to = (slice + 1) * group / a.slices;
    const size_t seen = a.length + token * a.growth;
    const size_t length = seen < a.window ? seen : a.window;
    const size_t kv_at = (seen - length) * (a.kv_stride / sizeof(T)) + kv_head * a.head_size;
    const size_t at = (token * a.heads + kv_head * group) * a.head_size;
    for (size_t head = from; head < to; head += kHeadsTogether) {
      const size_t heads = to - head < kHeadsTogether ? to - head : kHeadsTogether;
      attend_heads(a, a.q + at + head * a.head_size, keys + kv_at, values + kv_at, a.out + at + head * a.head_size, heads, length);
    }
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
