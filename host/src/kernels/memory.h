// What JavaScript hands to the kernels, checked: a WebAssembly memory, and addresses and lengths within it.
#pragma once

#include "host.h"

#include <memory>

namespace host::kernels {

// A number of bytes or elements; sums and products that 64 bits do not hold stay the largest number, which no range has.
class Size {
 public:
  Size(uint64 value) : value_(value) {}
  uint64 value() const { return value_; }
  friend Size operator*(Size a, Size b) {
    uint64 out;
    return __builtin_mul_overflow(a.value_, b.value_, &out) ? kTooMuch : out;
  }
  friend Size operator+(Size a, Size b) {
    uint64 out;
    return __builtin_add_overflow(a.value_, b.value_, &out) ? kTooMuch : out;
  }

 private:
  static constexpr uint64 kTooMuch = ~uint64{0};
  uint64 value_;
};

// A WebAssembly memory. Its bytes are held as long as this is; where it has grown, `refresh` finds them anew.
struct Memory : Handle {
  static constexpr Kind kKind = kKernelMemory;
  explicit Memory(Oid user) : Handle(kKind), user(user) {}
  void refresh(v8::Isolate* isolate);

  const Oid user;  // who may use it
  v8::Global<v8::Object> memory;
  v8::Global<v8::ArrayBuffer> buffer;
  std::shared_ptr<v8::BackingStore> store;
  char* base = nullptr;
  uint64 bytes = 0;
};

// The arguments of one call, taken one after another; each that is not what is asked for is a JavaScript error.
class Arguments {
 public:
  explicit Arguments(const v8::FunctionCallbackInfo<v8::Value>& info);

  int left() const { return info_.Length() - next_; }  // arguments that nobody has taken
  uint64 count();     // an integer from 0 to 2^32 - 1
  uint64 positive();  // the same without 0
  float number();
  bool flag();
  // An address of `size` elements, aligned as they are. What is written must not be a mapped segment.
  template <typename T>
  const T* read(uint64 at, Size size) {
    return reinterpret_cast<const T*>(range(at, size * sizeof(T), alignof(T), false));
  }
  template <typename T>
  T* write(uint64 at, Size size) {
    return reinterpret_cast<T*>(range(at, size * sizeof(T), alignof(T), true));
  }
  [[noreturn]] void refuse(const char* what);

 private:
  v8::Local<v8::Value> next();
  char* range(uint64 at, Size bytes, size_t alignment, bool written);

  const v8::FunctionCallbackInfo<v8::Value>& info_;
  int next_ = 0;
  Memory* memory_;
};

}  // namespace host::kernels
