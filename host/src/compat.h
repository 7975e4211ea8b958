// What differs between PostgreSQL 15 to 18 and between V8 10.2 (Debian's libnode108), 11.3 (libnode115) and 13.6: every #if
// on a version of either stands in this file, and nowhere else in the host. Where a newer version renames or reshapes
// something, give it a name here that means the same on all of them, and call that. docs/systems.md says what was tested.
#pragma once

#include <v8-platform.h>
#include <v8.h>

extern "C" {
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
}

namespace host {

// ---- PostgreSQL -----------------------------------------------------------------------------------------------

inline bool role_may_execute(Oid role, Oid function) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
  return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

// Oid of the type that `name` names; raises PostgreSQL's error where there is none.
inline Oid type_named(const char* name) {
  Oid type;
  int32 typmod;
#if PG_VERSION_NUM >= 160000
  parseTypeString(name, &type, &typmod, nullptr);
#else
  parseTypeString(name, &type, &typmod, false);
#endif
  return type;
}

// What PostgreSQL knows of a setting; null where there is none of this name.
inline config_generic* setting_record(const char* name) {
#if PG_VERSION_NUM >= 160000
  return find_option(name, false, true, ERROR);
#else
  config_generic** all = get_guc_variables();
  for (int i = 0; i < GetNumConfigOptions(); i++) {
    if (strcmp(all[i]->name, name) == 0) return all[i];
  }
  return nullptr;
#endif
}

// Whether a statement that ended with this SPI status may have left rows.
inline bool gives_rows(int status) {
  switch (status) {
    case SPI_OK_SELECT:
    case SPI_OK_INSERT_RETURNING:
    case SPI_OK_DELETE_RETURNING:
    case SPI_OK_UPDATE_RETURNING:
#if PG_VERSION_NUM >= 170000
    case SPI_OK_MERGE_RETURNING:
#endif
    case SPI_OK_FETCH:
    case SPI_OK_CURSOR:
    case SPI_OK_UTILITY:
      return true;
    default:
      return false;
  }
}

// ---- V8 -------------------------------------------------------------------------------------------------------

#if V8_MAJOR_VERSION > 10 || (V8_MAJOR_VERSION == 10 && V8_MINOR_VERSION >= 4)
using OutOfMemoryDetails = const v8::OOMDetails&;
#else
using OutOfMemoryDetails = bool;
#endif

inline v8::ScriptOrigin script_origin(v8::Local<v8::Value> name) {
#if V8_MAJOR_VERSION >= 12
  return v8::ScriptOrigin(name);
#else
  return v8::ScriptOrigin(v8::Isolate::GetCurrent(), name);
#endif
}

// Hands everything on to the allocator of pages that it is made of.
class ForwardingPages : public v8::PageAllocator {
 public:
  explicit ForwardingPages(v8::PageAllocator* pages) : pages_(pages) {}

  size_t AllocatePageSize() override { return pages_->AllocatePageSize(); }
  size_t CommitPageSize() override { return pages_->CommitPageSize(); }
  void SetRandomMmapSeed(int64_t seed) override { pages_->SetRandomMmapSeed(seed); }
  void* GetRandomMmapAddr() override { return pages_->GetRandomMmapAddr(); }
  void* AllocatePages(void* at, size_t length, size_t alignment, Permission permissions) override {
    return pages_->AllocatePages(at, length, alignment, permissions);
  }
  bool FreePages(void* at, size_t length) override { return pages_->FreePages(at, length); }
  bool ReleasePages(void* at, size_t length, size_t left) override { return pages_->ReleasePages(at, length, left); }
  bool SetPermissions(void* at, size_t length, Permission permissions) override {
    return pages_->SetPermissions(at, length, permissions);
  }
#if V8_MAJOR_VERSION >= 11
  bool RecommitPages(void* at, size_t length, Permission permissions) override {
    return pages_->RecommitPages(at, length, permissions);
  }
#endif
#if V8_MAJOR_VERSION >= 13
  bool SealPages(void* at, size_t length) override { return pages_->SealPages(at, length); }
#endif
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
  v8::PageAllocator* pages_;
};

// Hands everything on to the platform that it is made of.
class ForwardingPlatform : public v8::Platform {
 public:
  explicit ForwardingPlatform(v8::Platform* platform) : platform_(platform) {}

  v8::PageAllocator* GetPageAllocator() override { return platform_->GetPageAllocator(); }
  void OnCriticalMemoryPressure() override { platform_->OnCriticalMemoryPressure(); }
  int NumberOfWorkerThreads() override { return platform_->NumberOfWorkerThreads(); }
  bool IdleTasksEnabled(v8::Isolate* isolate) override { return platform_->IdleTasksEnabled(isolate); }
  double MonotonicallyIncreasingTime() override { return platform_->MonotonicallyIncreasingTime(); }
  double CurrentClockTimeMillis() override { return platform_->CurrentClockTimeMillis(); }
  StackTracePrinter GetStackTracePrinter() override { return platform_->GetStackTracePrinter(); }
  v8::TracingController* GetTracingController() override { return platform_->GetTracingController(); }
#if V8_MAJOR_VERSION >= 12
  v8::ThreadIsolatedAllocator* GetThreadIsolatedAllocator() override { return platform_->GetThreadIsolatedAllocator(); }
  std::shared_ptr<v8::TaskRunner> GetForegroundTaskRunner(v8::Isolate* isolate, v8::TaskPriority priority) override {
    return platform_->GetForegroundTaskRunner(isolate, priority);
  }

 protected:
  std::unique_ptr<v8::JobHandle> CreateJobImpl(v8::TaskPriority priority, std::unique_ptr<v8::JobTask> task,
                                               const v8::SourceLocation& location) override {
    return platform_->CreateJob(priority, std::move(task), location);
  }
  void PostTaskOnWorkerThreadImpl(v8::TaskPriority priority, std::unique_ptr<v8::Task> task,
                                  const v8::SourceLocation& location) override {
    platform_->PostTaskOnWorkerThread(priority, std::move(task), location);
  }
  void PostDelayedTaskOnWorkerThreadImpl(v8::TaskPriority priority, std::unique_ptr<v8::Task> task, double seconds,
                                         const v8::SourceLocation& location) override {
    platform_->PostDelayedTaskOnWorkerThread(priority, std::move(task), seconds, location);
  }
#else
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
  std::unique_ptr<v8::JobHandle> PostJob(v8::TaskPriority priority, std::unique_ptr<v8::JobTask> task) override {
    return platform_->PostJob(priority, std::move(task));
  }
#if V8_MAJOR_VERSION >= 11
  std::unique_ptr<v8::JobHandle> CreateJob(v8::TaskPriority priority, std::unique_ptr<v8::JobTask> task) override {
    return platform_->CreateJob(priority, std::move(task));
  }
#endif
#endif

 private:
  v8::Platform* platform_;
};

}  // namespace host
