// The operations of AVX2 but for sums of products, which later processors have better ones for.
#pragma once

#include <immintrin.h>

#include "kernels/generic/types.h"

namespace host::kernels {
namespace {

inline I16 widen(const int8_t* from) {
  return reinterpret_cast<I16>(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

inline I32 widen_bytes(const void* from) {
  return reinterpret_cast<I32>(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}

inline F32 load_halves(const void* from) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))); }
inline F4 load_four_halves(const void* from) { return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))); }

inline F32 twice(const float* from) {
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from));
}

inline F32 larger(F32 a, F32 b) { return _mm256_max_ps(a, b); }
inline F32 smaller(F32 a, F32 b) { return _mm256_min_ps(a, b); }

inline S8 narrow(I32 x) {
  const __m256i v = reinterpret_cast<__m256i>(x);
  return reinterpret_cast<S8>(_mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

}  // namespace
}  // namespace host::kernels
