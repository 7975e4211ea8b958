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
// Between two turns of an engine that nobody asks: it finds out which of its models are to go.
constexpr int kTidyMs = 2000;

void leave_place(int, Datum) {
  take_back_counts();
  give_up_place();
}

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
  TimestampTz tidied_at = idle_since;
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
      ConfigReloadPending = false;
      ProcessConfigFile(PGC_SIGHUP);
    }
    ResetLatch(MyLatch);
    if (has_left_requests() || has_open_requests()) {
      idle_since = tidied_at = GetCurrentTimestamp();
      if (turn()) continue;
    }
    pgstat_report_activity(STATE_IDLE, nullptr);
    if (!has_open_requests()) {
      if (is_wanted_alone()) break;
      if (TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(), engine_idle_s * 1000)) break;
      if (TimestampDifferenceExceeds(tidied_at, GetCurrentTimestamp(), kTidyMs)) {
        tidied_at = GetCurrentTimestamp();
        if (turn()) continue;
        pgstat_report_activity(STATE_IDLE, nullptr);
      }
    }
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLookMs, PG_WAIT_EXTENSION);
  }
}

}  // namespace host::engine
