// The family for ARM with dot products (NEON).
#if defined(__aarch64__)

#include "kernels/arm64/simd.h"

#include "kernels/generic/table.h"

namespace host::kernels {

static bool available() { return true; }

extern const Kernels arm64;
const Kernels arm64 = table("neon", available);

}  // namespace host::kernels

#endif
