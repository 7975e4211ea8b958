// What goes over floats one by one, norms, rotation, and the quantisation of activations: as the files of assembly/ of
// these names.
#pragma once

#include "kernels/generic/vectors.h"

namespace host::kernels {
namespace {

// x[i] = f(x[i], y[i]) over the units [first, end); y may be null.
template <typename F>
inline void each(const Elements& p, size_t first, size_t end, F f) {
  const size_t last = end * kSpan < p.n ? end * kSpan : p.n;
  size_t i = first * kSpan;
  for (; i + 8 <= last; i += 8) store(p.x + i, f(load<F32>(p.x + i), p.y == nullptr ? F32{} : load<F32>(p.y + i)));
  if (i < last) {
    F32 y = p.y == nullptr ? F32{} : load_some(p.y + i, last - i);
    store_some(p.x + i, f(load_some(p.x + i, last - i), y), last - i);
  }
}

// v where x is at most 88, or no number; else 0.
inline F32 unless_over_88(F32 v, F32 x) {
  return reinterpret_cast<F32>(reinterpret_cast<I32>(v) & ~(x > splat(88)));
}

inline F32 gelu_of(F32 x) {
  F32 cubed = (x * x) * (x * splat(0.044715f));
  F32 exponent = (x + cubed) * splat(-1.5957691216057308f);
  return unless_over_88(x / (splat(1) + exponential(exponent)), exponent);
}

inline F32 silu_times(F32 g, F32 u) {
  F32 negative = -g;
  return unless_over_88(g / (splat(1) + exponential(negative)) * u, negative);
}

inline F32 softcap_of(F32 x, float cap, float twice_inverse) {
  F32 e = exponential(x * splat(twice_inverse));
  return splat(cap) * (splat(1) - splat(2) / (e + splat(1)));
}

void add(const Elements& p, size_t first, size_t end) {
  each(p, first, end, [](F32 x, F32 y) { return x + y; });
}

void silu_multiply(const Elements& p, size_t first, size_t end) { each(p, first, end, silu_times); }

void gelu_multiply(const Elements& p, size_t first, size_t end) {
  each(p, first, end, [](F32 g, F32 u) { return gelu_of(g) * u; });
}

void gelu(const Elements& p, size_t first, size_t end) {
  each(p, first, end, [](F32 x, F32) { return gelu_of(x); });
}

void scale(const Elements& p, size_t first, size_t end) {
  each(p, first, end, [&](F32 x, F32) { return x * splat(p.factor); });
}

void softcap(const Elements& p, size_t first, size_t end) {
  const float cap = p.factor, twice_inverse = 2 / cap;
  each(p, first, end, [&](F32 x, F32) { return softcap_of(x, cap, twice_inverse); });
}

void add_bias(const Bias& p, size_t first, size_t end) {
  for (size_t row = first; row < end; row++) {
    add(Elements{p.x + row * p.n, p.bias, p.n, 0}, 0, (p.n + kSpan - 1) / kSpan);
  }
}

// As narrowF16 of assembly/elementwise.ts, step by step.
inline H8 narrow_halves(F32 x) {
  const I32 bits = reinterpret_cast<I32>(x);
  const I32 all = bits & 0x7fffffff;
  const I32 magnitude = all < 0x477fe000 ? all : I32{} + 0x477fe000;
  const I32 subnormal = reinterpret_cast<I32>(reinterpret_cast<F32>(magnitude) + splat(0.5f)) - 0x3f000000;
  const I32 normal = (magnitude - 0x37fff001 + ((magnitude >> 13) & 1)) >> 13;
  return __builtin_convertvector((magnitude < 0x38800000 ? subnormal : normal) | ((bits >> 16) & 0x8000), H8);
}

void narrow(const Narrowing& p, size_t first, size_t end) {
  const size_t last = end * kSpan < p.n ? end * kSpan : p.n;
  size_t i = first * kSpan;
  for (; i + 8 <= last; i += 8) store(p.out + i, narrow_halves(load<F32>(p.x + i)));
  if (i < last) {
    const H8 rest = narrow_halves(load_some(p.x + i, last - i));
    for (size_t k = 0; i + k < last; k++) p.out[i + k] = rest[k];
  }
}

inline F64 to_doubles(F4 x) { return __builtin_convertvector(x, F64); }
inline F4 to_singles(F64 x) { return __builtin_convertvector(x, F4); }
inline double sum_of(F64 v) { return v[0] + v[2] + (v[1] + v[3]); }

double inner_product(const void* a, const void* b, size_t n) {
  const char* x = static_cast<const char*>(a);
  const char* y = static_cast<const char*>(b);
  F64 sums[2] = {};
  size_t i = 0;
  for (; i + 8 <= n; i += 8, x += 32, y += 32) {
    sums[0] = sums[0] + to_doubles(load<F4>(x)) * to_doubles(load<F4>(y));
    sums[1] = sums[1] + to_doubles(load<F4>(x + 16)) * to_doubles(load<F4>(y + 16));
  }
  double sum = sum_of(sums[0] + sums[1]);
  for (; i < n; i++, x += 4, y += 4) sum += static_cast<double>(load<float>(x)) * load<float>(y);
  return sum;
}

// Sum of n floats, as `total` of assembly/double-sums.ts.
inline double total(const float* x, size_t n) {
  F64 sums = {};
  size_t i = 0;
  for (; i + 4 <= n; i += 4) sums = sums + to_doubles(load<F4>(x + i));
  double sum = sum_of(sums);
  for (; i < n; i++) sum += x[i];
  return sum;
}

// Sum of the squares of what n floats are above `mean`.
inline double squares(const float* x, size_t n, double mean) {
  const F64 means = {mean, mean, mean, mean};
  F64 sums = {};
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    F64 d = to_doubles(load<F4>(x + i)) - means;
    sums = sums + d * d;
  }
  double sum = sum_of(sums);
  for (; i < n; i++) {
    double d = x[i] - mean;
    sum += d * d;
  }
  return sum;
}

inline void root_mean_square_norm(const Norm& p, const float* x, float* out) {
  const float factor = static_cast<float>(1.0 / __builtin_sqrt(squares(x, p.n, 0) / static_cast<double>(p.n) + static_cast<double>(p.eps)));
  size_t i = 0;
  for (; i + 8 <= p.n; i += 8) store(out + i, load<F32>(x + i) * splat(factor) * load<F32>(p.weight + i));
  for (; i < p.n; i++) out[i] = x[i] * factor * p.weight[i];
}

inline void layer_norm(const Norm& p, const float* x, float* out) {
  const double mean = total(x, p.n) / static_cast<double>(p.n);
  const double factor = 1.0 / __builtin_sqrt(squares(x, p.n, mean) / static_cast<double>(p.n) + static_cast<double>(p.eps));
  const F64 means = {mean, mean, mean, mean}, factors = {factor, factor, factor, factor};
  size_t i = 0;
  for (; i + 4 <= p.n; i += 4) {
    F4 unit = to_singles((to_doubles(load<F4>(x + i)) - means) * factors);
    store(out + i, unit * load<F4>(p.weight + i) + load<F4>(p.bias + i));
  }
  for (; i < p.n; i++) out[i] = static_cast<float>((x[i] - mean) * factor) * p.weight[i] + p.bias[i];
}

void norm(const Norm& p, size_t first, size_t end) {
  for (size_t row = first; row < end; row++) {
    if (p.bias == nullptr) {
      root_mean_square_norm(p, p.x + row * p.n, p.out + row * p.n);
    } else {
      layer_norm(p, p.x + row * p.n, p.out + row * p.n);
    }
  }
}

// Pairs that stand `half` apart go eight at a time; neighbours one by one.
void rotate(const Rotation& p, size_t first, size_t end) {
  for (size_t token = first; token < end; token++) {
    const float* row = p.table + token * 2 * p.half;
    for (size_t head = 0; head < p.heads; head++) {
      float* x = p.x + (token * p.heads + head) * p.head_size;
      size_t i = 0;
      if (p.spread == 1) {
        for (; i + 8 <= p.half && p.step >= 8; i += 8) {
          F32 a = load<F32>(row + 2 * i), b = load<F32>(row + 2 * i + 8);
          F32 c = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
          F32 s = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
          F32 va = load<F32>(x + i), vb = load<F32>(x + p.step + i);
          store(x + i, va * c - vb * s);
          store(x + p.step + i, va * s + vb * c);
        }
      }
      for (; i < p.half; i++) {
        float* a = x + i * p.spread;
        float* b = a + p.step;
        const float c = row[2 * i], s = row[2 * i + 1], va = *a, vb = *b;
        *a = va * c - vb * s;
        *b = va * s + vb * c;
      }
    }
  }
}

// The largest magnitude of an activation's integer: 127 * 256 + 127.
constexpr float kLargest = 32639;
// Blocks with no larger magnitude become zeros.
constexpr float kSmallestBlock = 1e-34f;

// The largest of the lanes.
inline int32_t largest_of(I32 m) {
  I4 four = larger_integers(low(m), high(m));
  I4 two = larger_integers(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  return two[0] > two[1] ? two[0] : two[1];
}

inline int32_t sum_of(I32 v) {
  I4 four = low(v) + high(v);
  return four[0] + four[1] + four[2] + four[3];
}

void quantize(const Quantization& p, size_t first, size_t end) {
  const size_t blocks = p.cols / kBlock;
  const size_t in_fours = p.tokens & ~size_t{3};
  for (size_t t = first; t < end; t++) {
    const bool four = t < in_fours;
    const size_t leader = four ? t & ~size_t{3} : t;
    const size_t lane = four ? t & 3 : 0;
    char* q = reinterpret_cast<char*>(p.quants + leader * p.cols) + 4 * lane;
    size_t at = leader * blocks + lane;
    const float* x = p.x + t * p.cols;
    for (size_t b = 0; b < blocks; b++) {
      // Magnitudes as integers: those of floats have the same order, and no number (NaN) is the largest of all.
      I32 m = {};
      UNROLL for (int i = 0; i < 4; i++) m = larger_integers(load<I32>(x + 8 * i) & 0x7fffffff, m);
      const int32_t bits = largest_of(m);
      const float largest = load<float>(&bits);
      const float inverse = largest > kSmallestBlock ? kLargest / largest : 0;
      const float block_scale = largest / kLargest;
      I32 total = {};
      UNROLL for (int i = 0; i < 4; i++) {
        const I32 integers = rounded_integers(load<F32>(x + 8 * i) * splat(inverse) + splat(kRounding));
        total = total + integers;
        const S8 held = narrow(integers);
        if (four) {
          const I4 pairs = reinterpret_cast<I4>(held);
          UNROLL for (int pair = 0; pair < 4; pair++) store<int32_t>(q + 16 * pair, pairs[pair]);
          q += 64;
        } else {
          store(q, held);
          q += 16;
        }
      }
      const int32_t sum = sum_of(total);
      p.scales[at] = block_scale;
      p.sums[at] = sum;
      p.scaled_sums[at] = block_scale * static_cast<float>(sum);
      at += four ? 4 : 1;
      x += kBlock;
    }
  }
}

}  // namespace
}  // namespace host::kernels
