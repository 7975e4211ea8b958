// Which families there are, and which of them this processor has.
#include "kernels/kernels.h"

namespace host::kernels {

extern const Kernels baseline;
#if defined(__x86_64__)
extern const Kernels haswell;
#endif

const Kernels* const* all_kernels(size_t* count) {
  static const Kernels* const all[] = {
#if defined(__x86_64__)
      &haswell,
#endif
      &baseline,
  };
  *count = sizeof all / sizeof all[0];
  return all;
}

const Kernels& best_kernels() {
  static const Kernels& best = [] () -> const Kernels& {
    size_t count;
    const Kernels* const* all = all_kernels(&count);
    size_t i = 0;
    while (!all[i]->available()) i++;
    return *all[i];
  }();
  return best;
}

}  // namespace host::kernels
