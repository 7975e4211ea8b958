// The launcher: it looks after the databases in rounds, has each looked through by a scout, and starts a worker for who has
// work, up to the limits. It is connected to no database and holds nothing while it waits.
#include "worker.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PGDLLEXPORT void hartonomous_worker_launcher(Datum is_dynamic);

// While a process runs, its end wakes the launcher; a signal that got lost costs this much.
#define LONGEST_WAIT_MS 5000

typedef struct Running {
  Client* client;
  BackgroundWorkerHandle* handle;  // null: nobody in this place
} Running;

static Board* board;
static dsm_handle board_handle;
static Running scout;
static Running workers[MOST_WORKERS];  // a place here is one on the board
static List* round_left = NIL;  // databases that this round has still to look through
static TimestampTz next_round = 0;
static bool told_no_process = false;

static bool has_ended(Running* running) {
  pid_t pid;
  if (running->handle == NULL || GetBackgroundWorkerPid(running->handle, &pid) != BGWH_STOPPED) return false;
  pfree(running->handle);
  running->handle = NULL;
  return true;
}

static int count_workers(const Client* client) {
  int count = 0;
  for (int i = 0; i < MOST_WORKERS; i++)
    if (workers[i].handle != NULL && (client == NULL || workers[i].client == client)) count++;
  return count;
}

static void reap_workers(void) {
  bool ended = false;
  for (int i = 0; i < MOST_WORKERS; i++) {
    if (!has_ended(&workers[i])) continue;
    note_end(workers[i].client, board->worked[i]);
    ended = true;
  }
  if (ended && count_workers(NULL) == 0) note_work_ended();
}

static void note_started(Running* running) {
  if (running->handle == NULL && !told_no_process)
    ereport(WARNING, (errmsg("no background worker can be started for searches"),
                      errhint("max_worker_processes is %d.", max_worker_processes)));
  told_no_process = running->handle == NULL;
}

static void start_scout(Client* client) {
  Errand errand = {.database = client->database, .most_due = BATCH_ROWS * workers_per_owner};
  board->scouted = false;
  board->n_findings = 0;
  scout.client = client;
  scout.handle = start_process("worker scout", "hartonomous_worker_scout", board_handle, &errand);
  note_started(&scout);
}

static void start_worker(Client* client) {
  int place = 0;
  while (workers[place].handle != NULL) place++;
  Errand errand = {.database = client->database, .owner = client->owner, .place = place};
  if (count_workers(NULL) == 0) note_work_begins();
  board->worked[place] = false;
  workers[place].client = client;
  workers[place].handle = start_process("worker", "hartonomous_worker_work", board_handle, &errand);
  client->started_at = GetCurrentTimestamp();
  note_started(&workers[place]);
  if (count_workers(NULL) == 0) note_work_ended();
}

static bool wants_worker(const Client* client, int due) {
  int wanted = Min((due + BATCH_ROWS - 1) / BATCH_ROWS, workers_per_owner);
  return count_workers(client) < wanted && client->not_before <= GetCurrentTimestamp();
}

// Of those who want one, who waited longest gets the next worker.
static Client* next_to_serve(void) {
  Client* next = NULL;
  for (int i = 0; i < board->n_findings; i++) {
    const Finding* finding = &board->findings[i];
    Client* client = client_of(scout.client->database, finding->owner);
    if (finding->refusal != REFUSED_NOT || !wants_worker(client, finding->due)) continue;
    if (next == NULL || client->started_at < next->started_at) next = client;
  }
  return next;
}

static void take_findings(void) {
  for (int i = 0; i < board->n_findings; i++)
    tell_refusal(client_of(scout.client->database, board->findings[i].owner), board->findings[i].refusal);
  Client* client;
  while (count_workers(NULL) < max_workers && !told_no_process && (client = next_to_serve()) != NULL) start_worker(client);
}

static void look_after_databases(void) {
  if (has_ended(&scout)) {
    note_end(scout.client, board->scouted);
    if (board->scouted) take_findings();
  }
  if (round_left == NIL && GetCurrentTimestamp() >= next_round && max_workers > 0) {
    round_left = databases_to_visit(TopMemoryContext);
    next_round = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), naptime_s * (int64)1000);
  }
  while (round_left != NIL && scout.handle == NULL) {
    Client* client = client_of(linitial_oid(round_left), InvalidOid);
    round_left = list_delete_first(round_left);
    if (client->not_before <= GetCurrentTimestamp()) start_scout(client);
  }
}

static long wait_ms(void) {
  long wait = LONGEST_WAIT_MS;
  if (scout.handle == NULL && max_workers > 0)
    wait = Min(wait, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_round));
  return wait;
}

static void reload_settings(void) {
  ConfigReloadPending = false;
  ProcessConfigFile(PGC_SIGHUP);
  forget_missing_databases();
  next_round = GetCurrentTimestamp();
}

// At once, whatever they do: a batch that was not committed is done again by whoever works next.
static void stop_all(void) {
  if (scout.handle != NULL) TerminateBackgroundWorker(scout.handle);
  for (int i = 0; i < MOST_WORKERS; i++)
    if (workers[i].handle != NULL) TerminateBackgroundWorker(workers[i].handle);
  note_work_ended();
}

static void be_the_only_one(bool is_dynamic) {
  StartTransactionCommand();
  bool is_only = hold_launcher_lock(true);
  CommitTransactionCommand();
  if (is_only) return;
  ereport(LOG, (errmsg("another launcher works for searches")));
  proc_exit(is_dynamic ? 0 : 1);
}

void hartonomous_worker_launcher(Datum argument) {
  bool is_dynamic = DatumGetBool(argument);
  pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  pqsignal(SIGINT, SIG_IGN);
  BackgroundWorkerUnblockSignals();
  BackgroundWorkerInitializeConnection(NULL, NULL, 0);
  be_the_only_one(is_dynamic);
  MemoryContextSwitchTo(TopMemoryContext);
  board = make_board(&board_handle);
  next_round = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_after_crashes_s() * (int64)1000);
  while (!ShutdownRequestPending) {
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) reload_settings();
    reap_workers();
    look_after_databases();
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait_ms(), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
  }
  stop_all();
  // Who started it with a function and ends it wants it gone; one that is preloaded comes back.
  proc_exit(is_dynamic ? 0 : 1);
}
