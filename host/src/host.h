// Shared declarations of the extension hartonomous_v8: LANGUAGE plv8 on V8. Each file says at its top what it is;
// every difference between versions of PostgreSQL and of V8 stands in compat.h.
#pragma once

#include "compat.h"

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

extern "C" {
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"
}

namespace host {

struct RoleIsolate;

// ---- errors.cc ------------------------------------------------------------------------------------------------

// A PostgreSQL error that was caught by `guarded`; travels through our own C++ frames only.
struct PgError {
  ErrorData* edata;
};

// A JavaScript exception is pending in the isolate; travels through our own C++ frames only.
struct JsPending {};

// Run PostgreSQL code that may raise an error, and turn the error into a C++ exception. `body` must create no C++
// object with a destructor: PostgreSQL's longjmp would skip it.
template <typename F>
__attribute__((noinline)) void guarded(F&& body) {
  ErrorData* volatile edata = nullptr;
  MemoryContext caller = CurrentMemoryContext;
  PG_TRY();
  {
    // The callbacks outside add their lines when the error is reported again; here they would make them appear twice.
    error_context_stack = nullptr;
    body();
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(TopTransactionContext ? TopTransactionContext : caller);
    edata = CopyErrorData();
    FlushErrorState();
    MemoryContextSwitchTo(caller);
  }
  PG_END_TRY();
  if (edata != nullptr) throw PgError{edata};
}

// What a failed JavaScript call leaves behind, in palloc'd memory, ready for ereport once every C++ frame is gone.
struct Failure {
  int sqlstate = ERRCODE_INTERNAL_ERROR;
  char* message = nullptr;
  char* detail = nullptr;
  char* hint = nullptr;
  char* context = nullptr;
  char* schema_name = nullptr;
  char* table_name = nullptr;
  char* column_name = nullptr;
  char* constraint_name = nullptr;
  char* datatype_name = nullptr;
};

[[noreturn]] void throw_js(const std::string& message);           // throws JsPending
ErrorData* copy_error(ErrorData* edata);                          // a copy in the current memory context
v8::Local<v8::Value> js_error_of(ErrorData* edata);               // the JavaScript form of a PostgreSQL error
// What to report for an exception that the call of `function` (null: none with a name) ended with.
Failure failure_of(v8::TryCatch& caught, const char* function);
Failure failure_of(v8::Local<v8::Value> exception, v8::Local<v8::Message> message, const char* function);
Failure failure_of(const PgError& error);
void warn_of_rejections(RoleIsolate* shared);                     // and forget them
[[noreturn]] void report(const Failure& failure);                 // ereport(ERROR); no C++ frame may be left above

// ---- isolate.cc -----------------------------------------------------------------------------------------------

struct Compiled {
  TransactionId xmin = 0;
  ItemPointerData tid{};
  v8::Global<v8::Function> function;
};

class CountingAllocator;

// A function whose code this backend made, and others may use.
struct NewCode {
  Oid function = InvalidOid;
  std::string name, source;
  int calls = 0;  // from outside JavaScript, since
};

// A promise that was rejected, and how.
struct Rejection {
  v8::Global<v8::Promise> promise;
  v8::Global<v8::Value> exception;
  v8::Global<v8::Message> message;
};

// One V8 isolate: one per role and backend, alive until the backend ends or plv8_reset().
struct RoleIsolate {
  Oid role = InvalidOid;
  v8::Isolate* isolate = nullptr;
  CountingAllocator* allocator = nullptr;
  v8::Global<v8::ObjectTemplate> handle_template;  // one internal field: plans and cursors
  v8::Global<v8::Context> own_context;             // where no user's code runs
  v8::Global<v8::Function> endless;                // of own_context: what `end_javascript` runs
  size_t heap_limit = 0;                           // what V8 may use before the limit counts as reached
  bool limit_raised = false;                       // more was granted, to let JavaScript be unwound
  bool out_of_memory = false;                      // the heap limit was reached during the running call
  ErrorData* interrupt = nullptr;                  // what ended JavaScript by termination, in TopMemoryContext
  std::vector<Rejection> rejections;               // of promises that nobody handles, during the running call
};

// A global object of a role: one for each value of plv8.context.
struct Instance {
  RoleIsolate* shared = nullptr;
  v8::Isolate* isolate = nullptr;  // of `shared`
  v8::Global<v8::Context> context;
  std::unordered_map<Oid, Compiled> functions;
  std::vector<NewCode> new_code;
  uint64 last_use = 0;
  bool started = false;  // plv8.start_proc has run
};

Instance* instance_of_current_role();
Instance* current_instance();           // the one whose JavaScript is running
void reset_instance(Oid role);          // drop a role's isolate, where it is not running
std::vector<std::pair<Oid, RoleIsolate*>> all_isolates();
size_t array_buffer_bytes(RoleIsolate* shared);

// Makes an instance the running one for a scope and tells the interrupt watcher.
class Running {
 public:
  explicit Running(Instance* instance);
  ~Running();

 private:
  Instance* previous_;
};

// End every JavaScript frame of the instance by termination, which no catch or finally sees.
void end_javascript(Instance* instance);
// Run what V8 has put off: finishing a garbage collection, freeing what was collected.
void run_v8_tasks(Instance* instance);

// ---- compile.cc -----------------------------------------------------------------------------------------------

// The function of pg_proc's row `oid`, compiled in this instance; recompiled when the row has changed.
v8::Local<v8::Function> compiled_function(Instance* instance, Oid oid);
// `code`: what V8 made of it before, which is taken over by this; where V8 will not have it, `refused` becomes true.
v8::Local<v8::Function> compile(Instance* instance, const std::string& name, const std::vector<std::string>& arguments,
                                const char* source, v8::ScriptCompiler::CachedData* code = nullptr, bool* refused = nullptr);

// ---- code-cache.cc --------------------------------------------------------------------------------------------

bool code_is_shared(Oid owner, const char* source);  // of a function without arguments
std::string shared_code(const std::string& name, const char* source);  // what `cached_data` is made of; empty: none
v8::ScriptCompiler::CachedData* cached_data(const std::string& bytes);  // for as long as these bytes are there; null for none
void share_new_code(Instance* instance);  // at the end of a call from outside JavaScript

// ---- builtins.cc ---------------------------------------------------------------------------------------------

extern const char* kBuiltins;  // the extension's name
void register_builtins();

// ---- convert.cc -----------------------------------------------------------------------------------------------

v8::Local<v8::Value> to_js(Datum value, bool is_null, Oid type);
v8::Local<v8::Value> row_to_js(HeapTuple tuple, TupleDesc desc);
Datum to_datum(v8::Local<v8::Value> value, Oid type, int32 typmod, bool* is_null);
HeapTuple row_to_tuple(v8::Local<v8::Value> value, TupleDesc desc);

// ---- arrays.cc ------------------------------------------------------------------------------------------------

struct TypedDomain;
const TypedDomain* typed_domain(Oid domain, Oid element);  // null for any other domain
v8::Local<v8::Value> typed_array_to_js(Datum value, const TypedDomain& domain);
v8::Local<v8::Value> array_to_js(Datum value);
Datum array_to_datum(v8::Local<v8::Value> value, Oid element);

// ---- text.cc --------------------------------------------------------------------------------------------------

v8::Local<v8::String> js_string(const char* text);
v8::Local<v8::String> js_string(const std::string& text);
std::string std_string(v8::Local<v8::Value> value);
char* pg_string(v8::Local<v8::Value> value);  // palloc'd, in the database's encoding; may run toString()
bool js_property(v8::Local<v8::Object> object, const char* name, v8::Local<v8::Value>* out);

// ---- handle.cc ------------------------------------------------------------------------------------------------

// What a JavaScript handle object carries; `kind` keeps a method of one kind from being applied to another.
struct Handle {
  enum Kind { kPlan, kCursor, kSegment, kKernelMemory };
  explicit Handle(Kind k) : kind(k) {}
  virtual ~Handle() = default;
  const Kind kind;
  v8::Global<v8::Object> object;
};

v8::Local<v8::Object> handle_for(Handle* data);  // an object that carries `data` and deletes it when it is collected
Handle* handle_in(v8::Local<v8::Object> object, Handle::Kind kind, const char* missing);

// The handle that a method was called on.
template <typename T>
T* handle_of(const v8::FunctionCallbackInfo<v8::Value>& info, const char* missing) {
  return static_cast<T*>(handle_in(info.This(), T::kKind, missing));
}

// ---- segments.cc, segment-mapping.cc ----------------------------------------------------------------------------------------------

void install_segments(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8);
bool is_mapped(const void* address);  // within a segment that was mapped; may be called by a signal handler
bool overlaps_mapped(const void* from, size_t bytes);

// ---- kernels/calls.cc -----------------------------------------------------------------------------------------

void install_kernels(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8);
void end_kernels_of_call();  // the call from outside JavaScript is over: others may have its cores

// ---- engine/ --------------------------------------------------------------------------------------------------

void install_engine(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8);

// ---- counters.cc, transaction-end.cc, wasm-limit.cc -----------------------------------------------------------

void install_counters(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8);
uint64 count_for(Oid role, uint32 what, int64 amount);  // what there is of it within the hour past
int sweep_counters();       // remove those of databases that are gone; how many
void watch_transactions();  // from now on do what is to be done at their end
void install_rollback_note(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8);
// The platform, with a bound on the WebAssembly memory of isolates that are not the segment role's.
v8::Platform* limited_platform(v8::Platform* platform);

// ---- object.cc, spi.cc, trigger.cc ----------------------------------------------------------------------------

void install_plv8_object(v8::Local<v8::Context> context, v8::Local<v8::Object> global);
void install_spi(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8);
void install_pages(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8);
bool may_execute(Oid function, const char* signature);  // warns where the current role may not
// Whether the running function belongs to the role that hartonomous_v8.segment_role names and runs as it.
bool is_owners_function();
void require_owner(const char* what);  // an error of PostgreSQL's that names `what` where it does not
void set_member(v8::Local<v8::Context> context, v8::Local<v8::Object> object, const char* name, v8::FunctionCallback f,
                v8::PropertyAttribute attributes = v8::None);
// Functions may add members to the plv8 object, not replace or remove its own.
constexpr v8::PropertyAttribute kPlv8Member =
    static_cast<v8::PropertyAttribute>(v8::ReadOnly | v8::DontEnum | v8::DontDelete);
Datum call_trigger(Instance* instance, FunctionCallInfo fcinfo);

// Where plv8.return_next of the running function puts its rows; null outside a set-returning function.
struct RowSink {
  Tuplestorestate* store = nullptr;
  TupleDesc desc = nullptr;
  bool composite = false;
  Oid type = InvalidOid;  // of a scalar result
};
void put_row(RowSink* sink, v8::Local<v8::Value> value);

// The call that is running, for the members of plv8 that belong to it.
struct Call {
  FunctionCallInfo fcinfo = nullptr;
  RowSink* sink = nullptr;
  bool atomic = true;
  bool read_only = false;  // the function is stable or immutable
  Call* outer = nullptr;
};
extern Call* running_call;

// Hand a PostgreSQL error to JavaScript and free it. A cancel, and in a parallel worker (which has no subtransactions
// to undo with) any error, is not for JavaScript to catch: it ends every frame and the handler throws it on.
void throw_in_javascript(v8::Isolate* isolate, ErrorData* edata);

// Run a callback's body: C++ exceptions of ours become JavaScript exceptions before V8's frames are reached again.
template <typename F>
void callback_body(const v8::FunctionCallbackInfo<v8::Value>& info, F&& body) {
  v8::Isolate* isolate = info.GetIsolate();
  try {
    body();
  } catch (const PgError& error) {
    throw_in_javascript(isolate, error.edata);
  } catch (const JsPending&) {
  }
}

// ---- portable.cc ----------------------------------------------------------------------------------------------

[[noreturn]] void refuse(const char* rule);  // throws PgError
void refuse_stored(HeapTuple tuple, TupleDesc desc);
void refuse_other_properties(v8::Local<v8::Object> object, TupleDesc desc);

// ---- interrupts.cc --------------------------------------------------------------------------------------------

void watch_begin(v8::Isolate* isolate, bool outermost);
void watch_end(v8::Isolate* isolate_outside);  // the isolate that runs again, or null
// After a termination that the watcher asked for: process the interrupt that was not served, and keep its error.
void serve_late_interrupt(Instance* instance);
void keep_interrupt(Instance* instance, ErrorData* edata);  // a copy, for the handler to throw on
void process_interrupts();  // throws PgError for a cancel, a termination or plv8.execution_timeout

// ---- front/settings.cc -----------------------------------------------------------------------------------------

extern int memory_limit_mb;
extern char* v8_flags;
extern char* start_proc;
extern char* boot_proc;
extern char* context_name;
extern int context_cache_size;
extern int execution_timeout_s;
extern int max_eval_size;
extern bool interrupts_enabled;
extern bool extras_enabled;
extern bool portable_wanted;
extern char* segment_role;
extern int segment_budget_mb;
extern int kernel_threads;
extern bool engine_enabled;
extern int engine_idle_s;
extern int engine_requests;
extern bool javascript_runs;  // in this process, now
void define_settings();
void latch_portable();  // when V8 starts
bool portable();

// ---- front/choices.cc -------------------------------------------------------------------------------------------

// plv8.start_proc, plv8.context and plv8.execution_timeout as the current role's isolate sees them: what another role has
// chosen is not called, and inside a SECURITY DEFINER function does not hold.
const char* role_start_proc();  // null or empty: none; warns of one that is refused
const char* role_context();
int role_execution_timeout();
bool in_security_definer();

// ---- front/handlers.cc ------------------------------------------------------------------------------------------

// What PostgreSQL calls of this library. Another one has it, the core: it needs V8, and is loaded when it is first called. In
// between stands the front, which every session loads that calls a function of the language.
struct Core {
  const char* build;  // of its sources
  PGFunction call_handler, inline_handler, validator, version, reset, info, inner_product;
  void (*engine)(Datum);
};
bool core_is_loaded();

// ---- handler.cc, info.cc, inner-product.cc, engine/process.cc: the core's -------------------------------------------

Datum call_handler(PG_FUNCTION_ARGS);
Datum inline_handler(PG_FUNCTION_ARGS);
Datum validator(PG_FUNCTION_ARGS);
Datum version(PG_FUNCTION_ARGS);
Datum reset(PG_FUNCTION_ARGS);
Datum info(PG_FUNCTION_ARGS);
Datum inner_product(PG_FUNCTION_ARGS);

}  // namespace host
