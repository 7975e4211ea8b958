// Vectors of 256 bits, which the compiler makes of narrower ones where the processor has no such registers.
#pragma once

#include <stdint.h>

// In front of a loop of a few turns, whose vectors then stay in registers.
#define UNROLL _Pragma("GCC unroll 16")

namespace host::kernels {
namespace {

typedef float F4 __attribute__((vector_size(16)));
typedef float F32 __attribute__((vector_size(32)));
typedef int32_t I4 __attribute__((vector_size(16)));
typedef int16_t S8 __attribute__((vector_size(16)));
typedef uint16_t H8 __attribute__((vector_size(16)));
typedef int32_t I32 __attribute__((vector_size(32)));
typedef int16_t I16 __attribute__((vector_size(32)));
typedef uint16_t U16 __attribute__((vector_size(32)));
typedef double F64 __attribute__((vector_size(32)));

}  // namespace
}  // namespace host::kernels
