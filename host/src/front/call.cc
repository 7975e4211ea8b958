// Calls that the engine answers whole, so that no JavaScript runs in their backend. Who may call has been decided by PostgreSQL; the
// engine does what the function would do here, for who calls it, and says what remains for this backend: to tell its client
// something, to run a statement in its transaction. Whatever is out of the ordinary is left to the function: an error of any kind, a
// transaction that may see other than what is committed.
//
// Functions say themselves that they may be answered so, by the first line of their source: that is believed of the role
// hartonomous_v8.segment_role alone, whose functions ask the engine otherwise, too.
#include "../engine/engine.h"

extern "C" {
#include "access/detoast.h"
#include "access/parallel.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

namespace host::engine {
namespace {

// How the source of such a function begins; what it is called by and the id of its build follow.
constexpr char kMark[] = "/* hartonomous_v8 engine: ";
constexpr int kMostName = 64;  // as the format in is_answerable says
// A longer request is left to the function, which bounds characters.
constexpr int kMostBytes = 1'000'000;
// Texts that answers left for later calls, as many as the bundle remembers answers; and bytes of them that go with a request.
constexpr int kMostKept = 256;
constexpr int kMostKeptBytes = 256 * 1024;
// Fields of a message, the first of which says what it is.
constexpr int kMostFields = 4;

List* kept = NIL;  // of char*, in TopMemoryContext
int kept_bytes = 0;

struct Callee {
  char name[kMostName];
  char build[kMostName];
};

// Whether a session's statement runs. Autovacuum has none: it computes the index expressions of others, with the bootstrap superuser
// as its session's user. On whose behalf that would be, the function decides (hartonomous._caller).
bool somebody_calls() { return debug_query_string != nullptr; }

// Whether the arguments may fit into a request, before they are read: each byte takes one at least.
bool may_fit(FunctionCallInfo fcinfo) {
  Size bytes = 0;
  for (int i = 0; i < fcinfo->nargs; i++)
    if (!fcinfo->args[i].isnull) bytes += toast_raw_datum_size(fcinfo->args[i].value);
  return bytes <= kMostBytes;
}

// Whether what the engine sees is what this transaction sees: nothing of its own, and as of now.
bool sees_what_is_committed() {
  return !IsInParallelMode() && !IsolationUsesXactSnapshot() && !TransactionIdIsValid(GetTopTransactionIdIfAny());
}

// Whether this is a function that may be answered: arguments are texts, and the result is one or JSON.
bool is_answerable(HeapTuple tuple, Callee* callee) {
  Form_pg_proc row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
  if (!row->prosecdef || row->proretset || row->provolatile != PROVOLATILE_VOLATILE || row->prokind != PROKIND_FUNCTION) return false;
  if (row->prorettype != TEXTOID && row->prorettype != JSONOID) return false;
  for (int i = 0; i < row->pronargs; i++)
    if (row->proargtypes.values[i] != TEXTOID) return false;
  if (segment_role == nullptr || segment_role[0] == '\0') return false;
  const Oid owner = get_role_oid(segment_role, true);
  if (!OidIsValid(owner) || row->proowner != owner || GetUserId() != owner) return false;
  bool is_null = false;
  Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
  if (is_null) return false;
  const char* written = TextDatumGetCString(source);
  written += strspn(written, " \n");
  return strncmp(written, kMark, strlen(kMark)) == 0 && sscanf(written + strlen(kMark), "%63s %63s", callee->name, callee->build) == 2;
}

void append_text(StringInfo json, const char* name, const char* text) {
  appendStringInfo(json, ", \"%s\": ", name);
  if (text == nullptr) appendStringInfoString(json, "null");
  else escape_json(json, text);
}

// Whether what was kept may have to do with a call: with a conversation that has an answer in it.
bool quotes_answers(FunctionCallInfo fcinfo, const Callee& callee) {
  if (kept == NIL || strcmp(callee.name, "chat") != 0 || fcinfo->nargs == 0 || fcinfo->args[0].isnull) return false;
  const char* messages = TextDatumGetCString(fcinfo->args[0].value);
  return strstr(messages, "assistant") != nullptr || strstr(messages, "\\u") != nullptr;
}

// The request: a text in JSON (plv8/src/generate/engine/messages.ts, SessionCall).
void write_request(StringInfo json, FunctionCallInfo fcinfo, const Callee& callee, Oid role, bool quotes) {
  appendStringInfo(json, "{\"role\": %u, \"login\": %u, \"writes\": %s", role, GetSessionUserId(), XactReadOnly ? "false" : "true");
  append_text(json, "call", callee.name);
  append_text(json, "build", callee.build);
  append_text(json, "record", GetConfigOption("hartonomous.record", true, false));
  appendStringInfoString(json, ", \"args\": [");
  for (int i = 0; i < fcinfo->nargs; i++) {
    if (i > 0) appendStringInfoChar(json, ',');
    if (fcinfo->args[i].isnull) appendStringInfoString(json, "null");
    else escape_json(json, TextDatumGetCString(fcinfo->args[i].value));
  }
  appendStringInfoString(json, "], \"kept\": [");
  ListCell* cell;
  foreach (cell, quotes ? kept : NIL) {
    if (cell != list_head(kept)) appendStringInfoChar(json, ',');
    escape_json(json, static_cast<char*>(lfirst(cell)));
  }
  appendStringInfoString(json, "]}");
}

// A message: fields that a zero byte separates, as texts. Returns how many.
int split(const char* data, size_t bytes, char** fields) {
  char* copy = static_cast<char*>(palloc(bytes + 1));
  memcpy(copy, data, bytes);
  copy[bytes] = '\0';
  int count = 0;
  for (char* at = copy; count < kMostFields && at <= copy + bytes; at += strlen(at) + 1) fields[count++] = at;
  return count;
}

void forget(int place) {
  char* text = static_cast<char*>(list_nth(kept, place));
  kept_bytes -= static_cast<int>(strlen(text));
  kept = list_delete_nth_cell(kept, place);
  pfree(text);
}

void keep(const char* text) {
  for (int i = list_length(kept) - 1; i >= 0; i--)
    if (strcmp(static_cast<char*>(list_nth(kept, i)), text) == 0) forget(i);
  while (list_length(kept) >= kMostKept) forget(0);
  MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
  kept = lappend(kept, pstrdup(text));
  MemoryContextSwitchTo(before);
  kept_bytes += static_cast<int>(strlen(text));
}

// Run a statement with one parameter, a text; the first column of its first row, as a text in the current memory context.
char* run(const char* statement, const char* parameter) {
  MemoryContext caller = CurrentMemoryContext;
  Oid type = TEXTOID;
  if (SPI_connect() != SPI_OK_CONNECT) elog(ERROR, "could not connect to SPI");
  Datum value = CStringGetTextDatum(parameter);
  const int status = SPI_execute_with_args(statement, 1, &type, &value, nullptr, false, 1);
  if (status < 0 || SPI_processed != 1 || SPI_tuptable == nullptr) elog(ERROR, "unexpected result of a statement of the engine's: %d", status);
  char* text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
  char* out = MemoryContextStrdup(caller, text == nullptr ? "" : text);
  SPI_finish();
  return out;
}

enum class Heard { kMore, kAnswer, kNothing };

// What a message of the engine's has this backend do; an answer, where it is that, goes to `out`.
Heard hear(const char* data, size_t bytes, char** inserted, StringInfo out) {
  char* fields[kMostFields] = {};
  const int count = split(data, bytes, fields);
  const char* what = fields[0];
  if (strcmp(what, "notice") == 0 && count == 2) {
    ereport(NOTICE, (errmsg_internal("%s", fields[1])));
  } else if (strcmp(what, "log") == 0 && count == 2) {
    ereport(DEBUG1, (errmsg_internal("%s", fields[1])));
  } else if (strcmp(what, "keep") == 0 && count == 2) {
    keep(fields[1]);
  } else if (strcmp(what, "run") == 0 && count == 3) {
    *inserted = run(fields[1], fields[2]);
  } else if (strcmp(what, "answer") == 0 && count >= 2) {
    appendStringInfoString(out, fields[1]);
    if (count == 3) {
      appendStringInfoString(out, *inserted == nullptr ? "" : *inserted);
      appendStringInfoString(out, fields[2]);
    }
    return Heard::kAnswer;
  } else {
    return Heard::kNothing;
  }
  return Heard::kMore;
}

}  // namespace

List* kept_answers() { return kept; }

void forget_kept_answers() {
  list_free_deep(kept);
  kept = NIL;
  kept_bytes = 0;
}

bool answered_by_engine(FunctionCallInfo fcinfo, Datum* out) {
  int pid = 0;
  if (!engine_enabled || !extras_enabled || portable_wanted || core_is_loaded()) return false;
  if (fcinfo->context != nullptr || fcinfo->flinfo->fn_retset || GetDatabaseEncoding() != PG_UTF8) return false;
  if (!somebody_calls() || !sees_what_is_committed()) return false;
  HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
  if (!HeapTupleIsValid(tuple)) return false;
  Callee callee;
  const bool answerable = is_answerable(tuple, &callee);
  ReleaseSysCache(tuple);
  if (!answerable || role_context()[0] != '\0' || !may_fit(fcinfo)) return false;
  const bool quotes = quotes_answers(fcinfo, callee);
  if (quotes && kept_bytes > kMostKeptBytes) return false;
  if (!find_engine(&pid) && !start_engine(&pid)) return false;
  check_stack_depth();
  const Oid set_role = GetCurrentRoleId();
  const Oid role = OidIsValid(set_role) ? set_role : GetSessionUserId();
  StringInfoData request, answer;
  initStringInfo(&request);
  write_request(&request, fcinfo, callee, role, quotes);
  if (request.len > kMostBytes) return false;
  const int seconds = role_execution_timeout();
  const TimestampTz since = GetCurrentTimestamp();
  Asked asked = ask_engine(pid, role, 0, request.data, request.len);
  if (asked.segment == nullptr) return false;
  initStringInfo(&answer);
  char* inserted = nullptr;
  Heard heard = Heard::kMore;
  while (heard == Heard::kMore) {
    size_t bytes = 0;
    void* data = nullptr;
    if (seconds > 0 && TimestampDifferenceExceeds(since, GetCurrentTimestamp(), seconds * 1000)) {
      ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("execution timeout exceeded")));
    }
    const shm_mq_result result = receive(asked, pid, &bytes, &data);
    if (result == SHM_MQ_WOULD_BLOCK) continue;
    heard = result == SHM_MQ_SUCCESS ? hear(static_cast<char*>(data), bytes, &inserted, &answer) : Heard::kNothing;
  }
  dsm_detach(asked.segment);
  if (heard != Heard::kAnswer) return false;
  fcinfo->isnull = false;
  *out = PointerGetDatum(cstring_to_text_with_len(answer.data, answer.len));
  return true;
}

}  // namespace host::engine
