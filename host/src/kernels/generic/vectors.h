// Vector types and what is made of them. A family's simd.h comes first and defines, over these types,
//   I32 add_dot(I32 sums, I16 a, I16 b)   sums of four-byte lanes plus the products of their two int16
//   I16 widen(const int8_t*)              sixteen int8
//   F32 twice(const float*)               four floats in both halves
//   F32 larger(F32 a, F32 b), smaller     a > b ? a : b, a < b ? a : b
//   S8 narrow(I32)                        eight int16, bounded
//   F32 load_halves(const void*)          eight finite half floats, subnormals included
//   F4 load_four_halves(const void*)      four
//   I32 widen_bytes(const void*)          eight int8
// Everything is in an unnamed namespace: each family has its own copy, compiled for its own processor.
#pragma once

#include <string.h>

#include "kernels/kernels.h"
#include "kernels/generic/types.h"

namespace host::kernels {
namespace {

template <typename T>
inline T load(const void* from) {
  T out;
  memcpy(&out, from, sizeof out);
  return out;
}

template <typename T>
inline void store(void* to, T value) {
  memcpy(to, &value, sizeof value);
}

inline F32 splat(float x) { return F32{x, x, x, x, x, x, x, x}; }
inline F4 splat4(float x) { return F4{x, x, x, x}; }

inline U16 splat_bits(int x) {
  const uint16_t bits = static_cast<uint16_t>(x);
  return U16{bits, bits, bits, bits, bits, bits, bits, bits, bits, bits, bits, bits, bits, bits, bits, bits};
}

// Two int16 that stand together, in every lane.
inline I16 splat_pair(const void* from) {
  int32_t pair = load<int32_t>(from);
  return reinterpret_cast<I16>(I32{pair, pair, pair, pair, pair, pair, pair, pair});
}

inline F32 to_floats(I32 x) { return __builtin_convertvector(x, F32); }

inline F4 low(F32 x) { return __builtin_shufflevector(x, x, 0, 1, 2, 3); }
inline F4 high(F32 x) { return __builtin_shufflevector(x, x, 4, 5, 6, 7); }
inline I4 low(I32 x) { return __builtin_shufflevector(x, x, 0, 1, 2, 3); }
inline I4 high(I32 x) { return __builtin_shufflevector(x, x, 4, 5, 6, 7); }
inline F32 join(F4 a, F4 b) { return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7); }

// As `lanes` of assembly/simd.ts.
inline float sum_of(F4 v) { return v[0] + v[2] + (v[1] + v[3]); }

// Zeros behind the first n floats.
inline F32 load_some(const float* from, size_t n) {
  F32 out = {};
  for (size_t i = 0; i < n; i++) out[i] = from[i];
  return out;
}

inline void store_some(float* to, F32 values, size_t n) {
  if (n >= 8) {
    store(to, values);
  } else {
    for (size_t i = 0; i < n; i++) to[i] = values[i];
  }
}

template <typename V>
inline V larger_integers(V a, V b) {
  return a > b ? a : b;
}

// A float of magnitude below 2^22 plus this one is rounded to the nearest integer, and its bits are this one's plus it.
constexpr float kRounding = 12582912.0f;
constexpr int32_t kRoundingBits = 0x4b400000;

inline I32 rounded_integers(F32 sum) { return reinterpret_cast<I32>(sum) - kRoundingBits; }

// As `exponential` of assembly/simd.ts, step by step.
inline F32 exponential(F32 x) {
  F32 bounded = smaller(splat(88), larger(splat(-87), x));
  F32 rounded = bounded * splat(1.44269504f) + splat(kRounding);
  F32 n = rounded - splat(kRounding);
  F32 r = bounded - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
  F32 p = splat(static_cast<float>(1.0 / 5040.0));
  p = p * r + splat(static_cast<float>(1.0 / 720.0));
  p = p * r + splat(static_cast<float>(1.0 / 120.0));
  p = p * r + splat(static_cast<float>(1.0 / 24.0));
  p = p * r + splat(static_cast<float>(1.0 / 6.0));
  p = p * r + splat(0.5f);
  p = p * r + splat(1);
  p = p * r + splat(1);
  I32 power = (rounded_integers(rounded) + 127) << 23;
  return p * reinterpret_cast<F32>(power);
}

}  // namespace
}  // namespace host::kernels
