// Whether a database has our schema: one that belongs to hartonomous_owner, and not one of that name that somebody made.
#include "worker.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "utils/acl.h"
#include "utils/syscache.h"

Oid extension_owner(void) { return get_role_oid("hartonomous_owner", true); }

Oid extension_schema(void) {
  Oid owner = extension_owner();
  Oid schema = get_namespace_oid("hartonomous", true);
  if (!OidIsValid(owner) || !OidIsValid(schema)) return InvalidOid;
  HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
  if (!HeapTupleIsValid(tuple)) return InvalidOid;
  bool is_ours = ((Form_pg_namespace)GETSTRUCT(tuple))->nspowner == owner;
  ReleaseSysCache(tuple);
  return is_ours ? schema : InvalidOid;
}
