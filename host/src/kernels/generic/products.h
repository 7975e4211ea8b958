// Products with matrices in the layouts of assembly/layout.ts. A tile is kOcts x kTokens: one load of weights serves
// kTokens tokens and one of activations kOcts octs. A row's product is a sum over blocks, in their order, of (exact integer
// sum) * (weight scale * activation scale), and of minimum * (scaled sum of activations) where there are minimums.
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

template <bool kNibbles, bool kMinimums, int kScaleCols, int kOcts, int kTokens, int kPairStep>
inline void tile(const Product& p, const uint8_t* weights, size_t oct, Tokens x, float* out, size_t rows) {
  const size_t blocks = p.cols / kBlock;
  F32 acc[kOcts][kTokens] = {};
  size_t left = blocks * (kBlock / kScaleCols);
  do {
    I32 sums[kOcts][kTokens];
    UNROLL for (int t = 0; t < kTokens; t++) {
      const int32_t start = kNibbles ? -p.offset * load<int32_t>(x.sums + t * x.float_step) : 0;
      I32 all = {start, start, start, start, start, start, start, start};
      UNROLL for (int o = 0; o < kOcts; o++) sums[o][t] = all;
    }
    // The column pair number `pair` of the group; w: its weights in each oct.
    auto add_pair = [&](const I16 (&w)[kOcts], size_t pair) {
      UNROLL for (int t = 0; t < kTokens; t++) {
        const I16 activations = splat_pair(x.quants + t * x.quant_step + pair * kPairStep);
        UNROLL for (int o = 0; o < kOcts; o++) sums[o][t] = add_dot(sums[o][t], w[o], activations);
      }
    };
    if constexpr (kNibbles) {
    for (int k = 0; k < kScaleCols / 8; k++) {
        U16 words[kOcts];
        I16 w[kOcts];
        UNROLL for (int o = 0; o < kOcts; o++) words[o] = load<U16>(weights + o * oct + 32 * k);
        UNROLL for (int nibble = 0; nibble < 4; nibble++) {
          UNROLL for (int o = 0; o < kOcts; o++) {
            U16 shifted = words[o] >> (4 * nibble);
            w[o] = reinterpret_cast<I16>(nibble == 3 ? shifted : shifted & 15);
          }
          add_pair(w, 4 * k + nibble);
        }
      }
      weights += 4 * kScaleCols;
    } else {
      for (int k = 0; k < kScaleCols / 2; k++) {
        I16 w[kOcts];
        UNROLL for (int o = 0; o < kOcts; o++) w[o] = widen(reinterpret_cast<const int8_t*>(weights + o * oct + 16 * k));
        add_pair(w, k);
      }
      weights += 8 * kScaleCols;
    }
    x.quants += kScaleCols / 2 * kPairStep;
    UNROLL for (int o = 0; o < kOcts; o++) {
      F32 scale = load<F32>(weights + o * oct);
      UNROLL for (int t = 0; t < kTokens; t++) {
        acc[o][t] = acc[o][t] + to_floats(sums[o][t]) * (scale * splat(load<float>(x.scales + t * x.float_step)));
      }
    }
    weights += 32;
    left--;
    if (kScaleCols == 16 && left % 2 == 1) continue;  // the other half of the activations' block follows
    x.scales += x.block_step;
    x.sums += x.block_step;
    if constexpr (kMinimums) {
      UNROLL for (int o = 0; o < kOcts; o++) {
        F32 minimum = load<F32>(weights + o * oct);
        UNROLL for (int t = 0; t < kTokens; t++) {
          acc[o][t] = acc[o][t] + minimum * splat(load<float>(x.scaled_sums + t * x.float_step));
        }
      }
      weights += 32;
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
template <bool kNibbles, bool kMinimums, int kScaleCols, int kOcts>
void octs(const Product& p, size_t oct) {
  const size_t bytes = oct_bytes(p.cols, kNibbles, kScaleCols, kMinimums);
  const uint8_t* weights = p.weights + oct * bytes;
  const size_t rows = p.rows - oct * kOctRows;
  const size_t in_fours = p.tokens & ~size_t{3};
  float* out = p.out + oct * kOctRows;
  auto at = [&](size_t token) { return reinterpret_cast<float*>(reinterpret_cast<char*>(out) + token * p.out_stride); };
  for (size_t t = 0; t < in_fours; t += 4) {
    tile<kNibbles, kMinimums, kScaleCols, kOcts, 4, 16>(p, weights, bytes, tokens_from(p, t, true), at(t), rows);
  }
  Tokens x = tokens_from(p, in_fours, false);
  switch (p.tokens - in_fours) {
    case 1:
      return tile<kNibbles, kMinimums, kScaleCols, kOcts, 1, 4>(p, weights, bytes, x, at(in_fours), rows);
    case 2:
      return tile<kNibbles, kMinimums, kScaleCols, kOcts, 2, 4>(p, weights, bytes, x, at(in_fours), rows);
    case 3:
      return tile<kNibbles, kMinimums, kScaleCols, kOcts, 3, 4>(p, weights, bytes, x, at(in_fours), rows);
  }
}

template <bool kNibbles, bool kMinimums, int kScaleCols>
void all_octs(const Product& p, size_t first, size_t end) {
  size_t oct = first;
  // A single token has nothing to gain from two octs at once: its weights come from memory as one stream.
  if (p.tokens > 1) {
    for (; oct + 2 <= end; oct += 2) octs<kNibbles, kMinimums, kScaleCols, 2>(p, oct);
  }
  for (; oct < end; oct++) octs<kNibbles, kMinimums, kScaleCols, 1>(p, oct);
}

void product(const Product& p, size_t first, size_t end) {
  if (p.nibbles) {
    p.minimums ? all_octs<true, true, 32>(p, first, end) : all_octs<true, false, 32>(p, first, end);
  } else if (p.scale_cols == 16) {
    all_octs<false, false, 16>(p, first, end);
  } else {
    p.minimums ? all_octs<false, true, 32>(p, first, end) : all_octs<false, false, 32>(p, first, end);
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
