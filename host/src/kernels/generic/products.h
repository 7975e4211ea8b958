// Products with matrices in the layouts of assembly/layout.ts. A tile is kOcts x kTokens: one load of weights serves
// kTokens tokens and one of activations kOcts octs. A row's product is a sum over groups (columns that share a scale), in
// their order, of (exact integer sum) * (weight scale * activation scale), and of minimum * (scaled sum of activations)
// where there are minimums.
#pragma once

#include "kernels/generic/vectors.h"

namespace host::kernels {
namespace {

// The activations of a tile's tokens. Among fours of tokens the pairs of a column stand side by side.
struct Tokens {
  const char* quants;
  const char* scales;
  const char* sums;
  const char* scaled_sums;
  // Bytes from one token to the next, and from one block of floats to the next.
  size_t quant_step, float_step, block_step;
};

// A form whose parts the compiler knows.
template <int kBits, bool kMinimums, int kScaleCols, Scales kScales>
struct KnownForm {
  static constexpr int bits = kBits;
  static constexpr bool minimums = kMinimums;
  static constexpr int scale_cols = kScaleCols;
  static constexpr Scales scales = kScales;
  static constexpr size_t float_bytes = kernels::float_bytes(kScales);
  static constexpr int super_groups = kSuperCols / kScaleCols;
};

// Eight scales or minimums of a group; `top` are their super scales.
template <typename F>
inline F32 floats_of(const uint8_t* from, F32 top) {
  if constexpr (F::scales == Scales::kFloats) return load<F32>(from);
  if constexpr (F::scales == Scales::kHalves) return load_halves(from);
  return top * to_floats(widen_bytes(from));
}

// The weights of one column pair of each oct, in the order of a group's pairs: kOcts vectors for each pair. With kInPlace every
// second nibble is left where it is, and its weights come 16 times as large: a mask takes one operation, a shift and a mask two.
template <typename F, int kOcts, bool kInPlace, typename Use>
inline void each_pair(const uint8_t* weights, size_t oct, Use use) {
  I16 w[kOcts];
  if constexpr (F::bits == 8) {
    UNROLL for (int k = 0; k < F::scale_cols / 2; k++) {
      UNROLL for (int o = 0; o < kOcts; o++) w[o] = widen(reinterpret_cast<const int8_t*>(weights + o * oct + 16 * k));
      use(w, k);
    }
  } else {
    constexpr int kMore = F::bits - 4, kMoreMask = (1 << kMore) - 1;
    U16 more[kOcts];
    if constexpr (kMore > 0) {
      UNROLL for (int o = 0; o < kOcts; o++) more[o] = load<U16>(weights + o * oct + 4 * F::scale_cols);
    }
    auto words_at = [&](int k) {
      U16 words[kOcts];
      UNROLL for (int o = 0; o < kOcts; o++) words[o] = load<U16>(weights + o * oct + 32 * k);
      UNROLL for (int nibble = 0; nibble < 4; nibble++) {
        const bool in_place = kInPlace && nibble % 2 == 1;
        const int shift = 4 * (in_place ? nibble - 1 : nibble), to = in_place ? 8 : 4;
        UNROLL for (int o = 0; o < kOcts; o++) {
          U16 integers = words[o] >> shift;
          if (nibble < 3 || in_place) integers &= splat_bits(in_place ? 0xf0 : 0x0f);
          if constexpr (kMore > 0) {
            const int field = (2 * k + nibble / 2) * kMore;
            const int from = field / 4 * 8 + field % 4 + nibble % 2 * 4;
            integers |= (to > from ? more[o] << (to - from) : more[o] >> (from - to)) & splat_bits(kMoreMask << to);
          }
          w[o] = reinterpret_cast<I16>(integers);
        }
        use(w, 4 * k + nibble);
      }
    };
    UNROLL for (int k = 0; k < F::scale_cols / 8; k++) words_at(k);
  }
}

// The first tile of its octs has their weights come from memory, and asks for those of the next octs on the way: the processor's
// own prefetching is not far enough ahead. (Behind the last oct that asks in vain, which is no fault.)
template <typename F, int kOcts, int kTokens, int kPairStep>
inline void tile(const Product& p, const uint8_t* weights, size_t oct, Tokens x, float* out, size_t rows, bool first) {
  constexpr size_t kCacheLine = 64;
  // Sums of whole blocks stand beside the activations; where half a block shares a scale, the offset is taken off each integer.
  constexpr bool kOffsetOnSums = F::bits < 8 && F::scale_cols == kBlock;
  constexpr bool kOffsetOnIntegers = F::bits < 8 && !kOffsetOnSums;
  // With one token there are registers for sums of weights that are 16 times as large.
  constexpr bool kInPlace = F::bits < 8 && kTokens == 1;
  F32 acc[kOcts][kTokens] = {};
  F32 top[kOcts] = {}, bottom[kOcts] = {};
  size_t left = p.cols / F::scale_cols;
  do {
    if constexpr (F::scales == Scales::kSuper) {
      if (left % F::super_groups == 0) {
        UNROLL for (int o = 0; o < kOcts; o++) {
          top[o] = load_halves(weights + o * oct);
          if constexpr (F::minimums) bottom[o] = load_halves(weights + o * oct + 16);
        }
        weights += F::minimums ? 32 : 16;
      }
    }
    if (first) {
      UNROLL for (int o = 0; o < kOcts; o++) {
        const uint8_t* next = weights + (kOcts + o) * oct;
        UNROLL for (size_t b = 0; b < F::bits * F::scale_cols + F::float_bytes; b += kCacheLine) __builtin_prefetch(next + b);
      }
    }
    I32 sums[kOcts][kTokens];
    UNROLL for (int t = 0; t < kTokens; t++) {
      const int32_t start = kOffsetOnSums ? -p.form.offset * load<int32_t>(x.sums + t * x.float_step) : 0;
      I32 all = {start, start, start, start, start, start, start, start};
      UNROLL for (int o = 0; o < kOcts; o++) sums[o][t] = all;
    }
    // Sixteen registers do not hold both: what is added to once a group waits in memory for what is added to at every pair.
    if constexpr (kOcts * kTokens >= 8) asm("" : "+m"(acc));
    I32 sixteenfold[kOcts] = {};
    each_pair<F, kOcts, kInPlace>(weights, oct, [&](I16 (&w)[kOcts], size_t pair) {
      const bool in_place = kInPlace && pair % 2 == 1;
      if constexpr (kOffsetOnIntegers) {
        const I16 offset = reinterpret_cast<I16>(splat_bits(in_place ? 16 * p.form.offset : p.form.offset));
        UNROLL for (int o = 0; o < kOcts; o++) w[o] -= offset;
      }
      UNROLL for (int t = 0; t < kTokens; t++) {
        const I16 activations = splat_pair(x.quants + t * x.quant_step + pair * kPairStep);
        UNROLL for (int o = 0; o < kOcts; o++) {
          I32& to = in_place ? sixteenfold[o] : sums[o][t];
          to = add_dot(to, w[o], activations);
        }
      }
    });
    if constexpr (kInPlace) {
      UNROLL for (int o = 0; o < kOcts; o++) sums[o][0] += sixteenfold[o] >> 4;
    }
    weights += F::bits * F::scale_cols;
    x.quants += F::scale_cols / 2 * kPairStep;
    UNROLL for (int o = 0; o < kOcts; o++) {
      F32 scale = floats_of<F>(weights + o * oct, top[o]);
      UNROLL for (int t = 0; t < kTokens; t++) {
        acc[o][t] = acc[o][t] + to_floats(sums[o][t]) * (scale * splat(load<float>(x.scales + t * x.float_step)));
      }
    }
    weights += F::float_bytes;
    left--;
    if (F::scale_cols == 16 && left % 2 == 1) continue;  // the other half of the activations' block follows
    x.scales += x.block_step;
    x.sums += x.block_step;
    if constexpr (F::minimums) {
      UNROLL for (int o = 0; o < kOcts; o++) {
        F32 minimum = floats_of<F>(weights + o * oct, bottom[o]);
        if (F::scales == Scales::kSuper) minimum = -minimum;
        UNROLL for (int t = 0; t < kTokens; t++) {
          acc[o][t] = acc[o][t] + minimum * splat(load<float>(x.scaled_sums + t * x.float_step));
        }
      }
      weights += F::float_bytes;
      x.scaled_sums += x.block_step;
    }
  } while (left > 0);
  UNROLL for (int t = 0; t < kTokens; t++) {
    float* to = reinterpret_cast<float*>(reinterpret_cast<char*>(out) + t * p.out_stride);
    UNROLL for (int o = 0; o < kOcts; o++) store_some(to + o * kOctRows, acc[o][t], o + 1 < kOcts ? kOctRows : rows - o * kOctRows);
  }
}

inline Tokens tokens_from(const Product& p, size_t token, bool fours) {
  const size_t blocks = p.cols / kBlock;
  Tokens x;
  x.quants = reinterpret_cast<const char*>(p.quants + token * p.cols);
  x.scales = reinterpret_cast<const char*>(p.scales + token * blocks);
  x.sums = reinterpret_cast<const char*>(p.sums + token * blocks);
  x.scaled_sums = reinterpret_cast<const char*>(p.scaled_sums + token * blocks);
  x.quant_step = fours ? 4 : 2 * p.cols;
  x.float_step = fours ? 4 : 4 * blocks;
  x.block_step = fours ? 16 : 4;
  return x;
}

// kOcts octs from `oct` on, against all tokens.
template <typename F, int kOcts>
void octs(const Product& p, size_t oct) {
  const size_t bytes = oct_bytes(p.cols, p.form);
  const uint8_t* weights = p.weights + oct * bytes;
  const size_t rows = p.rows - oct * kOctRows;
  const size_t in_fours = p.tokens & ~size_t{3};
  float* out = p.out + oct * kOctRows;
  auto at = [&](size_t token) { return reinterpret_cast<float*>(reinterpret_cast<char*>(out) + token * p.out_stride); };
  for (size_t t = 0; t < in_fours; t += 4) {
    tile<F, kOcts, 4, 16>(p, weights, bytes, tokens_from(p, t, true), at(t), rows, t == 0);
  }
  Tokens x = tokens_from(p, in_fours, false);
  switch (p.tokens - in_fours) {
    case 1:
      return tile<F, kOcts, 1, 4>(p, weights, bytes, x, at(in_fours), rows, in_fours == 0);
    case 2:
      return tile<F, kOcts, 2, 4>(p, weights, bytes, x, at(in_fours), rows, in_fours == 0);
    case 3:
      return tile<F, kOcts, 3, 4>(p, weights, bytes, x, at(in_fours), rows, in_fours == 0);
  }
}

template <typename F>
void all_octs(const Product& p, size_t first, size_t end) {
  size_t oct = first;
  // A single token has nothing to gain from two octs at once: its weights come from memory as one stream.
  if (p.tokens > 1) {
    for (; oct + 2 <= end; oct += 2) octs<F, 2>(p, oct);
  }
  for (; oct < end; oct++) octs<F, 1>(p, oct);
}

// For every form that there is (calls.cc lets no other in).
void product(const Product& p, size_t first, size_t end) {
  const Form& f = p.form;
  const bool super = f.scales == Scales::kSuper, halves = f.scales == Scales::kHalves;
  switch (f.bits) {
    case 4:
      if (super) return all_octs<KnownForm<4, true, 32, Scales::kSuper>>(p, first, end);
      return f.minimums ? all_octs<KnownForm<4, true, 32, Scales::kHalves>>(p, first, end) : all_octs<KnownForm<4, false, 32, Scales::kHalves>>(p, first, end);
    case 5:
      if (super) return all_octs<KnownForm<5, true, 32, Scales::kSuper>>(p, first, end);
      return f.minimums ? all_octs<KnownForm<5, true, 32, Scales::kHalves>>(p, first, end) : all_octs<KnownForm<5, false, 32, Scales::kHalves>>(p, first, end);
    case 6:
      return all_octs<KnownForm<6, false, 16, Scales::kSuper>>(p, first, end);
    default:
      if (halves) return all_octs<KnownForm<8, false, 32, Scales::kHalves>>(p, first, end);
      return f.scale_cols == 16 ? all_octs<KnownForm<8, false, 16, Scales::kFloats>>(p, first, end) : all_octs<KnownForm<8, false, 32, Scales::kFloats>>(p, first, end);
  }
}

// Products of two tokens with kRows rows: a vector holds a sum of four lanes for either.
template <int kRows>
inline void float_tile(const FloatProduct& p, size_t row, size_t token, size_t other) {
  const float* w = p.weights + row * p.cols;
  const float* a = p.x + token * p.cols;
  const float* b = p.x + other * p.cols;
  F32 acc[kRows] = {};
  for (size_t i = 0; i < p.cols; i += 4) {
    F32 x = join(load<F4>(a + i), load<F4>(b + i));
    UNROLL for (int r = 0; r < kRows; r++) acc[r] = acc[r] + twice(w + r * p.cols + i) * x;
  }
  float* out_a = reinterpret_cast<float*>(reinterpret_cast<char*>(p.out) + token * p.out_stride) + row;
  float* out_b = reinterpret_cast<float*>(reinterpret_cast<char*>(p.out) + other * p.out_stride) + row;
  UNROLL for (int r = 0; r < kRows; r++) {
    out_a[r] = sum_of(low(acc[r]));
    out_b[r] = sum_of(high(acc[r]));
  }
}

// Products of one token with kPairs pairs of rows.
template <int kPairs>
inline void float_rows(const FloatProduct& p, size_t row, size_t token) {
  const float* w = p.weights + row * p.cols;
  const float* x = p.x + token * p.cols;
  F32 acc[kPairs] = {};
  for (size_t i = 0; i < p.cols; i += 4) {
    F32 both = twice(x + i);
    UNROLL for (int r = 0; r < kPairs; r++) {
      const float* pair = w + 2 * r * p.cols + i;
      acc[r] = acc[r] + join(load<F4>(pair), load<F4>(pair + p.cols)) * both;
    }
  }
  float* out = reinterpret_cast<float*>(reinterpret_cast<char*>(p.out) + token * p.out_stride) + row;
  UNROLL for (int r = 0; r < kPairs; r++) {
    out[2 * r] = sum_of(low(acc[r]));
    out[2 * r + 1] = sum_of(high(acc[r]));
  }
}

void float_product(const FloatProduct& p, size_t first, size_t end) {
  size_t row = first;
  for (; row + 4 <= end; row += 4) {
    size_t t = 0;
    for (; t + 2 <= p.tokens; t += 2) float_tile<4>(p, row, t, t + 1);
    if (t < p.tokens) float_rows<2>(p, row, t);
  }
  for (; row < end; row++) {
    for (size_t t = 0; t < p.tokens; t++) float_tile<1>(p, row, t, t);
  }
}

}  // namespace
}  // namespace host::kernels
