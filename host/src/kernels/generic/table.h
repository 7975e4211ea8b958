// The table of a family: its simd.h is included before.
#pragma once

#include "kernels/generic/attention.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/products.h"

namespace host::kernels {
namespace {

constexpr Kernels table(const char* name, bool (*available)()) {
  return {name,          available,     product, float_product, quantize, norm,   add,    add_bias,
          silu_multiply, gelu_multiply, gelu,    scale,         softcap,  rotate, narrow, attend, inner_product};
}

}  // namespace
}  // namespace host::kernels
