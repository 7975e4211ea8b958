// The family for x86-64 with AVX-512.
#if defined(__x86_64__)

#include "kernels/icelake/simd.h"

#include "kernels/generic/table.h"

namespace host::kernels {

static bool available() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("f16c");
}

extern const Kernels icelake;
const Kernels icelake = table("avx512", available);

}  // namespace host::kernels

#endif
