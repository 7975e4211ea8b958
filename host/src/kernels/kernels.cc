// Which families there are, and which of them this processor has.
#include "kernels/kernels.h"

#include <string.h>

namespace host::kernels {

extern const Kernels baseline;
#if defined(__x86_64__)
extern const Kernels haswell;
extern const Kernels icelake;
#elif defined(__aarch64__)
extern const Kernels arm64;
#endif

const Kernels* const* all_kernels(size_t* count) {
  static const Kernels* const all[] = {
#if defined(__x86_64__)
      &icelake,
      &haswell,
#elif defined(__aarch64__)
      &arm64,
#endif
      &baseline,
  };
  *count = sizeof all / sizeof all[0];
  return all;
}

// Whether a family gives the bits of another in a few products: what was compiled for a processor that nobody here has is
// not believed.
static bool agrees(const Kernels& some, const Kernels& others) {
  constexpr size_t kRows = 16, kCols = kSuperCols, kTokens = 5, kBlocks = kCols / kBlock;
  constexpr size_t kOctBytes = [] {
    size_t most = 0;
    for (const Form& form : kForms) {
      if (oct_bytes(kCols, form) > most) most = oct_bytes(kCols, form);
    }
    return most;
  }();
  alignas(32) uint8_t weights[kRows / kOctRows * kOctBytes];
  float x[kTokens * kCols], out[2][kTokens * kRows];
  uint32_t state = 1;
  auto next = [&] { return (state = state * 1664525 + 1013904223) >> 8; };
  for (float& value : x) value = static_cast<float>(next() % 2000) - 1000;
  for (size_t at = 0; at < sizeof weights; at += 2) {
    // Any bytes are integers; as scales and minimums they have to be floats, and half floats, of ordinary size.
    const uint16_t half = static_cast<uint16_t>((next() & 0x83ff) | 0x3c00);
    memcpy(weights + at, &half, 2);
  }
  for (const Form& form : kForms) {
    for (int i = 0; i < 2; i++) {
      const Kernels& kernels = i == 0 ? some : others;
      int16_t quants[kTokens * kCols];
      float scales[kTokens * kBlocks], scaled_sums[kTokens * kBlocks];
      int32_t sums[kTokens * kBlocks];
      kernels.quantize({x, quants, scales, sums, scaled_sums, kCols, kTokens}, 0, kTokens);
      kernels.product({weights, form, quants, scales, sums, scaled_sums, out[i], kRows, kCols, kTokens, kRows * sizeof(float)}, 0, kRows / kOctRows);
    }
    if (memcmp(out[0], out[1], sizeof out[0]) != 0) return false;
  }
  return true;
}

const Kernels& best_kernels() {
  static const Kernels& best = [] () -> const Kernels& {
    size_t count;
    const Kernels* const* all = all_kernels(&count);
    size_t i = 0;
    while (!all[i]->available() || (i + 1 < count && !agrees(*all[i], *all[count - 1]))) i++;
    return *all[i];
  }();
  return best;
}

}  // namespace host::kernels
