// Settings (GUCs) of the worker, and what happens when the library is loaded.
#include "worker.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

char* databases_setting = NULL;
int naptime_s = 5;
int max_workers = 2;
int workers_per_owner = 1;

static bool check_databases(char** value, void** extra, GucSource source) {
  (void)extra;
  (void)source;
  char* names = pstrdup(*value);
  List* list;
  bool fine = SplitIdentifierString(names, ',', &list);
  if (!fine) GUC_check_errdetail("It is a list of names of databases, or *.");
  pfree(names);
  list_free(list);
  return fine;
}

void _PG_init(void) {
  DefineCustomStringVariable("hartonomous_worker.databases", "Databases whose searches are worked for.",
                             "Names, divided by commas; * for all.", &databases_setting, "hartonomous", PGC_SIGHUP,
                             GUC_LIST_INPUT, check_databases, NULL, NULL);
  DefineCustomIntVariable("hartonomous_worker.naptime", "Time between two looks at the queues.", NULL, &naptime_s, 5, 1,
                          86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
  DefineCustomIntVariable("hartonomous_worker.max_workers", "How many roles' sessions may work at a time.", "0: none.",
                          &max_workers, 2, 0, MOST_WORKERS, PGC_SIGHUP, 0, NULL, NULL, NULL);
  DefineCustomIntVariable("hartonomous_worker.workers_per_owner", "How many of them may work for one role.", NULL,
                          &workers_per_owner, 1, 1, MOST_WORKERS, PGC_SIGHUP, 0, NULL, NULL, NULL);
  MarkGUCPrefixReserved(LIBRARY);
  if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade) register_launcher();
}
