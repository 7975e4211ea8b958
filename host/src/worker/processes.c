// The background workers that there are, as the postmaster is told of them. A process that ends with 0 is forgotten, one
// that ends with 1 is started again after bgw_restart_time, and any other end is a crash after which the postmaster starts
// the whole server anew: so everything here ends by returning, by proc_exit of 0 or 1, or by an error, which is 1.
#include "worker.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lock.h"

// Seconds until a launcher that failed is started again.
#define LAUNCHER_RESTART_S 5
// A lock of no database, so it hinders nothing; who looks into pg_locks sees by it that a launcher runs.
#define LOCK_CLASS 0x68617274
#define LOCK_OBJECT 0x776f726b

static BackgroundWorker described(const char* what, const char* function) {
  BackgroundWorker worker;
  memset(&worker, 0, sizeof worker);
  worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
  worker.bgw_restart_time = BGW_NEVER_RESTART;
  snprintf(worker.bgw_library_name, BGW_MAXLEN, LIBRARY);
  snprintf(worker.bgw_function_name, BGW_MAXLEN, "%s", function);
  snprintf(worker.bgw_name, BGW_MAXLEN, "hartonomous %s", what);
  snprintf(worker.bgw_type, BGW_MAXLEN, "hartonomous %s", what);
  return worker;
}

static BackgroundWorker described_launcher(bool is_dynamic) {
  BackgroundWorker launcher = described("worker launcher", "hartonomous_worker_launcher");
  launcher.bgw_restart_time = LAUNCHER_RESTART_S;
  launcher.bgw_main_arg = BoolGetDatum(is_dynamic);
  return launcher;
}

void register_launcher(void) {
  BackgroundWorker launcher = described_launcher(false);
  RegisterBackgroundWorker(&launcher);
}

static BackgroundWorkerHandle* start_dynamically(BackgroundWorker* worker) {
  BackgroundWorkerHandle* handle;
  worker->bgw_notify_pid = MyProcPid;
  return RegisterDynamicBackgroundWorker(worker, &handle) ? handle : NULL;
}

BackgroundWorkerHandle* start_launcher(void) {
  BackgroundWorker launcher = described_launcher(true);
  return start_dynamically(&launcher);
}

BackgroundWorkerHandle* start_process(const char* what, const char* function, dsm_handle board, const Errand* errand) {
  BackgroundWorker worker = described(what, function);
  StaticAssertStmt(sizeof(Errand) <= BGW_EXTRALEN, "an errand is part of how a process is registered");
  worker.bgw_main_arg = UInt32GetDatum(board);
  memcpy(worker.bgw_extra, errand, sizeof *errand);
  return start_dynamically(&worker);
}

Errand errand_of_process(void) {
  Errand errand;
  memcpy(&errand, MyBgworkerEntry->bgw_extra, sizeof errand);
  return errand;
}

static LOCKTAG launcher_lock(void) {
  LOCKTAG tag;
  SET_LOCKTAG_ADVISORY(tag, InvalidOid, LOCK_CLASS, LOCK_OBJECT, 1);
  return tag;
}

bool hold_launcher_lock(bool until_the_end) {
  LOCKTAG tag = launcher_lock();
  return LockAcquire(&tag, ExclusiveLock, until_the_end, true) != LOCKACQUIRE_NOT_AVAIL;
}

void release_launcher_lock(void) {
  LOCKTAG tag = launcher_lock();
  LockRelease(&tag, ExclusiveLock, false);
}
