// A segment over a part of a WebAssembly memory.
#include "segments/segments.h"

#include <sys/mman.h>

namespace host {
namespace segments {
namespace {

struct Range {
  const char* from;
  const char* to;
};
constexpr int kMostRanges = 64;
Range ranges[kMostRanges];  // read by a signal handler
volatile int n_ranges = 0;

void remember_range(const char* from, const char* to) {
  int at = 0;
  while (at < n_ranges && (ranges[at].to <= from || ranges[at].from >= to)) at++;
  ranges[at < kMostRanges ? at : 0] = {from, to};
  if (at == n_ranges && n_ranges < kMostRanges) n_ranges = n_ranges + 1;
}

}  // namespace

char* range_of(v8::Local<v8::Value> memory, v8::Local<v8::Value> offset, uint64 bytes) {
  v8::Local<v8::Value> buffer;
  if (!memory->IsObject() || !js_property(memory.As<v8::Object>(), "buffer", &buffer) || !buffer->IsArrayBuffer() ||
      buffer.As<v8::ArrayBuffer>()->IsDetachable()) {
    throw_js("a segment needs a WebAssembly memory");
  }
  v8::Local<v8::ArrayBuffer> whole = buffer.As<v8::ArrayBuffer>();
  double at = offset->IsNumber() ? offset.As<v8::Number>()->Value() : -1;
  if (!(at >= 0) || at != static_cast<double>(static_cast<uint64>(at)) || static_cast<uint64>(at) % kPage != 0 ||
      static_cast<uint64>(at) + bytes > whole->ByteLength()) {
    throw_js("segment of " + std::to_string(bytes) + " bytes cannot stand at byte " + std::to_string(static_cast<int64>(at)) +
             " of a memory of " + std::to_string(whole->ByteLength()));
  }
  return static_cast<char*>(whole->Data()) + static_cast<uint64>(at);
}

size_t to_huge_page(const char* at) {
  size_t over = reinterpret_cast<uintptr_t>(at) % kHugePage;
  return over == 0 ? 0 : kHugePage - over;
}

void map_over(char* to, int fd, const Header& header) {
  if (header.data_bytes == 0) return;
  void* mapped = mmap(to, header.data_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(header.data_at));
  if (mapped != to) throw_file_error("map", Name{std::string(header.key, sizeof header.key), header.layout}.path());
#ifdef MADV_HUGEPAGE
  madvise(to, header.data_bytes, MADV_HUGEPAGE);  // what is not in memory is read so; a system that cannot says no
#endif
  remember_range(to, to + header.data_bytes);
  futimens(fd, nullptr);  // mapped last: make_room drops the others first
}

}  // namespace segments

bool is_mapped(const void* address) {
  const char* at = static_cast<const char*>(address);
  for (int i = 0; i < segments::n_ranges; i++) {
    if (at >= segments::ranges[i].from && at < segments::ranges[i].to) return true;
  }
  return false;
}

bool overlaps_mapped(const void* from, size_t bytes) {
  const char* at = static_cast<const char*>(from);
  for (int i = 0; i < segments::n_ranges; i++) {
    if (at < segments::ranges[i].to && segments::ranges[i].from < at + bytes) return true;
  }
  return false;
}

}  // namespace host
