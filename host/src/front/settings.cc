// Settings (GUCs) of the language.
#include "../host.h"

#include "../compat.h"

extern "C" {
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
}

namespace host {

int memory_limit_mb = 256;
char* v8_flags = nullptr;
char* start_proc = nullptr;
char* boot_proc = nullptr;
char* context_name = nullptr;
int context_cache_size = 8;
int execution_timeout_s = 300;
int max_eval_size = 2 * 1024 * 1024;
bool interrupts_enabled = true;
bool extras_enabled = true;
bool portable_wanted = false;
char* segment_role = nullptr;
int segment_budget_mb = 16384;
int kernel_threads = 0;
bool engine_enabled = false;
int engine_idle_s = 60;
int engine_requests = 64;
bool javascript_runs = false;

namespace {
char* icu_data = nullptr;
bool portable_ = false;
bool latched = false;

bool check_context(char** value, void**, GucSource) {
  bool same = strcmp(*value, context_name == nullptr ? "" : context_name) == 0;
  if (!javascript_runs || (same && !portable())) return true;
  GUC_check_errdetail("cannot set context from inside a running transaction");
  return false;
}

constexpr const char* kSuperusersOwn[] = {"plv8.memory_limit",
                                         "plv8.v8_flags",
                                         "plv8.boot_proc",
                                         "plv8.context_cache_size",
                                         "plv8.max_eval_size",
                                         "hartonomous_v8.interrupts",
                                         "hartonomous_v8.segment_role",
                                         "hartonomous_v8.segment_budget",
                                         "hartonomous_v8.threads",
                                         "hartonomous_v8.engine",
                                         "hartonomous_v8.engine_idle",
                                         "hartonomous_v8.engine_requests",
                                         "hartonomous_v8.extras",
                                         "hartonomous_v8.portable"};

// A connection's options come before the database's settings, and before this library knows the names. PostgreSQL would
// then drop what the options say with a warning, and with it what the database says; so such a connection gets nothing.
void refuse_options_of_others() {
  for (const char* name : kSuperusersOwn) {
    const config_generic* found = setting_record(name);
    if (found == nullptr || (found->flags & GUC_CUSTOM_PLACEHOLDER) == 0) continue;
    if (found->source != PGC_S_CLIENT && found->reset_source != PGC_S_CLIENT) continue;
    if (pg_parameter_aclcheck(name, GetAuthenticatedUserId(), ACL_SET) == ACLCHECK_OK) continue;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to set parameter \"%s\"", name),
                    errdetail("It stands in this connection's options.")));
  }
}

}  // namespace

void latch_portable() {
  portable_ = portable_wanted;
  latched = true;
}

bool portable() { return latched ? portable_ : portable_wanted; }

void define_settings() {
  refuse_options_of_others();
  // A SECURITY DEFINER function loads the library at its first call, which may stand in a parallel plan. What a
  // placeholder holds becomes the variable's value then: no change, but PostgreSQL would refuse it as one.
  bool in_parallel = IsInParallelMode();
  if (in_parallel) ExitParallelMode();
  DefineCustomIntVariable("plv8.memory_limit", "Heap and ArrayBuffer limit of each isolate.",
                          "WebAssembly memory does not count. Read when an isolate is made.", &memory_limit_mb, 256, 256,
                          3096, PGC_SUSET, GUC_UNIT_MB, nullptr, nullptr, nullptr);
  DefineCustomStringVariable("plv8.v8_flags", "V8 engine flags, read once per backend before V8 starts.", nullptr,
                             &v8_flags, "", PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomStringVariable("plv8.start_proc", "Function to call once when an isolate is made.", nullptr, &start_proc,
                             "", PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomStringVariable("plv8.boot_proc", "Like plv8.start_proc, called before it, set by superusers only.",
                             nullptr, &boot_proc, "", PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomStringVariable("plv8.context", "Name of the global object that functions of this role see.", nullptr,
                             &context_name, "", PGC_USERSET, 0, check_context, nullptr, nullptr);
  DefineCustomIntVariable("plv8.context_cache_size", "Named contexts kept for each role.", nullptr,
                          &context_cache_size, 8, 1, 1000, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomStringVariable("plv8.icu_data", "Accepted for PL/V8's sake; this host uses the system's ICU.", nullptr,
                             &icu_data, "", PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("plv8.execution_timeout", "Longest run of a call from outside JavaScript; 0 lifts the limit.",
                          "PL/V8 has it where built with EXECUTION_TIMEOUT.", &execution_timeout_s, 0, 0, 65536,
                          PGC_USERSET, GUC_UNIT_S, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("plv8.max_eval_size", "Longest text that eval() takes; 0 forbids eval, -1 lifts the limit.",
                          nullptr, &max_eval_size, 2 * 1024 * 1024, -1, INT_MAX, PGC_SUSET, GUC_UNIT_BYTE, nullptr,
                          nullptr, nullptr);
  DefineCustomBoolVariable("hartonomous_v8.interrupts", "Interrupt running JavaScript and WebAssembly loops.",
                           "Off: only statements run through SPI notice a cancel, as with upstream PL/V8.",
                           &interrupts_enabled, true, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomStringVariable("hartonomous_v8.segment_role", "Role whose functions may use plv8.segments.", nullptr,
                             &segment_role, "", PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("hartonomous_v8.segment_budget", "Most that all segments of the cluster take on disk; 0: none are used.",
                          nullptr, &segment_budget_mb, 16384, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MB, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("hartonomous_v8.threads", "Threads that a call's kernels may use, as far as other calls leave cores.",
                          "0: half of the processors; -1: all of them.", &kernel_threads, 0, -1, 128, PGC_SUSET, 0, nullptr,
                          nullptr, nullptr);
  DefineCustomBoolVariable("hartonomous_v8.engine", "Have one process of each database compute for all its sessions.",
                           nullptr, &engine_enabled, false, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("hartonomous_v8.engine_idle", "Time without work after which an engine ends.", nullptr,
                          &engine_idle_s, 60, 1, 86400, PGC_SUSET, GUC_UNIT_S, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("hartonomous_v8.engine_requests", "Requests that an engine computes or has waiting, at most.",
                          "More are refused.", &engine_requests, 64, 1, 64, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomBoolVariable("hartonomous_v8.extras", "Offer what upstream PL/V8 does not have.", nullptr,
                           &extras_enabled, true, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomBoolVariable("hartonomous_v8.portable", "Do as PL/V8 3.2 does, and refuse what it does not survive.",
                           "For tests. Read once per backend before V8 starts; extras and interrupts are off then.",
                           &portable_wanted, false, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  if (in_parallel) EnterParallelMode();
}

}  // namespace host
