// A bound on WebAssembly memory, which plv8.memory_limit leaves out: in isolates of other roles than the one that
// hartonomous_v8.segment_role names, all memories together have as much as that limit. V8 asks its platform for pages: it
// reserves the whole range that a memory may ever have, guards included, and makes accessible what the memory has at present.
#include "allocator.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <mutex>

extern "C" {
#include "utils/acl.h"
}

namespace host {
namespace {

// Only WebAssembly memories with their guards are reserved at such a size; an isolate's heap is smaller.
constexpr size_t kLeastReservation = size_t{8} << 30;

// A memory of an isolate that has a limit.
struct Reservation {
  size_t length = 0;
  char* from = nullptr;  // behind the guard at its beginning; null until a part of it is accessible
  size_t accessible = 0;
  RoleIsolate* isolate = nullptr;  // may be gone
};

bool is_limited(Oid role) {
  if (segment_role == nullptr || segment_role[0] == '\0') return false;
  Oid exempt = InvalidOid;
  try {
    guarded([&] { exempt = get_role_oid(segment_role, true); });
  } catch (const PgError& error) {
    FreeErrorData(error.edata);
  }
  return role != exempt;
}

class LimitedPages : public ForwardingPages {
 public:
  using ForwardingPages::ForwardingPages;

  void* AllocatePages(void* address, size_t length, size_t alignment, Permission permissions) override {
    void* at = ForwardingPages::AllocatePages(address, length, alignment, permissions);
    Instance* instance = on_backend_thread() ? current_instance() : nullptr;
    if (at != nullptr && length >= kLeastReservation && instance != nullptr && is_limited(instance->shared->role)) {
      std::lock_guard<std::mutex> lock(mutex_);
      reserved_[static_cast<char*>(at)] = {length, nullptr, 0, instance->shared};
    }
    return at;
  }

  bool SetPermissions(void* address, size_t length, Permission permissions) override {
    if (permissions == kReadWrite && !grant(static_cast<char*>(address), length)) return false;
    return ForwardingPages::SetPermissions(address, length, permissions);
  }

  bool FreePages(void* address, size_t length) override {
    {
      // Collected memories are freed by a thread of V8's.
      std::lock_guard<std::mutex> lock(mutex_);
      reserved_.erase(static_cast<char*>(address));
    }
    return ForwardingPages::FreePages(address, length);
  }

 private:
  static bool on_backend_thread() { return syscall(SYS_gettid) == getpid(); }

  // Whether these pages of a reservation may be accessible; any others may be anyway.
  bool grant(char* address, size_t length) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto after = reserved_.upper_bound(address);
    if (after == reserved_.begin()) return true;
    auto& [start, memory] = *std::prev(after);
    if (address >= start + memory.length) return true;
    if (memory.from == nullptr) memory.from = address;
    size_t wanted = static_cast<size_t>(address + length - memory.from);
    if (wanted <= memory.accessible) return true;
    size_t all = wanted - memory.accessible;
    for (const auto& [at, each] : reserved_) {
      if (each.isolate == memory.isolate) all += each.accessible;
    }
    if (all > static_cast<size_t>(memory_limit_mb) << 20) {
      // V8 collects garbage before it gives up; the heap is not what is full.
      if (on_backend_thread() && current_instance() != nullptr) current_instance()->shared->allocator->note_refusal();
      return false;
    }
    memory.accessible = wanted;
    return true;
  }

  std::mutex mutex_;
  std::map<char*, Reservation> reserved_;  // by where they start
};

class LimitedPlatform : public ForwardingPlatform {
 public:
  explicit LimitedPlatform(v8::Platform* platform)
      : ForwardingPlatform(platform), pages_(platform->GetPageAllocator()) {}
  v8::PageAllocator* GetPageAllocator() override { return &pages_; }

 private:
  LimitedPages pages_;
};

}  // namespace

v8::Platform* limited_platform(v8::Platform* platform) { return new LimitedPlatform(platform); }

}  // namespace host
