// Who has work in a database. A scout has a superuser's rights, so it runs no SQL: what users made (views, rules, policies,
// triggers, operators, expressions) cannot be reached by a scan of a table's rows, and it looks at fixed-size columns of two
// kinds of tables alone, hartonomous.searches and the queues that belong to their search's owner. It waits for no lock.
#include "worker.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PGDLLEXPORT void hartonomous_worker_scout(Datum board);

// A queue of more is not read: its owner's worker finds out whether anything in it is due.
#define MOST_BLOCKS 8192

// An ordinary table of this owner, or null; also where somebody holds a lock of it that excludes readers.
static Relation open_table(Oid table, Oid owner) {
  if (!ConditionalLockRelationOid(table, AccessShareLock)) return NULL;
  Relation relation = try_relation_open(table, NoLock);
  if (relation == NULL) {
    UnlockRelationOid(table, AccessShareLock);
    return NULL;
  }
  Form_pg_class form = relation->rd_rel;
  if (form->relkind == RELKIND_RELATION && form->relowner == owner && form->relpersistence == RELPERSISTENCE_PERMANENT &&
      form->relam == HEAP_TABLE_AM_OID)
    return relation;
  relation_close(relation, AccessShareLock);
  return NULL;
}

// The number of a column, if it has this type; else 0.
static AttrNumber column_of(Oid table, const char* name, Oid type) {
  AttrNumber number = get_attnum(table, name);
  return number > 0 && get_atttype(table, number) == type ? number : 0;
}

// Entries that are due, counted to `most` at the most.
static int due_entries(Oid queue, Oid owner, int most) {
  Relation relation = open_table(queue, owner);
  if (relation == NULL) return 0;
  AttrNumber due = column_of(queue, "due", TIMESTAMPTZOID);
  int count = 0;
  if (due == 0 || RelationGetNumberOfBlocks(relation) > MOST_BLOCKS) {
    count = due == 0 ? 0 : 1;
  } else {
    TimestampTz now = GetCurrentTimestamp();
    TupleTableSlot* slot = table_slot_create(relation, NULL);
    TableScanDesc scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
    while (count < most && table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
      CHECK_FOR_INTERRUPTS();
      bool is_null;
      Datum value = slot_getattr(slot, due, &is_null);
      if (!is_null && DatumGetTimestampTz(value) <= now) count++;
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
  }
  relation_close(relation, AccessShareLock);
  return count;
}

static bool is_full(int limit, int used) { return limit >= 0 && used >= limit; }

static int database_limit(void) {
  HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
  if (!HeapTupleIsValid(tuple)) return 0;
  int limit = ((Form_pg_database)GETSTRUCT(tuple))->datconnlimit;
  ReleaseSysCache(tuple);
  return limit;
}

// Whether this role might log in to this database now. A role that is gone has no name to tell, and no work.
static bool may_be_worked_for(Oid owner, Refusal* refusal) {
  HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
  if (!HeapTupleIsValid(tuple)) return false;
  Form_pg_authid role = (Form_pg_authid)GETSTRUCT(tuple);
  if (role->rolsuper)
    *refusal = REFUSED_SUPERUSER;
  else if (owner == extension_owner())
    *refusal = REFUSED_EXTENSION_OWNER;
  else if (!role->rolcanlogin)
    *refusal = REFUSED_LOGIN;
  else if (!role_may_connect(owner, MyDatabaseId))
    *refusal = REFUSED_CONNECT;
  else if (is_full(role->rolconnlimit, CountUserBackends(owner)))
    *refusal = REFUSED_ROLE_LIMIT;
  else if (is_full(database_limit(), CountDBConnections(MyDatabaseId)))
    *refusal = REFUSED_DATABASE_LIMIT;
  else
    *refusal = REFUSED_NOT;
  ReleaseSysCache(tuple);
  return true;
}

static void add_finding(Board* board, Oid owner, int due) {
  for (int i = 0; i < board->n_findings; i++) {
    if (board->findings[i].owner != owner) continue;
    board->findings[i].due += due;
    return;
  }
  Finding finding = {owner, due, REFUSED_NOT};
  if (board->n_findings == MOST_FINDINGS || !may_be_worked_for(owner, &finding.refusal)) return;
  board->findings[board->n_findings++] = finding;
}

static bool exists(TupleTableSlot* slot, AttrNumber column) {
  bool is_null;
  Datum relation = slot_getattr(slot, column, &is_null);
  return !is_null && SearchSysCacheExists1(RELOID, relation);
}

static void look(Board* board, int most_due) {
  Oid schema = extension_schema();
  Oid table = OidIsValid(schema) ? get_relname_relid("searches", schema) : InvalidOid;
  Relation relation = OidIsValid(table) ? open_table(table, extension_owner()) : NULL;
  if (relation == NULL) return;
  AttrNumber owner = column_of(table, "owner", REGROLEOID);
  AttrNumber parts[] = {column_of(table, "source", REGCLASSOID), column_of(table, "texts", REGCLASSOID),
                        column_of(table, "chunks", REGCLASSOID), column_of(table, "queue", REGCLASSOID)};
  AttrNumber queue = parts[3];
  AttrNumber paused_until = column_of(table, "paused_until", TIMESTAMPTZOID);
  bool is_known = owner != 0 && paused_until != 0;
  for (size_t i = 0; i < lengthof(parts); i++) is_known = is_known && parts[i] != 0;
  if (!is_known) ereport(ERROR, (errmsg("table hartonomous.searches is of another version than this library")));
  TupleTableSlot* slot = table_slot_create(relation, NULL);
  TableScanDesc scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
  while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
    CHECK_FOR_INTERRUPTS();
    bool is_whole = true;
    for (size_t i = 0; i < lengthof(parts); i++) is_whole = is_whole && exists(slot, parts[i]);
    bool owner_is_null;
    bool pause_is_null;
    Oid role = DatumGetObjectId(slot_getattr(slot, owner, &owner_is_null));
    Datum pause = slot_getattr(slot, paused_until, &pause_is_null);
    if (!is_whole || owner_is_null || pause_is_null || DatumGetTimestampTz(pause) > GetCurrentTimestamp()) continue;
    bool is_null;
    int due = due_entries(DatumGetObjectId(slot_getattr(slot, queue, &is_null)), role, most_due);
    if (due > 0) add_finding(board, role, due);
  }
  table_endscan(scan);
  ExecDropSingleTupleTableSlot(slot);
  relation_close(relation, AccessShareLock);
}

void hartonomous_worker_scout(Datum handle) {
  Errand errand = errand_of_process();
  pqsignal(SIGTERM, die);
  BackgroundWorkerUnblockSignals();
  Board* board = attach_board(DatumGetUInt32(handle));
  if (board == NULL) return;
  BackgroundWorkerInitializeConnectionByOid(errand.database, InvalidOid, 0);
  StartTransactionCommand();
  PushActiveSnapshot(GetTransactionSnapshot());
  look(board, errand.most_due);
  PopActiveSnapshot();
  CommitTransactionCommand();
  board->scouted = true;
}
