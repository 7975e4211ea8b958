// A worker: a session of the search's owner, from its first moment on, that calls the procedure which everybody calls. What
// it may not do PostgreSQL refuses, as to every session of that role: without LOGIN or CONNECT it comes about at all.
#include "worker.h"

#include <signal.h>

#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

PGDLLEXPORT void hartonomous_worker_work(Datum board);

#if defined(USE_POSTMASTER_DEATH_SIGNAL) && defined(SIGPWR)
// Nobody waits on a latch while a batch is embedded, so the end of the postmaster comes as a signal.
static void postmaster_is_gone(int signal) {
  postmaster_possibly_dead = true;
  die(signal);
}
#endif

static void take_signals(void) {
  pqsignal(SIGTERM, die);
#if defined(USE_POSTMASTER_DEATH_SIGNAL) && defined(SIGPWR)
  pqsignal(SIGPWR, postmaster_is_gone);
#endif
  BackgroundWorkerUnblockSignals();
}

// Run one statement that may commit, as a client's would be: SPI has no portal, without which a procedure cannot commit.
static void run_statement(const char* sql) {
  MemoryContext context = AllocSetContextCreate(TopMemoryContext, LIBRARY, ALLOCSET_DEFAULT_SIZES);
  debug_query_string = sql;
  pgstat_report_activity(STATE_RUNNING, sql);
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  MemoryContextSwitchTo(context);
  RawStmt* parsed = linitial_node(RawStmt, pg_parse_query(sql));
  PushActiveSnapshot(GetTransactionSnapshot());
  List* queries = pg_analyze_and_rewrite_fixedparams(parsed, sql, NULL, 0, NULL);
  List* plans = pg_plan_queries(queries, sql, 0, NULL);
  PopActiveSnapshot();
  Portal portal = CreatePortal("", true, true);
  portal->visible = false;
  PortalDefineQuery(portal, NULL, sql, CreateCommandTag(parsed->stmt), plans, NULL);
  PortalStart(portal, NULL, 0, InvalidSnapshot);
  DestReceiver* receiver = CreateDestReceiver(DestNone);
  run_whole_portal(portal, receiver);
  receiver->rDestroy(receiver);
  PortalDrop(portal, false);
  CommitTransactionCommand();
  debug_query_string = NULL;
  pgstat_report_activity(STATE_IDLE, NULL);
  MemoryContextDelete(context);
}

static bool has_our_schema(void) {
  StartTransactionCommand();
  bool has = OidIsValid(extension_schema());
  CommitTransactionCommand();
  return has;
}

// The role may have been given more since the scout saw it.
static void refuse_superusers(void) {
  StartTransactionCommand();
  if (superuser() || GetUserId() == extension_owner())
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("no worker works for a superuser or the extension's owner")));
  CommitTransactionCommand();
}

void hartonomous_worker_work(Datum handle) {
  Errand errand = errand_of_process();
  take_signals();
  Board* board = attach_board(DatumGetUInt32(handle));
  if (board == NULL) return;
  BackgroundWorkerInitializeConnectionByOid(errand.database, errand.owner, 0);
  refuse_superusers();
  SetConfigOption("application_name", "hartonomous worker", PGC_USERSET, PGC_S_SESSION);
  // work() takes no other, and these are defaults that the role may have set for its own sessions.
  SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
  SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
  if (has_our_schema()) run_statement("call hartonomous.work()");
  board->worked[errand.place] = true;
}
