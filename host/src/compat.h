// What differs between PostgreSQL 15 to 18 and between V8 10.2 (Debian's libnode108), 11.3 (libnode115) and 13.6: every #if
// on a version of either stands in this file, and nowhere else in the host. Where a newer version renames or reshapes
// something, give it a name here that means the same on all of them, and call that. docs/systems.md says what was tested.
#pragma once

#include <v8.h>

extern "C" {
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
}

namespace host {

// ---- PostgreSQL -----------------------------------------------------------------------------------------------

inline bool role_may_execute(Oid role, Oid function) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
  return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

// Oid of the type that `name` names; raises PostgreSQL's error where there is none.
inline Oid type_named(const char* name) {
  Oid type;
  int32 typmod;
#if PG_VERSION_NUM >= 160000
  parseTypeString(name, &type, &typmod, nullptr);
#else
  parseTypeString(name, &type, &typmod, false);
#endif
  return type;
}

// What PostgreSQL knows of a setting; null where there is none of this name.
inline config_generic* setting_record(const char* name) {
#if PG_VERSION_NUM >= 160000
  return find_option(name, false, true, ERROR);
#else
  config_generic** all = get_guc_variables();
  for (int i = 0; i < GetNumConfigOptions(); i++) {
    if (strcmp(all[i]->name, name) == 0) return all[i];
  }
  return nullptr;
#endif
}

// Whether a statement that ended with this SPI status may have left rows.
inline bool gives_rows(int status) {
  switch (status) {
    case SPI_OK_SELECT:
    case SPI_OK_INSERT_RETURNING:
    case SPI_OK_DELETE_RETURNING:
    case SPI_OK_UPDATE_RETURNING:
#if PG_VERSION_NUM >= 170000
    case SPI_OK_MERGE_RETURNING:
#endif
    case SPI_OK_FETCH:
    case SPI_OK_CURSOR:
    case SPI_OK_UTILITY:
      return true;
    default:
      return false;
  }
}

// ---- V8 -------------------------------------------------------------------------------------------------------

#if V8_MAJOR_VERSION > 10 || (V8_MAJOR_VERSION == 10 && V8_MINOR_VERSION >= 4)
using OutOfMemoryDetails = const v8::OOMDetails&;
#else
using OutOfMemoryDetails = bool;
#endif

inline v8::ScriptOrigin script_origin(v8::Local<v8::Value> name) {
#if V8_MAJOR_VERSION >= 12
  return v8::ScriptOrigin(name);
#else
  return v8::ScriptOrigin(v8::Isolate::GetCurrent(), name);
#endif
}

}  // namespace host
