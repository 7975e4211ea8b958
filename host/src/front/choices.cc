// Settings that every user may make, as the role sees them whose isolate runs. Who calls a SECURITY DEFINER function
// decides nothing inside its owner's isolate: there a choice of the caller counts as not made.
#include "../host.h"

namespace host {
namespace {

// Sources up to this one are those of whoever runs the server: its files, its command line, ALTER ROLE ALL.
constexpr GucSource kServers = PGC_S_GLOBAL;

// The role that made the setting in force, or none where the server did. What ALTER DATABASE and ALTER ROLE have set
// counts as chosen by the session's user, to whom it applies.
Oid chooser(const config_generic* record) {
  if (record->source <= kServers) return InvalidOid;
  return record->source <= PGC_S_DATABASE_USER ? GetSessionUserId() : record->srole;
}

bool is_another_roles(const config_generic* record) {
  Oid role = chooser(record);
  return OidIsValid(role) && role != GetUserId();
}

// What holds where the choice in force does not: the server's setting, else the default.
template <typename Record>
auto server_value(const config_generic* record) {
  const Record* typed = reinterpret_cast<const Record*>(record);
  return record->reset_source <= kServers ? typed->reset_val : typed->boot_val;
}

}  // namespace

bool in_security_definer() {
  Oid role = InvalidOid;
  int context = 0;
  GetUserIdAndSecContext(&role, &context);
  return (context & SECURITY_LOCAL_USERID_CHANGE) != 0;
}

const char* role_start_proc() {
  if (start_proc == nullptr || start_proc[0] == '\0') return nullptr;
  static const config_generic* record = setting_record("plv8.start_proc");
  if (!is_another_roles(record)) return start_proc;
  guarded([&] {
    ereport(WARNING, (errmsg("plv8.start_proc \"%s\" is not called for role \"%s\"", start_proc, GetUserNameFromId(GetUserId(), false)),
                      errdetail("Role \"%s\" has chosen it.", GetUserNameFromId(chooser(record), true))));
  });
  return server_value<config_string>(record);
}

const char* role_context() {
  if (context_name == nullptr) return "";
  static const config_generic* record = setting_record("plv8.context");
  if (portable() || !in_security_definer() || !is_another_roles(record)) return context_name;
  const char* name = server_value<config_string>(record);
  return name == nullptr ? "" : name;
}

int role_execution_timeout() {
  static const config_generic* record = setting_record("plv8.execution_timeout");
  if (!in_security_definer() || !is_another_roles(record)) return execution_timeout_s;
  return server_value<config_int>(record);
}

}  // namespace host
