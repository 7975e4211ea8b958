// The family that every x86-64 runs, and other processors; the others have to give its bits.
#include "kernels/baseline/simd.h"

#include "kernels/generic/table.h"

namespace host::kernels {

static bool available() { return true; }

extern const Kernels baseline;
const Kernels baseline = table("baseline", available);

}  // namespace host::kernels
