// A bound on WebAssembly memory, which plv8.memory_limit leaves out: in isolates of other roles than the one that
// hartonomous_v8.segment_role names, all memories together have as much as that limit. V8 asks its platform for pages: it
// reserves the whole range that a memory may ever have, guards included, and makes accessible what the memory has at present.
#include "allocator.h"

#include <v8-platform.h>

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

class LimitedPages : public v8::PageAllocator {
 public:
  explicit LimitedPages(v8::PageAllocator* pages) : pages_(pages) {}

  void* AllocatePages(void* address, size_t length, size_t alignment, Permission permissions) override {
    void* at = pages_->AllocatePages(address, length, alignment, permissions);
    Instance* instance = on_backend_thread() ? current_instance() : nullptr;
    if (at != nullptr && length >= kLeastReservation && instance != nullptr && is_limited(instance->shared->role)) {
      std::lock_guard<std::mutex> lock(mutex_);
      reserved_[static_cast<char*>(at)] = {length, nullptr, 0, instance->shared};
    }
    return at;
  }

  bool SetPermissions(void* address, size_t length, Permission permissions) override {
    if (permissions == kReadWrite && !grant(static_cast<char*>(address), length)) return false;
    return pages_->SetPermissions(address, length, permissions);
  }

  bool FreePages(void* address, size_t length) override {
    {
      // Collected memories are freed by a thread of V8's.
      std::lock_guard<std::mutex> lock(mutex_);
      reserved_.erase(static_cast<char*>(address));
    }
    return pages_->FreePages(address, length);
  }

  size_t AllocatePageSize() override { return pages_->AllocatePageSize(); }
  size_t CommitPageSize() override { return pages_->CommitPageSize(); }
  void SetRandomMmapSeed(int64_t seed) override { pages_->SetRandomMmapSeed(seed); }
  void* GetRandomMmapAddr() override { return pages_->GetRandomMmapAddr(); }
  bool ReleasePages(void* at, size_t length, size_t left) override { return pages_->ReleasePages(at, length, left); }
  bool DiscardSystemPages(void* at, size_t size) override { return pages_->DiscardSystemPages(at, size); }
  bool DecommitPages(void* at, size_t size) override { return pages_->DecommitPages(at, size); }
  bool ReserveForSharedMemoryMapping(void* at, size_t size) override {
    return pages_->ReserveForSharedMemoryMapping(at, size);
  }
  std::unique_ptr<SharedMemory> AllocateSharedPages(size_t length, const void* at) override {
    return pages_->AllocateSharedPages(length, at);
  }
  bool CanAllocateSharedPages() override { return pages_->CanAllocateSharedPages(); }

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

  v8::PageAllocator* pages_;
  std::mutex mutex_;
  std::map<char*, Reservation> reserved_;  // by where they start
};

// Hands everything on to the platform it is made of, but the pages.
class LimitedPlatform : public v8::Platform {
 public:
  explicit LimitedPlatform(v8::Platform* platform) : platform_(platform), pages_(platform->GetPageAllocator()) {}

  v8::PageAllocator* GetPageAllocator() override { return &pages_; }
  v8::ZoneBackingAllocator* GetZoneBackingAllocator() override { return platform_->GetZoneBackingAllocator(); }
  void OnCriticalMemoryPressure() override { platform_->OnCriticalMemoryPressure(); }
  bool OnCriticalMemoryPressure(size_t length) override { return platform_->OnCriticalMemoryPressure(length); }
  int NumberOfWorkerThreads() override { return platform_->NumberOfWorkerThreads(); }
  std::shared_ptr<v8::TaskRunner> GetForegroundTaskRunner(v8::Isolate* isolate) override {
    return platform_->GetForegroundTaskRunner(isolate);
  }
  void CallOnWorkerThread(std::unique_ptr<v8::Task> task) override { platform_->CallOnWorkerThread(std::move(task)); }
  void CallBlockingTaskOnWorkerThread(std::unique_ptr<v8::Task> task) override {
    platform_->CallBlockingTaskOnWorkerThread(std::move(task));
  }
  void CallLowPriorityTaskOnWorkerThread(std::unique_ptr<v8::Task> task) override {
    platform_->CallLowPriorityTaskOnWorkerThread(std::move(task));
  }
  void CallDelayedOnWorkerThread(std::unique_ptr<v8::Task> task, double seconds) override {
    platform_->CallDelayedOnWorkerThread(std::move(task), seconds);
  }
  bool IdleTasksEnabled(v8::Isolate* isolate) override { return platform_->IdleTasksEnabled(isolate); }
  std::unique_ptr<v8::JobHandle> PostJob(v8::TaskPriority priority, std::unique_ptr<v8::JobTask> task) override {
    return platform_->PostJob(priority, std::move(task));
  }
  double MonotonicallyIncreasingTime() override { return platform_->MonotonicallyIncreasingTime(); }
  double CurrentClockTimeMillis() override { return platform_->CurrentClockTimeMillis(); }
  StackTracePrinter GetStackTracePrinter() override { return platform_->GetStackTracePrinter(); }
  v8::TracingController* GetTracingController() override { return platform_->GetTracingController(); }

 private:
  v8::Platform* platform_;
  LimitedPages pages_;
};

}  // namespace

v8::Platform* limited_platform(v8::Platform* platform) { return new LimitedPlatform(platform); }

}  // namespace host
