// The library hartonomous_worker, which works off the queues of searches in the background. It knows nothing of V8, so it
// can be preloaded. One launcher for the server (launcher.c) has each database looked through by a scout (scout.c), which
// lives for some milliseconds, reads and runs nothing that users made, and says for whom there is work. For each of these
// the launcher starts a worker (work.c), which is connected as that role from its first to its last moment.
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/dsm.h"

#define LIBRARY "hartonomous_worker"
#define MOST_WORKERS 64
// Owners that a scout names at a time; others come next time, once these have no work.
#define MOST_FINDINGS 256
// Rows that call hartonomous.work() takes at a time.
#define BATCH_ROWS 16

// ---- settings.c -----------------------------------------------------------------------------------------------

extern char* databases_setting;
extern int naptime_s;
extern int max_workers;
extern int workers_per_owner;

// ---- board.c: what the launcher, its scout and its workers tell each other ----------------------------------------

// Why nobody works for the owner of a search.
typedef enum Refusal {
  REFUSED_NOT,
  REFUSED_SUPERUSER,
  REFUSED_EXTENSION_OWNER,
  REFUSED_LOGIN,
  REFUSED_CONNECT,
  REFUSED_ROLE_LIMIT,
  REFUSED_DATABASE_LIMIT
} Refusal;

typedef struct Finding {
  Oid owner;
  int due;  // entries of the owner's queues that are due, counted up to what all of an owner's workers take at a time
  Refusal refusal;
} Finding;

// One segment of dynamic shared memory, made by the launcher. A process that ends before it says so here has failed.
typedef struct Board {
  bool scouted;
  int n_findings;
  Finding findings[MOST_FINDINGS];
  bool worked[MOST_WORKERS];
} Board;

// What a scout or a worker is started with, in bgw_extra.
typedef struct Errand {
  Oid database;
  Oid owner;  // of a worker
  int place;  // of a worker on the board
  int most_due;  // of a scout: how far it counts
} Errand;

Board* make_board(dsm_handle* handle);
Board* attach_board(dsm_handle handle);  // null where the launcher is gone

// ---- processes.c ----------------------------------------------------------------------------------------------

typedef struct BackgroundWorkerHandle BackgroundWorkerHandle;

void register_launcher(void);  // while libraries are preloaded
BackgroundWorkerHandle* start_launcher(void);
BackgroundWorkerHandle* start_process(const char* what, const char* function, dsm_handle board, const Errand* errand);
Errand errand_of_process(void);
bool hold_launcher_lock(bool until_the_end);  // false where a launcher holds it
void release_launcher_lock(void);

// ---- databases.c ----------------------------------------------------------------------------------------------

List* databases_to_visit(MemoryContext context);  // oids
void forget_missing_databases(void);

// ---- clients.c: roles in databases, and how work for them went --------------------------------------------------

typedef struct Client {
  Oid database;
  Oid owner;  // invalid: the scout of this database
  int failures;
  TimestampTz not_before;
  TimestampTz started_at;
  Refusal told;
} Client;

Client* client_of(Oid database, Oid owner);
void note_end(Client* client, bool well);
void tell_refusal(Client* client, Refusal refusal);

// ---- crashes.c ------------------------------------------------------------------------------------------------

int pause_after_crashes_s(void);
void note_work_begins(void);
void note_work_ended(void);

// ---- schema.c -------------------------------------------------------------------------------------------------

Oid extension_owner(void);  // role hartonomous_owner; invalid where there is none
Oid extension_schema(void);  // schema hartonomous, if it belongs to that role
