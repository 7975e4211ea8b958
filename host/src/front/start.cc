// Starting an engine, for a session that needs one.
#include "../engine/engine.h"

extern "C" {
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace host::engine {
namespace {

// Until an engine that was started has its place.
constexpr int kStartMs = 10000;

void wait_a_little() {
  CHECK_FOR_INTERRUPTS();
  WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
}

// Until it has a place, or another one has, or it ended without: whatever comes first.
bool wait_for(BackgroundWorkerHandle* handle, int* pid) {
  TimestampTz since = GetCurrentTimestamp();
  while (!TimestampDifferenceExceeds(since, GetCurrentTimestamp(), kStartMs)) {
    pid_t started;
    bool has_ended = GetBackgroundWorkerPid(handle, &started) == BGWH_STOPPED;
    if (find_engine(pid)) return true;
    if (has_ended) return false;
    wait_a_little();
  }
  return false;
}

}  // namespace

bool start_engine(int* pid) {
  if (!begin_start()) {
    // One is started by another session: of many that ask at once each would take a place for a process.
    TimestampTz since = GetCurrentTimestamp();
    while (is_starting() && !find_engine(pid) && !TimestampDifferenceExceeds(since, GetCurrentTimestamp(), kStartMs)) {
      wait_a_little();
    }
    return find_engine(pid);
  }
  BackgroundWorker worker;
  memset(&worker, 0, sizeof worker);
  worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  worker.bgw_start_time = BgWorkerStart_ConsistentState;
  worker.bgw_restart_time = BGW_NEVER_RESTART;
  snprintf(worker.bgw_library_name, BGW_MAXLEN, "hartonomous_v8");
  snprintf(worker.bgw_function_name, BGW_MAXLEN, "hartonomous_engine_main");
  snprintf(worker.bgw_name, BGW_MAXLEN, "hartonomous engine");
  snprintf(worker.bgw_type, BGW_MAXLEN, "hartonomous engine");
  Errand errand = {MyDatabaseId, GetUserId()};
  static_assert(sizeof errand <= BGW_EXTRALEN, "an errand is part of how a process is registered");
  memcpy(worker.bgw_extra, &errand, sizeof errand);
  worker.bgw_notify_pid = MyProcPid;
  volatile bool there = false;
  PG_TRY();
  {
    BackgroundWorkerHandle* handle;
    there = RegisterDynamicBackgroundWorker(&worker, &handle) && wait_for(handle, pid);
  }
  PG_FINALLY();
  { end_start(); }
  PG_END_TRY();
  return there;
}

}  // namespace host::engine
