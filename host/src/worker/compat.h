// What differs between PostgreSQL 15 to 18 for the worker: every #if on a version stands here. The language has its own
// (../compat.h), which knows V8 as well.
#pragma once

#include "postgres.h"

#include "catalog/pg_database.h"
#include "tcop/pquery.h"
#include "utils/acl.h"

static inline bool role_may_connect(Oid role, Oid database) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(DatabaseRelationId, database, role, ACL_CONNECT) == ACLCHECK_OK;
#else
  return pg_database_aclcheck(database, role, ACL_CONNECT) == ACLCHECK_OK;
#endif
}

static inline void run_whole_portal(Portal portal, DestReceiver* receiver) {
#if PG_VERSION_NUM >= 180000
  PortalRun(portal, FETCH_ALL, true, receiver, receiver, NULL);
#else
  PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, NULL);
#endif
}
