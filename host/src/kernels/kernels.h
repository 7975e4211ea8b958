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
// Floats that the element by element kernels take as one unit.
constexpr size_t kSpan = 512;

// out[t][row] = (matrix row) . (token t); a unit is an oct.
struct Product {
  const uint8_t* weights;
  bool nibbles;         // q4, else q8
  bool minimums;
  size_t scale_cols;    // columns that share a scale: 32, or 16 in q8
  int32_t offset;       // what a nibble is above its weight
  const int16_t* quants;
  const float* scales;
  const int32_t* sums;  // q4 only
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

// Attention of tokens over cached positions; a unit is one of `slices` parts of the heads that share a token's keys and
// values: unit = (token * kv_heads + kv head) * slices + slice. Token t attends to the last `window` of the first
// length + t * growth positions.
struct Attention {
  const float* q;
  const float* keys;
  const float* values;
  float* out;
  size_t heads, kv_heads, head_size, length, growth, window, kv_stride;
  float scale, cap;
  size_t slices;
};

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
  void (*attend)(const Attention&, size_t first, size_t end);
};

// All that this build has, the fastest first.
const Kernels* const* all_kernels(size_t* count);
// The fastest that this processor can run.
const Kernels& best_kernels();

// Bytes of an oct of `cols` columns.
constexpr uint64_t oct_bytes(uint64_t cols, bool nibbles, uint64_t scale_cols, bool minimums) {
  return cols * (nibbles ? 4 : 8) + cols / scale_cols * 32 + (minimums ? cols : 0);
}

}  // namespace host::kernels
