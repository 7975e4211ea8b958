// Test of the kernels and their threads alone, without PostgreSQL and V8, so that the sanitizers see all of it:
//   make -C host test-kernels [SANITIZE=address|thread]
// Every family that the processor has, with 1, 2, 3 and 8 threads, against the baseline on one: the same bits in random shapes.
// `test-kernels --speed` prints what each family does on one thread, in processor time.
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <atomic>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/pool.h"

using namespace host::kernels;

namespace {

std::mt19937 random_bits(1);

size_t whole(size_t least, size_t most) { return least + random_bits() % (most - least + 1); }
float number() { return static_cast<int32_t>(random_bits()) * 0x1p-27f; }

std::vector<float> floats(size_t n) {
  std::vector<float> out(n);
  for (float& x : out) x = number();
  return out;
}

template <typename T>
std::vector<T> bytes_of(size_t n) {
  std::vector<T> out(n);
  uint32_t state = random_bits();
  for (T& x : out) x = static_cast<T>((state = state * 1664525 + 1013904223) >> 16);
  return out;
}

template <typename T>
struct Work {
  void (*kernel)(const T&, size_t, size_t);
  const T* call;
};

template <typename T>
void run(void (*kernel)(const T&, size_t, size_t), const T& call, size_t units, int threads) {
  Work<T> work = {kernel, &call};
  auto body = [](const void* given, size_t first, size_t end) {
    const Work<T>& w = *static_cast<const Work<T>*>(given);
    w.kernel(*w.call, first, end);
  };
  if (!pool().run(body, &work, units, whole(1, 20), threads)) abort();
}

int failures = 0;
size_t compared = 0;

void compare(const char* what, const Kernels& kernels, int threads, const std::vector<float>& wanted, const std::vector<float>& got) {
  compared += wanted.size();
  if (memcmp(wanted.data(), got.data(), wanted.size() * sizeof(float)) == 0) return;
  printf("%s of %s with %d threads: other bits\n", what, kernels.name, threads);
  failures++;
}

// Call `test(kernels, threads)`, which gives results, for every family and number of threads.
template <typename F>
void each(const char* what, F test) {
  size_t count;
  const Kernels* const* all = all_kernels(&count);
  const std::vector<float> wanted = test(*all[count - 1], 1);
  for (size_t i = 0; i < count; i++) {
    if (!all[i]->available()) continue;
    for (int threads : {1, 2, 3, 8}) compare(what, *all[i], threads, wanted, test(*all[i], threads));
  }
}

// Random bytes; where floats or halves stand, finite ones.
std::vector<uint8_t> weights_of(const Form& f, size_t rows, size_t cols) {
  const size_t octs = (rows + 7) / 8, floats = float_bytes(f.scales);
  std::vector<uint8_t> out = bytes_of<uint8_t>(octs * oct_bytes(cols, f));
  auto half_floats = [&](size_t at, size_t n) {
    for (size_t i = 0; i < n; i++) out[at + 2 * i + 1] &= 0xbf;
  };
  size_t at = 0;
  for (size_t oct = 0; oct < octs; oct++) {
    for (size_t col = 0; col < cols; col += f.scale_cols) {
      if (f.scales == Scales::kSuper && col % kSuperCols == 0) {
        half_floats(at, super_bytes(f) / 2);
        at += super_bytes(f);
      }
      at += f.bits * f.scale_cols;
      const size_t n = floats * (f.minimums ? 2 : 1);
      if (f.scales == Scales::kHalves) half_floats(at, n / 2);
      if (f.scales == Scales::kFloats) {
        for (size_t i = 0; i < n; i += 4) {
          const float scale = number();
          memcpy(&out[at + i], &scale, 4);
        }
      }
      at += n;
    }
  }
  return out;
}

size_t columns_of(const Form& f, size_t most) { return f.scales == Scales::kSuper ? kSuperCols * whole(1, 2) : kBlock * whole(1, most); }

void test_products() {
  const Form& f = kForms[whole(0, 9)];
  const size_t rows = whole(1, 60), cols = columns_of(f, 10), tokens = whole(1, 40), blocks = cols / 32;
  const std::vector<float> x = floats(tokens * cols);
  const std::vector<uint8_t> weights = weights_of(f, rows, cols);
  each("product", [&](const Kernels& kernels, int threads) {
    std::vector<int16_t> quants(tokens * cols);
    std::vector<float> scales(tokens * blocks), scaled(tokens * blocks), out(tokens * rows);
    std::vector<int32_t> sums(tokens * blocks);
    run(kernels.quantize, Quantization{x.data(), quants.data(), scales.data(), sums.data(), scaled.data(), cols, tokens}, tokens, threads);
    const Product p = {weights.data(), f, quants.data(), scales.data(), sums.data(), scaled.data(), out.data(), rows, cols, tokens, rows * sizeof(float)};
    run(kernels.product, p, (rows + 7) / 8, threads);
    for (int16_t q : quants) out.push_back(q);
    for (int32_t sum : sums) out.push_back(static_cast<float>(sum));
    out.insert(out.end(), scales.begin(), scales.end());
    out.insert(out.end(), scaled.begin(), scaled.end());
    return out;
  });
}

void test_float_products() {
  const size_t rows = whole(1, 60), cols = 4 * whole(1, 70), tokens = whole(1, 20);
  const std::vector<float> weights = floats(rows * cols), x = floats(tokens * cols);
  each("float product", [&](const Kernels& kernels, int threads) {
    std::vector<float> out(tokens * rows);
    const FloatProduct p = {weights.data(), x.data(), out.data(), rows, cols, tokens, rows * sizeof(float)};
    run(kernels.float_product, p, rows, threads);
    return out;
  });
}

void test_inner_products() {
  const size_t n = whole(0, 400), shift = whole(0, 3);
  const std::vector<float> x = floats(n), y = floats(n);
  double wanted = 0, size = 0;
  for (size_t i = 0; i < n; i++) wanted += static_cast<double>(x[i]) * y[i], size += fabs(static_cast<double>(x[i]) * y[i]);
  std::vector<char> moved(n * sizeof(float) + shift);  // where a value of the database may stand
  if (n > 0) memcpy(moved.data() + shift, x.data(), n * sizeof(float));
  each("inner product", [&](const Kernels& kernels, int) {
    const double got = kernels.inner_product(moved.data() + shift, y.data(), n);
    if (!(fabs(got - wanted) <= 1e-12 * size)) failures++;
    std::vector<float> out(2);
    memcpy(out.data(), &got, sizeof got);
    return out;
  });
}

void test_rows() {
  const size_t n = whole(1, 200), rows = whole(1, 20);
  const std::vector<float> x = floats(rows * n), weight = floats(n), bias = floats(n);
  for (bool with_bias : {false, true}) {
    each("norm", [&](const Kernels& kernels, int threads) {
      std::vector<float> out(rows * n);
      run(kernels.norm, Norm{x.data(), weight.data(), with_bias ? bias.data() : nullptr, out.data(), n, 1e-5f}, rows, threads);
      return out;
    });
  }
  each("bias", [&](const Kernels& kernels, int threads) {
    std::vector<float> out = x;
    run(kernels.add_bias, Bias{out.data(), bias.data(), n}, rows, threads);
    return out;
  });
}

void test_elements() {
  const size_t n = whole(1, 5000);
  const std::vector<float> x = floats(n), y = floats(n);
  auto test = [&](const char* what, void (*Kernels::*kernel)(const Elements&, size_t, size_t)) {
    each(what, [&](const Kernels& kernels, int threads) {
      std::vector<float> out = x;
      run(kernels.*kernel, Elements{out.data(), y.data(), n, 3}, (n + kSpan - 1) / kSpan, threads);
      return out;
    });
  };
  test("sum", &Kernels::add);
  test("silu", &Kernels::silu_multiply);
  test("gelu", &Kernels::gelu_multiply);
  test("gelu alone", &Kernels::gelu);
  test("scale", &Kernels::scale);
  test("softcap", &Kernels::softcap);
}

// Half floats of the kernel, of any bits but those of no number, against the compiler's; `exact`: the bits of every half float.
void test_narrowing(bool exact) {
  const size_t n = exact ? 0x7c00 : whole(1, 3000);
  std::vector<float> x(n);
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = random_bits();
    if (bits % 2 == 0) bits = (bits & 0x80001fff) | 0x38000000 | (random_bits() & 0x0fffe000);  // about a half float
    memcpy(&x[i], &bits, sizeof bits);
    if (exact) x[i] = ldexpf(static_cast<float>(i < 0x400 ? i : (i & 0x3ff) | 0x400), static_cast<int>(i < 0x400 ? 0 : (i >> 10) - 1) - 24);
    if (isnan(x[i])) x[i] = 1;
  }
  each(exact ? "half floats" : "narrowing", [&](const Kernels& kernels, int threads) {
    std::vector<Half> halves(n);
    run(kernels.narrow, Narrowing{x.data(), halves.data(), n}, (n + kSpan - 1) / kSpan, threads);
    std::vector<float> out;
    for (size_t i = 0; i < n; i++) {
      const float most = x[i] > 65504 ? 65504 : x[i] < -65504 ? -65504 : x[i];
      const double unit = fabs(most) < 0x1p-14 ? 0x1p-24 : ldexp(1, ilogb(most) - 10);
      const double wanted = nearbyint(most / unit) * unit;
      const int exponent = halves[i] >> 10 & 31, fraction = halves[i] & 1023;
      const double got = (halves[i] >> 15 ? -1 : 1) * (exponent == 0 ? fraction * 0x1p-24 : ldexp(1024 + fraction, exponent - 25));
      if (got != wanted || (exact && halves[i] != i)) failures++;
      out.push_back(halves[i]);
    }
    return out;
  });
}

void test_rotation() {
  const size_t heads = whole(1, 5), half = whole(1, 40), head_size = 2 * half + whole(0, 4), tokens = whole(1, 6);
  const std::vector<float> x = floats(tokens * heads * head_size), table = floats(tokens * 2 * half);
  for (bool halves : {false, true}) {
    each("rotation", [&](const Kernels& kernels, int threads) {
      std::vector<float> out = x;
      run(kernels.rotate, Rotation{out.data(), table.data(), heads, head_size, half, halves ? half : 1, size_t{halves ? 1u : 2u}}, tokens, threads);
      return out;
    });
  }
}

std::vector<Half> halves_of(const std::vector<float>& x) {
  std::vector<Half> out(x.size());
  best_kernels().narrow(Narrowing{x.data(), out.data(), x.size()}, 0, (x.size() + kSpan - 1) / kSpan);
  return out;
}

void test_attention() {
  Attention a;
  // Of an encoder: tokens that see the same positions share them.
  const bool encoder = whole(1, 4) == 1;
  const size_t group = encoder ? 1 : whole(1, 8) == 1 ? whole(30, 70) : whole(1, 7), tokens = encoder ? whole(1, 100) : whole(1, 4);
  a.kv_heads = encoder ? whole(1, 20) : whole(1, 3), a.heads = a.kv_heads * group, a.head_size = 4 * (whole(1, 20) == 1 ? whole(64, kLargestHead / 4) : whole(1, 20));
  a.length = whole(1, 200), a.growth = encoder ? 0 : whole(0, 1), a.window = whole(1, 250);
  const size_t width = a.kv_heads * a.head_size + 4 * whole(0, 2), positions = a.length + a.growth * (tokens - 1);
  a.halves = whole(0, 1), a.kv_stride = width * (a.halves ? sizeof(Half) : sizeof(float)), a.scale = 0.1f, a.cap = whole(0, 1) ? 5 : 0;
  const std::vector<float> q = floats(tokens * a.heads * a.head_size), keys = floats(positions * width), values = floats(positions * width);
  const std::vector<Half> narrow_keys = halves_of(keys), narrow_values = halves_of(values);
  a.q = q.data(), a.keys = a.halves ? static_cast<const void*>(narrow_keys.data()) : keys.data();
  a.values = a.halves ? static_cast<const void*>(narrow_values.data()) : values.data();
  auto attend = [&](const Kernels& kernels, int threads) {
    std::vector<float> out(q.size());
    a.out = out.data();
    a.slices = whole(1, group);
    run(kernels.attend, a, tokens * a.kv_heads * a.slices, threads);
    return out;
  };
  each("attention", attend);
  // The same where the first positions stand elsewhere: each place ends with its last row.
  const std::vector<float> one_place = attend(best_kernels(), 1);
  a.shared = whole(0, a.length - 1);
  const size_t row = a.kv_stride;
  auto rows = [&](const void* from, size_t first, size_t end) {
    const auto* bytes = static_cast<const uint8_t*>(from);
    return std::vector<uint8_t>(bytes + first * row, bytes + end * row);
  };
  const std::vector<uint8_t> shared_keys = rows(a.keys, 0, a.shared), shared_values = rows(a.values, 0, a.shared);
  const std::vector<uint8_t> own_keys = rows(a.keys, own_from(a), positions), own_values = rows(a.values, own_from(a), positions);
  a.keys = own_keys.data(), a.values = own_values.data(), a.shared_keys = shared_keys.data(), a.shared_values = shared_values.data();
  each("attention with a shared beginning", attend);
  compare("attention with a shared beginning as in one place", best_kernels(), 1, one_place, attend(best_kernels(), 1));
}

// A call of so many units, each of which must be computed once.
void count_units(size_t units, size_t items, size_t threads) {
  std::vector<uint32_t> counts(units, 0);
  auto body = [](const void* call, size_t first, size_t end) {
    auto& list = *static_cast<std::vector<uint32_t>*>(const_cast<void*>(call));
    for (size_t unit = first; unit < end; unit++) list[unit]++;
  };
  if (!pool().run(body, &counts, units, items, static_cast<int>(threads))) failures++;
  for (uint32_t count : counts) failures += count != 1;
}

// Short calls in a row, of changing numbers of threads and after pauses.
void test_pool() {
  for (int i = 0; i < 20000; i++) {
    count_units(whole(1, 50), whole(1, 60), whole(1, 9));
    if (i % 500 == 0) {
      timespec pause = {0, static_cast<long>(whole(1, 300)) * 1000};
      nanosleep(&pause, nullptr);
    }
  }
}

void on_fault(int number, siginfo_t*, void*) {
  leave_faulted_part();
  signal(number, SIG_DFL);  // the caller has met something else
}

// Threads that meet memory which is gone, as that of a segment whose file was cut short: the call fails and ends, and the same
// threads compute the next one whole.
void test_faults() {
  static thread_local bool is_caller = false;
  is_caller = true;
  struct sigaction fault = {}, before;
  fault.sa_sigaction = on_fault;
  fault.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &fault, &before);
  struct Call {
    char* gone;
    std::atomic<int> met{0};
  };
  void* gone = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (gone == MAP_FAILED) abort();
  int failed = 0;
  for (int i = 0; i < 300; i++) {
    Call call = {static_cast<char*>(gone), {0}};
    auto body = [](const void* given, size_t, size_t) {
      Call& c = *static_cast<Call*>(const_cast<void*>(given));
      if (is_caller) {
        // Others are to have parts of it.
        const timespec pause = {0, 20'000};
        for (int n = 0; n < 50 && c.met.load() == 0; n++) nanosleep(&pause, nullptr);
      } else {
        c.met.fetch_add(1);
        static_cast<void>(*static_cast<const volatile char*>(c.gone));
      }
    };
    const bool complete = pool().run(body, &call, 12, 12, static_cast<int>(whole(2, 4)));
    failures += complete == (call.met.load() > 0);
    failed += !complete;
    count_units(whole(1, 50), whole(1, 60), whole(1, 9));
  }
  printf("%d calls met memory that is gone\n", failed);
  failures += failed == 0;
  munmap(gone, 4096);
  sigaction(SIGSEGV, &before, nullptr);
}

double processor_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

template <typename F>
double best_of(F body) {
  double best = 1e9;
  for (int i = 0; i < 7; i++) {
    const double started = processor_seconds();
    body();
    best = std::min(best, processor_seconds() - started);
  }
  return best;
}

// Shapes of Qwen2.5-0.5B's feed-forward network; weights for one token are more than the caches hold.
void measure() {
  size_t count;
  const Kernels* const* all = all_kernels(&count);
  const size_t rows = 4864, cols = 1024, blocks = cols / 32, matrices = 24;
  for (size_t i = 0; i < count; i++) {
    if (!all[i]->available()) continue;
    for (const Form& f : kForms) {
      const std::vector<uint8_t> weights = weights_of(f, rows * matrices, cols);
      for (size_t tokens : {1, 2, 4, 8, 32}) {
        std::vector<int16_t> quants = bytes_of<int16_t>(tokens * cols);
        std::vector<float> scales = floats(tokens * blocks), scaled = floats(tokens * blocks), out(tokens * rows);
        std::vector<int32_t> sums(tokens * blocks);
        const size_t passes = tokens < 8 ? matrices : 3;
        const double seconds = best_of([&] {
          for (size_t m = 0; m < passes; m++) {
            const uint8_t* from = weights.data() + m * (rows / 8) * oct_bytes(cols, f);
            const Product p = {from, f, quants.data(), scales.data(), sums.data(), scaled.data(), out.data(), rows, cols, tokens, rows * sizeof(float)};
            all[i]->product(p, 0, rows / 8);
          }
        });
        const double macs = static_cast<double>(rows) * cols * tokens * passes;
        const char* kinds[] = {"floats", "halves", "super scales"};
        printf("%-9s %d bits%s, %s of %zu, %2zu tokens: %5.1f G multiply-adds a second, %4.1f GB/s\n", all[i]->name, f.bits,
               f.minimums ? " with minimums" : "", kinds[static_cast<int>(f.scales)], f.scale_cols, tokens, macs / seconds * 1e-9,
               static_cast<double>(rows) / 8 * oct_bytes(cols, f) * passes / seconds * 1e-9);
      }
    }
    // Queries so small that no weight of a position is subnormal, with which the processor takes far longer.
    std::vector<float> q = floats(14 * 64);
    for (float& each : q) each *= 0.01f;
    const std::vector<float> keys = floats(1024 * 128), values = floats(1024 * 128);
    const std::vector<Half> narrow_keys = halves_of(keys), narrow_values = halves_of(values);
    std::vector<float> out(q.size());
    for (size_t slices : {4, 1}) for (bool halves : {false, true}) {
      const void* k = halves ? static_cast<const void*>(narrow_keys.data()) : keys.data();
      const void* v = halves ? static_cast<const void*>(narrow_values.data()) : values.data();
      const Attention a = {q.data(), k, v, out.data(), 14, 2, 64, 1024, 0, 4096, size_t{halves ? 256u : 512u}, 0.125f, 0, slices, halves};
      const double seconds = best_of([&] {
        for (int n = 0; n < 20; n++) all[i]->attend(a, 0, 2 * slices);
      });
      printf("%-9s attention over 1024 positions of %s, %zu slices: %5.1f G multiply-adds a second\n", all[i]->name, halves ? "half floats" : "floats", slices,
             20 * 2.0 * 14 * 64 * 1024 / seconds * 1e-9);
    }
    std::vector<float> x = floats(4864), y = floats(4864);
    const double silu = best_of([&] {
      for (int n = 0; n < 100; n++) all[i]->silu_multiply(Elements{x.data(), y.data(), 4864, 0}, 0, 10);
    });
    printf("%-9s silu: %.2f ns a float\n", all[i]->name, silu / 100 / 4864 * 1e9);
    std::vector<int16_t> quants(32 * 896);
    std::vector<float> scales(32 * 28), scaled(32 * 28);
    std::vector<int32_t> sums(32 * 28);
    for (size_t tokens : {1, 32}) {
      const std::vector<float> z = floats(tokens * 896);
      const double quantize = best_of([&] {
        for (int n = 0; n < 100; n++) all[i]->quantize(Quantization{z.data(), quants.data(), scales.data(), sums.data(), scaled.data(), 896, tokens}, 0, tokens);
      });
      printf("%-9s quantisation of %2zu tokens: %.2f ns a float\n", all[i]->name, tokens, quantize / 100 / (tokens * 896) * 1e9);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "--speed") == 0) {
    measure();
    return 0;
  }
  const int rounds = argc > 1 ? atoi(argv[1]) : 150;
  for (int i = 0; i < rounds; i++) {
    test_products();
    test_float_products();
    test_inner_products();
    test_rows();
    test_elements();
    test_rotation();
    test_attention();
    test_narrowing(false);
  }
  test_narrowing(true);
  test_pool();
  test_faults();
  printf("kernels of %s: %zu results compared, %d failures\n", best_kernels().name, compared, failures);
  return failures == 0 ? 0 : 1;
}
