// hartonomous_worker_start(): a launcher for a server that does not preload the library, until the server is stopped.
#include "worker.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"

PG_FUNCTION_INFO_V1(hartonomous_worker_start);

Datum hartonomous_worker_start(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  if (RecoveryInProgress())
    ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby has no work for searches")));
  if (!hold_launcher_lock(false))
    ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("a launcher works for searches of this server already"),
                    errhint("pg_terminate_backend() ends it; pg_stat_activity shows it as \"hartonomous worker launcher\".")));
  release_launcher_lock();
  BackgroundWorkerHandle* launcher = start_launcher();
  pid_t pid;
  if (launcher == NULL || WaitForBackgroundWorkerStartup(launcher, &pid) != BGWH_STARTED)
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("no background worker could be started"),
                    errhint("max_worker_processes is %d.", max_worker_processes)));
  PG_RETURN_INT32(pid);
}
