// plv8.kernels: the kernels over a WebAssembly memory, an extension which PL/V8 does not have. `over(memory)` gives an object
// with functions of the names and arguments of plv8/src/kernels/assembly/, so that either can be called. Only functions of
// the role hartonomous_v8.segment_role get one, and only that role may call what they got.
#include <algorithm>
#include <iterator>

#include "kernels/cores.h"
#include "kernels/kernels.h"
#include "kernels/memory.h"
#include "kernels/pool.h"

namespace host {
namespace kernels {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

// Multiply-adds, or as much work, of a thread after which a call looks whether it is to end: about a millisecond.
constexpr uint64 kPiece = 16'000'000;
// What is worth handing to another thread: some microseconds.
constexpr uint64 kLeastPart = 60'000;
// Parts for each thread, so that one that is held up leaves most of them to the others.
constexpr uint64 kPartsOfThread = 4;

int most_threads_of_call = kMostThreads;  // as plv8.kernels.threads set it

int most_threads() { return std::min(allowed_threads(kernel_threads), most_threads_of_call); }

// Compute all units of a call, each of which costs about `cost` multiply-adds.
template <typename T>
void run(void (*kernel)(const T&, size_t, size_t), const T& call, uint64 units, uint64 cost) {
  cost = std::max<uint64>(1, cost);
  const int threads = units * cost < 2 * kLeastPart ? 1 : threads_now(most_threads());
  const uint64 piece = std::max<uint64>(1, kPiece / cost) * threads;
  for (uint64 first = 0; first < units; first += piece) {
    if (first > 0) process_interrupts();
    const uint64 some = std::min(piece, units - first);
    struct Work {
      void (*kernel)(const T&, size_t, size_t);
      const T& call;
      uint64 first;
    } work = {kernel, call, first};
    const uint64 parts = std::min(some * cost / kLeastPart, kPartsOfThread * threads);
    const bool whole = pool().run(
        [](const void* given, size_t from, size_t end) {
          const Work& w = *static_cast<const Work*>(given);
          w.kernel(w.call, w.first + from, w.first + end);
        },
        &work, some, parts, threads);
    if (!whole) {
      guarded([] { ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("memory of a shared segment was written to or is gone"))); });
    }
  }
}

// Spans of n floats.
uint64 spans(uint64 n) { return (n + kSpan - 1) / kSpan; }

// quantizeActivations(src, quants, scales, sums, scaledSums, cols, tokens)
void quantize(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 x = a.count(), quants = a.count(), scales = a.count(), sums = a.count(), scaled_sums = a.count();
    Quantization q;
    q.cols = a.positive();
    if (q.cols % kBlock != 0) a.refuse("must be a multiple of 32");
    q.tokens = a.count();
    const Size floats = Size(q.cols) * q.tokens, blocks = Size(q.cols / kBlock) * q.tokens;
    q.x = a.read<float>(x, floats);
    q.quants = a.write<int16_t>(quants, floats);
    q.scales = a.write<float>(scales, blocks);
    q.sums = a.write<int32_t>(sums, blocks);
    q.scaled_sums = a.write<float>(scaled_sums, blocks);
    run(best_kernels().quantize, q, q.tokens, q.cols);
  });
}

void check_stride(Arguments& a, uint64 bytes, uint64 rows) {
  if (bytes % sizeof(float) != 0 || bytes / sizeof(float) < rows) a.refuse("is no distance between tokens");
}

// A form out of the number that tells it (assembly/form.ts).
Form form_of(Arguments& a) {
  const uint64 number = a.count();
  Form f;
  f.bits = number & 15;
  f.minimums = number & 16;
  f.scale_cols = number & 32 ? 16 : 32;
  f.scales = number & 128 ? Scales::kSuper : number & 64 ? Scales::kHalves : Scales::kFloats;
  f.offset = static_cast<int32_t>(number >> 8);
  const bool known = std::any_of(std::begin(kForms), std::end(kForms), [&](const Form& form) { return form == f; });
  if (!known || (number & 192) == 192 || number > 0xffff) a.refuse("is no form of a matrix");
  return f;
}

void check_columns(Arguments& a, const Product& p) {
  const uint64 whole = p.form.scales == Scales::kSuper ? kSuperCols : kBlock;
  if (p.cols % whole != 0) a.refuse(whole == kBlock ? "must be a multiple of 32" : "must be a multiple of 256");
}

struct ActivationsAt {
  uint64 quants, scales, sums, scaled_sums;
};

ActivationsAt take_activations(Arguments& a) {
  ActivationsAt at;
  at.quants = a.count(), at.scales = a.count(), at.sums = a.count(), at.scaled_sums = a.count();
  return at;
}

// Find what a product reads and writes; its form, shape and stride are set.
void place(Arguments& a, Product& p, uint64 weights, const ActivationsAt& x, uint64 out) {
  const Size floats = Size(p.cols) * p.tokens, blocks = Size(p.cols / kBlock) * p.tokens;
  const uint64 octs = (p.rows + kOctRows - 1) / kOctRows;
  p.weights = reinterpret_cast<const uint8_t*>(a.read<float>(weights, Size(oct_bytes(p.cols, p.form) / sizeof(float)) * octs));
  p.quants = a.read<int16_t>(x.quants, floats);
  p.scales = a.read<float>(x.scales, blocks);
  p.sums = p.form.bits < 8 ? a.read<int32_t>(x.sums, blocks) : nullptr;
  p.scaled_sums = p.form.minimums ? a.read<float>(x.scaled_sums, blocks) : nullptr;
  check_stride(a, p.out_stride, p.rows);
  if (p.tokens > 0 && p.rows > 0) p.out = a.write<float>(out, Size(p.out_stride / sizeof(float)) * (p.tokens - 1) + p.rows);
}

// matmulIntegers(w, form, x, xs, xi, xm, out, rows, cols, tokens, outStride)
void product_of_integers(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    Product p;
    const uint64 weights = a.count();
    p.form = form_of(a);
    const ActivationsAt x = take_activations(a);
    const uint64 out = a.count();
    p.rows = a.count();
    p.cols = a.positive();
    check_columns(a, p);
    p.tokens = a.count();
    p.out_stride = a.count();
    place(a, p, weights, x, out);
    if (p.tokens == 0 || p.rows == 0) return;
    run(best_kernels().product, p, (p.rows + kOctRows - 1) / kOctRows, kOctRows * p.cols * p.tokens);
  });
}

// Several products of the same activations, whose units stand one product's after the other's.
constexpr int kMostTogether = 4;
struct Products {
  int count = 0;
  Product each[kMostTogether];
  size_t ends[kMostTogether];  // units up to the end of each
};

void product_of_several(const Products& all, size_t first, size_t end) {
  size_t before = 0;
  for (int i = 0; i < all.count; i++) {
    const size_t from = std::max(first, before), to = std::min(end, all.ends[i]);
    if (from < to) best_kernels().product(all.each[i], from - before, to - before);
    before = all.ends[i];
  }
}

// matmulTogether(x, xs, xi, xm, cols, tokens, w, form, out, rows, outStride, ...): as matmulIntegers for each matrix, but the
// threads meet once. At most four matrices.
void products_together(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const ActivationsAt x = take_activations(a);
    const uint64 cols = a.positive(), tokens = a.count();
    Products all;
    size_t units = 0;
    do {
      if (all.count == kMostTogether) throw_js("kernel takes at most " + std::to_string(kMostTogether) + " matrices");
      Product& p = all.each[all.count];
      p.cols = cols, p.tokens = tokens;
      const uint64 weights = a.count();
      p.form = form_of(a);
      check_columns(a, p);
      const uint64 out = a.count();
      p.rows = a.count();
      p.out_stride = a.count();
      place(a, p, weights, x, out);
      if (tokens == 0) p.rows = 0;
      units += (p.rows + kOctRows - 1) / kOctRows;
      all.ends[all.count++] = units;
    } while (a.left() > 0);
    run(product_of_several, all, units, kOctRows * cols * tokens);
  });
}

// matmulF32(w, x, out, rows, cols, tokens, outStride)
void product_f32(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 weights = a.count(), x = a.count(), out = a.count();
    FloatProduct p;
    p.rows = a.count();
    p.cols = a.positive();
    if (p.cols % 4 != 0) a.refuse("must be a multiple of 4");
    p.tokens = a.count();
    p.out_stride = a.count();
    check_stride(a, p.out_stride, p.rows);
    p.weights = a.read<float>(weights, Size(p.rows) * p.cols);
    p.x = a.read<float>(x, Size(p.cols) * p.tokens);
    if (p.tokens == 0 || p.rows == 0) return;
    p.out = a.write<float>(out, Size(p.out_stride / sizeof(float)) * (p.tokens - 1) + p.rows);
    run(best_kernels().float_product, p, p.rows, p.cols * p.tokens);
  });
}

// rmsNorm(x, weight, out, n, tokens, eps), layerNorm(x, weight, bias, out, n, tokens, eps)
template <bool kBias>
void norm(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 x = a.count(), weight = a.count(), bias = kBias ? a.count() : 0, out = a.count();
    Norm p;
    p.n = a.positive();
    const uint64 rows = a.count();
    p.eps = a.number();
    p.x = a.read<float>(x, Size(p.n) * rows);
    p.weight = a.read<float>(weight, p.n);
    p.bias = kBias ? a.read<float>(bias, p.n) : nullptr;
    p.out = a.write<float>(out, Size(p.n) * rows);
    run(best_kernels().norm, p, rows, p.n);
  });
}

using ElementsKernel = void (*Kernels::*)(const Elements&, size_t, size_t);

// addInto(x, y, n), siluMultiply(gate, up, n), geluMultiply(gate, up, n)
template <ElementsKernel kKernel, uint64 kCost>
void elements_of_two(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 x = a.count(), y = a.count();
    Elements p;
    p.n = a.count();
    p.x = a.write<float>(x, p.n);
    p.y = a.read<float>(y, p.n);
    p.factor = 0;
    run(best_kernels().*kKernel, p, spans(p.n), kSpan * kCost);
  });
}

// gelu(x, n), scaleBy(x, n, factor), softcap(x, n, cap)
template <ElementsKernel kKernel, uint64 kCost, bool kFactor>
void elements_of_one(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 x = a.count();
    Elements p;
    p.n = a.count();
    p.factor = kFactor ? a.number() : 0;
    p.x = a.write<float>(x, p.n);
    p.y = nullptr;
    run(best_kernels().*kKernel, p, spans(p.n), kSpan * kCost);
  });
}

// addBias(x, bias, n, tokens)
void add_bias(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 x = a.count(), bias = a.count();
    Bias p;
    p.n = a.positive();
    const uint64 rows = a.count();
    p.x = a.write<float>(x, Size(p.n) * rows);
    p.bias = a.read<float>(bias, p.n);
    run(best_kernels().add_bias, p, rows, p.n);
  });
}

// rope(x, table, heads, headSize, half, step, spread, tokens)
void rotate(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 x = a.count(), table = a.count();
    Rotation p;
    p.heads = a.count(), p.head_size = a.count(), p.half = a.positive();
    p.step = a.count(), p.spread = a.count();
    const uint64 tokens = a.count();
    if ((Size(p.half - 1) * p.spread + p.step).value() >= p.head_size) a.refuse("has pairs that are not within a head");
    p.x = a.write<float>(x, Size(p.heads) * p.head_size * tokens);
    p.table = a.read<float>(table, Size(2) * p.half * tokens);
    run(best_kernels().rotate, p, tokens, p.heads * p.half);
  });
}

// narrowF16(src, dst, n)
void narrow_floats(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 x = a.count(), out = a.count();
    Narrowing p;
    p.n = a.count();
    p.x = a.read<float>(x, p.n);
    p.out = a.write<Half>(out, p.n);
    run(best_kernels().narrow, p, spans(p.n), kSpan);
  });
}

// attention(q, keys, values, out, scores, heads, kvHeads, headSize, length, kvStride, scale, cap, tokens, growth, window, halves),
// and attentionShared, with (shared, sharedKeys, sharedValues) behind them
template <bool kShared>
void attend(Info info) {
  callback_body(info, [&] {
    Arguments a(info);
    const uint64 q = a.count(), keys = a.count(), values = a.count(), out = a.count();
    a.count();  // scores: what the WebAssembly kernel needs for itself
    Attention p;
    p.heads = a.positive(), p.kv_heads = a.positive(), p.head_size = a.positive();
    if (p.heads % p.kv_heads != 0 || p.head_size % 4 != 0) a.refuse("does not go with the number of heads");
    if (p.head_size > kLargestHead) a.refuse("has too large heads");
    p.length = a.positive();
    p.kv_stride = a.count();
    if (p.kv_stride % sizeof(float) != 0) a.refuse("is no distance between positions");
    p.scale = a.number(), p.cap = a.number();
    const uint64 tokens = a.positive();
    p.growth = a.count();
    p.window = a.positive();
    const uint64 halves = a.count();
    if (halves > 1) a.refuse("is neither 0 nor 1");
    p.halves = halves == 1;
    const size_t element = p.halves ? sizeof(Half) : sizeof(float);
    if ((Size(p.kv_heads) * p.head_size * element).value() > p.kv_stride) a.refuse("does not go with the distance between positions");
    const Size queries = Size(p.heads) * p.head_size * tokens;
    const Size positions = Size(p.growth) * (tokens - 1) + p.length;
    auto rows = [&](uint64 at, const Size& more) -> const void* {
      const Size numbers = Size(p.kv_stride / element) * more + Size(p.kv_heads) * p.head_size;
      if (p.halves) return a.read<Half>(at, numbers);
      return a.read<float>(at, numbers);
    };
    if (kShared) {
      p.shared = a.count();
      if (p.shared >= p.length) a.refuse("is not less than the positions that are seen");
      const uint64 shared_keys = a.count(), shared_values = a.count();
      if (p.shared > 0) p.shared_keys = rows(shared_keys, p.shared - 1), p.shared_values = rows(shared_values, p.shared - 1);
    }
    const Size more = Size(p.growth) * (tokens - 1) + (p.length - 1 - own_from(p));
    p.q = a.read<float>(q, queries);
    p.keys = rows(keys, more), p.values = rows(values, more);
    p.out = a.write<float>(out, queries);
    const uint64 group = p.heads / p.kv_heads;
    // Heads that share keys and values go together, unless threads would then have unlike shares.
    const uint64 most_slices = (group + 1) / 2, threads = most_threads();
    auto uneven = [&](uint64 units) { return units % threads != 0 && units < 4 * threads; };
    for (p.slices = 1; p.slices < most_slices && uneven(tokens * p.kv_heads * p.slices);) p.slices++;
    const uint64 seen = std::min<uint64>(positions.value(), p.window);
    run(best_kernels().attend, p, tokens * p.kv_heads * p.slices, 4 * seen * p.head_size * ((group + p.slices - 1) / p.slices));
  });
}

// over(memory): the kernels over it.
void over(Info info) {
  callback_body(info, [&] {
    require_owner("kernels");
    if (info.Length() < 1 || !info[0]->IsObject()) throw_js("kernels need a WebAssembly memory");
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    std::unique_ptr<Memory> memory(new Memory(GetUserId()));
    memory->memory.Reset(isolate, info[0].As<v8::Object>());
    memory->refresh(isolate);
    v8::Local<v8::Object> handle = handle_for(memory.release());
    v8::Local<v8::Object> out = v8::Object::New(isolate);
    auto member = [&](const char* name, v8::FunctionCallback f) {
      v8::Local<v8::Function> function = v8::Function::New(context, f, handle).ToLocalChecked();
      function->SetName(js_string(name));
      out->Set(context, js_string(name), function).Check();
    };
    member("quantizeActivations", quantize);
    member("matmulIntegers", product_of_integers);
    member("matmulTogether", products_together);
    member("matmulF32", product_f32);
    member("rmsNorm", norm<false>);
    member("layerNorm", norm<true>);
    member("addInto", elements_of_two<&Kernels::add, 1>);
    member("addBias", add_bias);
    member("siluMultiply", elements_of_two<&Kernels::silu_multiply, 16>);
    member("geluMultiply", elements_of_two<&Kernels::gelu_multiply, 16>);
    member("gelu", elements_of_one<&Kernels::gelu, 16, false>);
    member("scaleBy", elements_of_one<&Kernels::scale, 1, true>);
    member("softcap", elements_of_one<&Kernels::softcap, 16, true>);
    member("rope", rotate);
    member("narrowF16", narrow_floats);
    member("attention", attend<false>);
    member("attentionShared", attend<true>);
    info.GetReturnValue().Set(out);
  });
}

// usable(): whether the running function has the right.
void usable(Info info) {
  callback_body(info, [&] { info.GetReturnValue().Set(is_owners_function()); });
}

// family(): what the processor gives, as avx2.
void family(Info info) {
  callback_body(info, [&] { info.GetReturnValue().Set(js_string(best_kernels().name)); });
}

// threads(most): threads that this call may have from here on, bounded by hartonomous_v8.threads; with no argument, or null,
// as many as that allows. Returns how many that are.
void threads(Info info) {
  callback_body(info, [&] {
    require_owner("kernels");
    if (info.Length() > 0 && !info[0]->IsNullOrUndefined()) {
      if (!info[0]->IsUint32() || info[0].As<v8::Uint32>()->Value() == 0) throw_js("threads must be a positive integer");
      most_threads_of_call = static_cast<int>(std::min<uint32>(info[0].As<v8::Uint32>()->Value(), kMostThreads));
    } else if (info.Length() > 0) {
      most_threads_of_call = kMostThreads;
    }
    info.GetReturnValue().Set(most_threads());
  });
}

}  // namespace
}  // namespace kernels

void end_kernels_of_call() {
  kernels::most_threads_of_call = kernels::kMostThreads;
  kernels::give_cores_back();
}

void install_kernels(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  v8::Local<v8::Object> members = v8::Object::New(context->GetIsolate());
  set_member(context, members, "usable", kernels::usable, kPlv8Member);
  set_member(context, members, "family", kernels::family, kPlv8Member);
  set_member(context, members, "threads", kernels::threads, kPlv8Member);
  set_member(context, members, "over", kernels::over, kPlv8Member);
  plv8->DefineOwnProperty(context, js_string("kernels"), members, kPlv8Member).Check();
}

}  // namespace host
