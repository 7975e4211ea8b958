// The kernels of the forward pass, natively: what plv8/src/kernels/assembly/ computes, with the same bits. One table of
// functions for each processor family (a folder each), chosen once by what the processor has; the folders share the code in
// generic/, which is written over the few vector operations that a family's simd.h defines.
//
// Every function computes the units [first, end) of a call, whatever a unit is (eight rows of a matrix, a token, a head),
// and no unit's results depend on another's: so a call may be cut and divided among threads anywhere. Nothing here
// allocates, calls PostgreSQL or V8, or checks an argument; calls.cc does that.
//
// The bits are the same everywhere because integer sums are exact, and floats are added in the order of assembly/: no fused
// multiplication (-ffp-contract=off), no reordering, exponentials of our own.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace host::kernels {

// Columns of a block of activations, and rows of an oct (assembly/layout.ts).
constexpr size_t kBlock = 32;
constexpr size_t kOctRows = 8;
// Numbers of a head at most (plv8/src/model/config.ts lets no larger one in).
constexpr size_t kLargestHead = 2048;
// Floats that the element by element kernels take as one unit.
constexpr size_t kSpan = 512;

// The bits of a half float.
typedef uint16_t Half;

// How scales and minimums are held: as floats, as half floats, or as signed bytes that multiply a half float which 256 columns share.
enum class Scales { kFloats, kHalves, kSuper };

// How an integer matrix lies in memory (assembly/form.ts).
struct Form {
  int bits;           // of an integer: 4, 5, 6 or 8
  bool minimums;
  size_t scale_cols;  // columns that share a scale: 32 or 16
  Scales scales;
  int32_t offset;     // what a held integer is above its weight
};

// Every form that the kernels have.
constexpr Form kForms[] = {
    {8, false, 32, Scales::kFloats, 0},  {8, false, 16, Scales::kFloats, 0}, {8, false, 32, Scales::kHalves, 0}, {4, false, 32, Scales::kHalves, 8},
    {4, true, 32, Scales::kHalves, 0},   {4, true, 32, Scales::kSuper, 0},   {5, false, 32, Scales::kHalves, 16}, {5, true, 32, Scales::kHalves, 0},
    {5, true, 32, Scales::kSuper, 0},    {6, false, 16, Scales::kSuper, 32},
};

constexpr bool operator==(const Form& a, const Form& b) {
  return a.bits == b.bits && a.minimums == b.minimums && a.scale_cols == b.scale_cols && a.scales == b.scales && a.offset == b.offset;
}

// Columns that share a super scale.
constexpr size_t kSuperCols = 256;

// out[t][row] = (matrix row) . (token t); a unit is an oct.
struct Product {
  const uint8_t* weights;
  Form form;
  const int16_t* quants;
  const float* scales;
  const int32_t* sums;  // where the form has an offset
  const float* scaled_sums;
  float* out;
  size_t rows, cols, tokens;
  size_t out_stride;    // bytes between tokens
};

// The same with a float matrix; a unit is a row. cols is a multiple of 4.
struct FloatProduct {
  const float* weights;
  const float* x;
  float* out;
  size_t rows, cols, tokens, out_stride;
};

// Tokens of floats to int16 with a scale for each block of 32 (assembly/activations.ts); a unit is a token.
struct Quantization {
  const float* x;
  int16_t* quants;
  float* scales;
  int32_t* sums;
  float* scaled_sums;
  size_t cols, tokens;
};

// Norms of rows of n floats; a unit is a row. Without a bias it is the root-mean-square norm.
struct Norm {
  const float* x;
  const float* weight;
  const float* bias;
  float* out;
  size_t n;
  float eps;
};

// x = f(x), f(x) * y or x + y over n floats; a unit is kSpan of them.
struct Elements {
  float* x;
  const float* y;
  size_t n;
  float factor;
};

// Add a row of n floats to each of `tokens` rows; a unit is a row.
struct Bias {
  float* x;
  const float* bias;
  size_t n;
};

// Rotation of pairs; a unit is a token. Token t stands at x + t * heads * head_size, its row of the table at
// table + t * 2 * half.
struct Rotation {
  float* x;
  const float* table;
  size_t heads, head_size, half, step, spread;
};

// Floats to half floats: the nearest, of two the even one, of magnitude 65504 at most; a unit is kSpan of them.
struct Narrowing {
  const float* x;
  Half* out;
  size_t n;
};

// Positions of a block of attention, counted from the first one that is attended to.
constexpr size_t kPositions = 64;

// Attention of tokens over cached positions, whose keys and values are floats or half floats; a unit is one of `slices` parts of the heads that share a token's keys and
// values: unit = (token * kv_heads + kv head) * slices + slice. Token t attends to the last `window` of the first
// length + t * growth positions. The first `shared` ones, fewer than `length`, stand elsewhere, where other sequences have them too;
// `keys` and `values` begin at position own_from.
struct Attention {
  const float* q;
  const void* keys;
  const void* values;
  float* out;
  size_t heads, kv_heads, head_size, length, growth, window, kv_stride;
  float scale, cap;
  size_t slices;
  bool halves;
  const void* shared_keys = nullptr;
  const void* shared_values = nullptr;
  size_t shared = 0;
};

// The first position that a sequence has itself: a block less one before where the shared ones end, so that each block lies in
// one place.
inline size_t own_from(const Attention& a) { return a.shared < kPositions ? 0 : a.shared - (kPositions - 1); }

struct Kernels {
  const char* name;
  bool (*available)();
  void (*product)(const Product&, size_t first, size_t end);
  void (*float_product)(const FloatProduct&, size_t first, size_t end);
  void (*quantize)(const Quantization&, size_t first, size_t end);
  void (*norm)(const Norm&, size_t first, size_t end);
  void (*add)(const Elements&, size_t first, size_t end);
  void (*add_bias)(const Bias&, size_t first, size_t end);
  void (*silu_multiply)(const Elements&, size_t first, size_t end);
  void (*gelu_multiply)(const Elements&, size_t first, size_t end);
  void (*gelu)(const Elements&, size_t first, size_t end);
  void (*scale)(const Elements&, size_t first, size_t end);
  void (*softcap)(const Elements&, size_t first, size_t end);
  void (*rotate)(const Rotation&, size_t first, size_t end);
  void (*narrow)(const Narrowing&, size_t first, size_t end);
  void (*attend)(const Attention&, size_t first, size_t end);
  // Of n floats each, which need not be aligned: products are exact, and added as plv8/src/embed/inner-product.ts does.
  double (*inner_product)(const void* a, const void* b, size_t n);
};

// All that this build has, the fastest first.
const Kernels* const* all_kernels(size_t* count);
// The fastest that this processor can run.
const Kernels& best_kernels();

// Bytes of eight scales or minimums.
constexpr uint64_t float_bytes(Scales scales) {
  return scales == Scales::kSuper ? 8 : scales == Scales::kHalves ? 16 : 32;
}

// Bytes of the super scales before 256 columns.
constexpr uint64_t super_bytes(const Form& form) {
  return form.scales != Scales::kSuper ? 0 : form.minimums ? 32 : 16;
}

// Bytes of an oct of `cols` columns.
constexpr uint64_t oct_bytes(uint64_t cols, const Form& form) {
  return cols * form.bits + cols / form.scale_cols * float_bytes(form.scales) * (form.minimums ? 2 : 1) + cols / kSuperCols * super_bytes(form);
}

}  // namespace host::kernels
