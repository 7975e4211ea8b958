// AVX-512 with VNNI: one instruction multiplies pairs and adds their sums. Vectors of 256 bits, of which there are 32 here.
#pragma once

#include "kernels/haswell/avx2.h"

namespace host::kernels {
namespace {

inline I32 add_dot(I32 sums, I16 a, I16 b) {
  return reinterpret_cast<I32>(_mm256_dpwssd_epi32(reinterpret_cast<__m256i>(sums), reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}

}  // namespace
}  // namespace host::kernels
