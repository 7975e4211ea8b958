// The family for x86-64 with AVX2 and F16C.
#if defined(__x86_64__)

#include "kernels/haswell/simd.h"

#include "kernels/generic/table.h"

namespace host::kernels {

static bool available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"); }

extern const Kernels haswell;
const Kernels haswell = table("avx2", available);

}  // namespace host::kernels

#endif
