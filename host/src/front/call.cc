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
constexpr int kMostArguments = 8;
// A longer request is left to the function, which bounds characters.
constexpr int kMostBytes = 1'000'000;
// Texts that answers left for later calls, as many as the bundle remembers answers; and bytes of them that go with a request.
constexpr int kMostKept = 256;
constexpr int kMostKeptBytes = 256 * 1024;
// Fields of a message, the first of which says what it is.
constexpr int kMostFields = 8;
// Calls of stable functions in a transaction that the engine is asked for: a statement with more, as one that embeds each row, is
// better off with a session that remembers what it embedded.
constexpr int kMostStable = 4;

List* kept = NIL;  // of char*, in TopMemoryContext
int kept_bytes = 0;

struct Callee {
  char name[kMostName];
  char build[kMostName];
  Oid arguments[kMostArguments];
  Oid result;
  bool gives_rows;
  bool is_stable;
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

// After statements of the engine's: the transaction that they wrote in, and the number of its next command.
TransactionId written_by = InvalidTransactionId;
CommandId written_until = 0;

void note_written() {
  CommandCounterIncrement();
  written_by = GetTopTransactionIdIfAny();
  written_until = GetCurrentCommandId(false);
}

// Whether this transaction has written nothing, or nothing since statements of the engine's, and nothing before: a command that
// writes, the running one as well, has the next one get another number.
bool has_written_nothing() {
  const TransactionId own = GetTopTransactionIdIfAny();
  if (!TransactionIdIsValid(own)) return true;
  if (own != written_by) return false;
  CommandCounterIncrement();
  return GetCurrentCommandId(false) == written_until;
}

// Whether, in a transaction that has_written_nothing, no command has begun that may write yet: it would do so under the number that it
// began with, which no later number shows.
bool has_begun_nothing() {
  if (TransactionIdIsValid(GetTopTransactionIdIfAny())) return true;
  CommandCounterIncrement();
  return GetCurrentCommandId(false) == FirstCommandId;
}

// Whether what the engine sees is what the function would see here, which looks at tables as of now, be it stable or not: nothing of
// its own transaction but recorded runs.
bool sees_what_is_committed() { return !IsInParallelMode() && !IsolationUsesXactSnapshot() && has_written_nothing(); }

// Of this transaction's calls of stable functions, whether this is still one of the first.
bool is_early() {
  static TimestampTz since = 0;
  static int count = 0;
  if (since != GetCurrentTransactionStartTimestamp()) {
    since = GetCurrentTransactionStartTimestamp();
    count = 0;
  }
  return ++count <= kMostStable;
}

// Whether this is a function that may be answered.
bool is_answerable(HeapTuple tuple, Callee* callee) {
  Form_pg_proc row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
  if (!row->prosecdef || row->provolatile == PROVOLATILE_IMMUTABLE || row->prokind != PROKIND_FUNCTION) return false;
  if (row->proretset ? row->prorettype != RECORDOID : !is_received(row->prorettype)) return false;
  if (row->pronargs > kMostArguments) return false;
  for (int i = 0; i < row->pronargs; i++) {
    callee->arguments[i] = row->proargtypes.values[i];
    if (!is_sent(callee->arguments[i])) return false;
  }
  callee->result = row->prorettype;
  callee->gives_rows = row->proretset;
  callee->is_stable = row->provolatile == PROVOLATILE_STABLE;
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

// The request: a text in JSON (plv8/src/generate/engine/messages.ts, SessionCall); false where an argument cannot be sent.
bool write_request(StringInfo json, FunctionCallInfo fcinfo, const Callee& callee, Oid role, bool quotes) {
  appendStringInfo(json, "{\"role\": %u, \"login\": %u, \"writes\": %s", role, GetSessionUserId(), XactReadOnly ? "false" : "true");
  append_text(json, "call", callee.name);
  append_text(json, "build", callee.build);
  append_text(json, "record", GetConfigOption("hartonomous.record", true, false));
  appendStringInfoString(json, ", \"args\": [");
  for (int i = 0; i < fcinfo->nargs; i++) {
    if (i > 0) appendStringInfoChar(json, ',');
    if (!append_argument(json, callee.arguments[i], fcinfo->args[i])) return false;
  }
  appendStringInfoString(json, "], \"kept\": [");
  ListCell* cell;
  foreach (cell, quotes ? kept : NIL) {
    if (cell != list_head(kept)) appendStringInfoChar(json, ',');
    escape_json(json, static_cast<char*>(lfirst(cell)));
  }
  appendStringInfoString(json, "]}");
  return true;
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

// What a call comes to, as far as it was heard.
struct Answer {
  List* besides;  // messages that are acted on once the answer is there: a call that comes to nothing has done nothing
  Rows* rows;     // null where the call gives a value
  char* before;   // of a value: its text, and what follows what the last statement gave, null where that does not stand in it
  char* behind;
};

// A message, its first field what it is.
struct Message {
  int count;
  char* fields[kMostFields];

  bool is(const char* what, int most, int least) const { return strcmp(fields[0], what) == 0 && count >= least && count <= most; }
  bool is(const char* what, int fields_in_all) const { return is(what, fields_in_all, fields_in_all); }
};

enum class Heard { kMore, kAnswer, kNothing };

Heard hear(const char* data, size_t bytes, Answer* answer) {
  Message* message = static_cast<Message*>(palloc0(sizeof(Message)));
  message->count = split(data, bytes, message->fields);
  if (message->is("row", kMostFields, 1) && answer->rows != nullptr) {
    return answer->rows->add(message->fields + 1, message->count - 1) ? Heard::kMore : Heard::kNothing;
  }
  if (answer->rows == nullptr ? message->is("answer", 3, 2) : message->is("answer", 1)) {
    answer->before = message->fields[1];
    answer->behind = message->fields[2];
    return Heard::kAnswer;
  }
  if (!message->is("notice", 2) && !message->is("log", 2) && !message->is("keep", 2) && !message->is("run", 3)) return Heard::kNothing;
  answer->besides = lappend(answer->besides, message);
  return Heard::kMore;
}

// Do what a call has this backend do besides its result; what its last statement gave, null where there was none.
char* do_besides(const List* besides) {
  bool is_noted = false;
  char* last = nullptr;
  ListCell* cell;
  foreach (cell, besides) {
    const Message* message = static_cast<const Message*>(lfirst(cell));
    if (message->is("notice", 2)) ereport(NOTICE, (errmsg_internal("%s", message->fields[1])));
    else if (message->is("log", 2)) ereport(DEBUG1, (errmsg_internal("%s", message->fields[1])));
    else if (message->is("keep", 2)) keep(message->fields[1]);
    else {
      if (last == nullptr) is_noted = has_begun_nothing();
      last = run(message->fields[1], message->fields[2]);
    }
  }
  if (is_noted) note_written();
  return last;
}

Datum result_of(const Callee& callee, const Answer& answer) {
  const char* last = do_besides(answer.besides);
  if (answer.rows != nullptr) {
    answer.rows->give();
    return 0;
  }
  if (answer.behind == nullptr) return value_of(callee.result, answer.before);
  return value_of(callee.result, psprintf("%s%s%s", answer.before, last == nullptr ? "" : last, answer.behind));
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
  if (fcinfo->context != nullptr || GetDatabaseEncoding() != PG_UTF8) return false;
  if (!somebody_calls()) return false;
  HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
  if (!HeapTupleIsValid(tuple)) return false;
  Callee callee;
  const bool answerable = is_answerable(tuple, &callee);
  ReleaseSysCache(tuple);
  if (!answerable || (callee.gives_rows && !can_give_rows(fcinfo)) || !sees_what_is_committed()) return false;
  if (role_context()[0] != '\0' || !may_fit(fcinfo)) return false;
  if (callee.is_stable && !is_early()) return false;
  const bool quotes = quotes_answers(fcinfo, callee);
  if (quotes && kept_bytes > kMostKeptBytes) return false;
  if (!find_engine(&pid) && !start_engine(&pid)) return false;
  check_stack_depth();
  const Oid set_role = GetCurrentRoleId();
  const Oid role = OidIsValid(set_role) ? set_role : GetSessionUserId();
  StringInfoData request;
  initStringInfo(&request);
  if (!write_request(&request, fcinfo, callee, role, quotes) || request.len > kMostBytes) return false;
  const int seconds = role_execution_timeout();
  const TimestampTz since = GetCurrentTimestamp();
  Asked asked = ask_engine(pid, role, 0, request.data, request.len);
  if (asked.segment == nullptr) return false;
  Rows rows;
  Answer answer = {NIL, callee.gives_rows ? &rows : nullptr, nullptr, nullptr};
  if (callee.gives_rows) rows.begin(fcinfo);
  Heard heard = Heard::kMore;
  while (heard == Heard::kMore) {
    size_t bytes = 0;
    void* data = nullptr;
    if (seconds > 0 && TimestampDifferenceExceeds(since, GetCurrentTimestamp(), seconds * 1000)) {
      ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("execution timeout exceeded")));
    }
    const shm_mq_result result = receive(asked, pid, &bytes, &data);
    if (result == SHM_MQ_WOULD_BLOCK) continue;
    heard = result == SHM_MQ_SUCCESS ? hear(static_cast<char*>(data), bytes, &answer) : Heard::kNothing;
  }
  dsm_detach(asked.segment);
  if (heard != Heard::kAnswer) {
    if (callee.gives_rows) rows.forget();
    return false;
  }
  fcinfo->isnull = callee.gives_rows;
  *out = result_of(callee, answer);
  return true;
}

}  // namespace host::engine
