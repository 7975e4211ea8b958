// The memory that a kernel is handed: where it is, how far it goes, and which of it is a mapped segment.
#include "kernels/memory.h"

namespace host::kernels {

void Memory::refresh(v8::Isolate* isolate) {
  // Growing detaches the buffer that was there, which then has no bytes.
  if (!buffer.IsEmpty() && bytes > 0 && buffer.Get(isolate)->ByteLength() == bytes) return;
  v8::Local<v8::Value> now;
  if (!js_property(memory.Get(isolate), "buffer", &now)) throw JsPending{};
  // Nobody but its memory can detach a buffer of WebAssembly.
  if (!now->IsArrayBuffer() || now.As<v8::ArrayBuffer>()->IsDetachable()) throw_js("kernels need a WebAssembly memory");
  v8::Local<v8::ArrayBuffer> found = now.As<v8::ArrayBuffer>();
  buffer.Reset(isolate, found);
  store = found->GetBackingStore();
  base = static_cast<char*>(store->Data());
  bytes = found->ByteLength();
}

Arguments::Arguments(const v8::FunctionCallbackInfo<v8::Value>& info) : info_(info) {
  memory_ = static_cast<Memory*>(handle_in(info.Data().As<v8::Object>(), Memory::kKind, "not a kernel"));
  if (GetUserId() != memory_->user) throw_js("kernels belong to another role");
  memory_->refresh(info.GetIsolate());
}

v8::Local<v8::Value> Arguments::next() { return info_[next_++]; }

uint64 Arguments::count() {
  v8::Local<v8::Value> value = next();
  if (!value->IsUint32()) refuse("is no integer from 0 to 4294967295");
  return value.As<v8::Uint32>()->Value();
}

uint64 Arguments::positive() {
  uint64 value = count();
  if (value == 0) refuse("must not be 0");
  return value;
}

float Arguments::number() {
  v8::Local<v8::Value> value = next();
  if (!value->IsNumber()) refuse("is no number");
  return static_cast<float>(value.As<v8::Number>()->Value());
}

bool Arguments::flag() {
  v8::Local<v8::Value> value = next();
  if (!value->IsBoolean()) refuse("is neither true nor false");
  return value.As<v8::Boolean>()->Value();
}

void Arguments::refuse(const char* what) { throw_js("argument " + std::to_string(next_) + " of a kernel " + what); }

char* Arguments::range(uint64 at, Size bytes, size_t alignment, bool written) {
  const uint64 end = (bytes + at).value();
  if (at % alignment != 0 || end > memory_->bytes) {
    throw_js("kernel cannot use " + std::to_string(bytes.value()) + " bytes from byte " + std::to_string(at) +
             " of a memory of " + std::to_string(memory_->bytes));
  }
  char* from = memory_->base + at;
  if (written && overlaps_mapped(from, bytes.value())) {
    throw_js("kernel cannot write " + std::to_string(bytes.value()) + " bytes from byte " + std::to_string(at) +
             ", where a segment is mapped");
  }
  return from;
}

}  // namespace host::kernels
