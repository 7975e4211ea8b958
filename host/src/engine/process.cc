// The process of an engine: it waits for requests, and has the bundle work on them in short transactions.
#include "engine.h"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace host::engine {

bool is_engine = false;

namespace {

// Between two looks whether somebody wants to drop, rename or copy the database: they wait 5 seconds for those who use it.
constexpr long kLookMs = 500;
// Until an engine that was started has its place.
constexpr int kStartMs = 10000;

struct Errand {
  Oid database;
  Oid owner;
};

void leave_place(int, Datum) { give_up_place(); }

// Whether somebody holds a lock on this database that keeps new sessions out: as DROP, ALTER ... RENAME and CREATE ... TEMPLATE do.
bool is_wanted_alone() {
  LOCKTAG tag;
  SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
  if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL) return true;
  LockRelease(&tag, RowExclusiveLock, true);
  return false;
}

// Have the bundle do some work; whether there is more.
bool turn() {
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  SPI_connect();
  PushActiveSnapshot(GetTransactionSnapshot());
  pgstat_report_activity(STATE_RUNNING, "computing");
  int status = SPI_execute("select hartonomous._engine_turn()", false, 1);
  bool is_null = true;
  bool more = false;
  if (status == SPI_OK_SELECT && SPI_processed == 1) {
    Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null);
    more = !is_null && DatumGetBool(value);
  }
  SPI_finish();
  PopActiveSnapshot();
  CommitTransactionCommand();
  return more;
}

}  // namespace

namespace {

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

void run_engine(Datum) {
  Errand errand;
  memcpy(&errand, MyBgworkerEntry->bgw_extra, sizeof errand);
  pqsignal(SIGTERM, die);
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  BackgroundWorkerUnblockSignals();
  // The owner may not log in, so it is connected as nobody and becomes the owner then.
  BackgroundWorkerInitializeConnectionByOid(errand.database, InvalidOid, 0);
  if (!claim_place()) return;
  is_engine = true;
  before_shmem_exit(leave_place, 0);
  StartTransactionCommand();
  SetSessionAuthorization(errand.owner, false);
  CommitTransactionCommand();
  SetConfigOption("application_name", "hartonomous engine", PGC_USERSET, PGC_S_SESSION);
  // Somebody who holds a lock may be waiting for this engine, which no deadlock detector sees: it ends rather than wait for long.
  SetConfigOption("lock_timeout", "1s", PGC_USERSET, PGC_S_SESSION);
  TimestampTz idle_since = GetCurrentTimestamp();
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
      ConfigReloadPending = false;
      ProcessConfigFile(PGC_SIGHUP);
    }
    ResetLatch(MyLatch);
    if (has_left_requests() || has_open_requests()) {
      idle_since = GetCurrentTimestamp();
      if (turn()) continue;
    }
    pgstat_report_activity(STATE_IDLE, nullptr);
    if (!has_open_requests()) {
      if (is_wanted_alone()) break;
      if (TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(), engine_idle_s * 1000)) break;
    }
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLookMs, PG_WAIT_EXTENSION);
  }
}

}  // namespace host::engine
