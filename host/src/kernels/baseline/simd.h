// Any processor: on x86-64 SSE2, elsewhere what the compiler makes of it.
#pragma once

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernels/generic/types.h"

namespace host::kernels {
namespace {

inline I32 add_dot(I32 sums, I16 a, I16 b) {
#if defined(__SSE2__)
  union Halves {
    I16 whole;
    __m128i half[2];
  };
  const Halves x = {a}, y = {b};
  union {
    __m128i half[2];
    I32 whole;
  } products = {{_mm_madd_epi16(x.half[0], y.half[0]), _mm_madd_epi16(x.half[1], y.half[1])}};
  return sums + products.whole;
#else
  for (int i = 0; i < 8; i++) sums[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sums;
#endif
}

inline I16 widen(const int8_t* from) {
  I16 out;
  for (int i = 0; i < 16; i++) out[i] = from[i];
  return out;
}

inline I32 widen_bytes(const void* from) {
  I32 out;
  for (int i = 0; i < 8; i++) out[i] = static_cast<const int8_t*>(from)[i];
  return out;
}

// The bits in their places, times 2^112.
template <typename Floats, typename Integers, int kCount>
inline Floats widen_halves(const void* from) {
  Integers bits = {};
  for (int i = 0; i < kCount; i++) {
    int16_t half;
    memcpy(&half, static_cast<const char*>(from) + 2 * i, sizeof half);
    bits[i] = static_cast<int32_t>((static_cast<uint32_t>(static_cast<int32_t>(half)) << 13) & 0x8fffe000u);
  }
  return reinterpret_cast<Floats>(bits) * 0x1p112f;
}

inline F32 load_halves(const void* from) { return widen_halves<F32, I32, 8>(from); }
inline F4 load_four_halves(const void* from) { return widen_halves<F4, I4, 4>(from); }

inline F32 twice(const float* from) {
  return F32{from[0], from[1], from[2], from[3], from[0], from[1], from[2], from[3]};
}

inline F32 larger(F32 a, F32 b) { return a > b ? a : b; }
inline F32 smaller(F32 a, F32 b) { return a < b ? a : b; }

inline S8 narrow(I32 x) {
  S8 out;
  for (int i = 0; i < 8; i++) out[i] = static_cast<int16_t>(x[i] > 32767 ? 32767 : x[i] < -32768 ? -32768 : x[i]);
  return out;
}

}  // namespace
}  // namespace host::kernels
