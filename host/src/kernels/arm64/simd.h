// NEON, which every 64-bit ARM processor has.
#pragma once

#include <arm_neon.h>

#include "kernels/generic/types.h"

namespace host::kernels {
namespace {

// A vector as its two registers.
template <typename V, typename H>
union Halves {
  V whole;
  H half[2];
};

inline I32 add_dot(I32 sums, I16 a, I16 b) {
  const Halves<I16, int16x8_t> x = {a}, y = {b};
  Halves<I32, int32x4_t> out = {sums};
  for (int i = 0; i < 2; i++) {
    const int32x4_t lower = vmull_s16(vget_low_s16(x.half[i]), vget_low_s16(y.half[i]));
    out.half[i] = vaddq_s32(out.half[i], vpaddq_s32(lower, vmull_high_s16(x.half[i], y.half[i])));
  }
  return out.whole;
}

inline I16 widen(const int8_t* from) {
  const int8x16_t bytes = vld1q_s8(from);
  Halves<I16, int16x8_t> out;
  out.half[0] = vmovl_s8(vget_low_s8(bytes));
  out.half[1] = vmovl_high_s8(bytes);
  return out.whole;
}

inline I32 widen_bytes(const void* from) {
  const int16x8_t halves = vmovl_s8(vld1_s8(static_cast<const int8_t*>(from)));
  Halves<I32, int32x4_t> out;
  out.half[0] = vmovl_s16(vget_low_s16(halves));
  out.half[1] = vmovl_high_s16(halves);
  return out.whole;
}

inline F32 load_halves(const void* from) {
  const float16x8_t halves = vreinterpretq_f16_u8(vld1q_u8(static_cast<const uint8_t*>(from)));
  Halves<F32, float32x4_t> out;
  out.half[0] = vcvt_f32_f16(vget_low_f16(halves));
  out.half[1] = vcvt_high_f32_f16(halves);
  return out.whole;
}

inline F4 load_four_halves(const void* from) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const uint8_t*>(from)))); }

inline F32 twice(const float* from) {
  Halves<F32, float32x4_t> out;
  out.half[0] = out.half[1] = vld1q_f32(from);
  return out.whole;
}

inline F32 larger(F32 a, F32 b) { return a > b ? a : b; }
inline F32 smaller(F32 a, F32 b) { return a < b ? a : b; }

inline S8 narrow(I32 x) {
  const Halves<I32, int32x4_t> v = {x};
  return reinterpret_cast<S8>(vcombine_s16(vqmovn_s32(v.half[0]), vqmovn_s32(v.half[1])));
}

}  // namespace
}  // namespace host::kernels
