// AVX2 and F16C.
#pragma once

#include "kernels/haswell/avx2.h"

namespace host::kernels {
namespace {

inline I32 add_dot(I32 sums, I16 a, I16 b) {
  return sums + reinterpret_cast<I32>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}

}  // namespace
}  // namespace host::kernels
