// Which databases hartonomous_worker.databases names. The launcher is connected to none, and reads pg_database.
#include "worker.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

static List* missing = NIL;  // names that were told to be missing, in TopMemoryContext

static bool is_among(List* names, const char* name) {
  ListCell* cell;
  foreach (cell, names)
    if (strcmp(lfirst(cell), name) == 0) return true;
  return false;
}

static void tell_missing(const char* name) {
  if (is_among(missing, name)) return;
  MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
  missing = lappend(missing, pstrdup(name));
  MemoryContextSwitchTo(before);
  ereport(LOG, (errmsg("database \"%s\" of hartonomous_worker.databases does not exist", name)));
}

void forget_missing_databases(void) {
  list_free_deep(missing);
  missing = NIL;
}

static bool can_be_visited(Form_pg_database database) {
  // Below -1 is a database whose creation or removal was cut off.
  return database->datallowconn && database->datconnlimit >= -1;
}

List* databases_to_visit(MemoryContext context) {
  List* names;
  List* visited = NIL;
  List* found = NIL;
  StartTransactionCommand();
  if (!SplitIdentifierString(pstrdup(databases_setting), ',', &names)) names = NIL;
  bool all = is_among(names, "*");
  Relation relation = table_open(DatabaseRelationId, AccessShareLock);
  PushActiveSnapshot(GetTransactionSnapshot());
  TableScanDesc scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
  for (HeapTuple tuple; (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL;) {
    Form_pg_database database = (Form_pg_database)GETSTRUCT(tuple);
    const char* name = NameStr(database->datname);
    bool is_named = is_among(names, name);
    if (is_named) found = lappend(found, pstrdup(name));
    if (!can_be_visited(database) || !(is_named || (all && !database->datistemplate))) continue;
    MemoryContext before = MemoryContextSwitchTo(context);
    visited = lappend_oid(visited, database->oid);
    MemoryContextSwitchTo(before);
  }
  table_endscan(scan);
  PopActiveSnapshot();
  table_close(relation, AccessShareLock);
  ListCell* cell;
  foreach (cell, names)
    if (strcmp(lfirst(cell), "*") != 0 && !is_among(found, lfirst(cell))) tell_missing(lfirst(cell));
  CommitTransactionCommand();
  return visited;
}
