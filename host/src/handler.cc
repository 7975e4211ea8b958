// The call handler, the inline handler, the validator.
//
// Each has the same form: all of V8 and C++ inside `enter`, which returns a Failure instead of throwing; then, with no
// C++ scope left, `report`.
#include "host.h"

#include <optional>

extern "C" {
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
#include "windowapi.h"
}

namespace host {

Call* running_call = nullptr;

namespace {

// Call the function that plv8.boot_proc or plv8.start_proc names; one that cannot be found is a warning.
void call_start_function(Instance* instance, v8::Local<v8::Context> context, const char* setting) {
  if (setting == nullptr || setting[0] == '\0') return;
  Oid oid = InvalidOid;
  try {
    guarded([&] {
      // The search path may be the caller's.
      if (in_security_definer() && strchr(setting, '.') == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("%s without its schema", setting)));
      }
      Datum name = CStringGetDatum(setting);
      oid = DatumGetObjectId(strchr(setting, '(') ? DirectFunctionCall1(regprocedurein, name)
                                                  : DirectFunctionCall1(regprocin, name));
    });
  } catch (const PgError& error) {
    guarded([&] { ereport(WARNING, (errmsg_internal("failed to find js function %s", error.edata->message))); });
    return;
  }
  if (!may_execute(oid, setting)) return;
  v8::Local<v8::Value> ignored;
  if (!compiled_function(instance, oid)->Call(context, context->Global(), 0, nullptr).ToLocal(&ignored)) {
    throw JsPending{};
  }
}

// Run `body` inside the current role's isolate; what went wrong, or nothing.
template <typename F>
std::optional<Failure> enter(Call* call, const char* function, F&& body) {
  struct CallScope {
    explicit CallScope(Call* c) {
      c->outer = running_call;
      running_call = c;
    }
    ~CallScope() { running_call = running_call->outer; }
  } call_scope(call);
  Instance* instance = instance_of_current_role();
  v8::Isolate* isolate = instance->isolate;
  Running running(instance);
  v8::Isolate::Scope isolate_scope(isolate);
  v8::HandleScope handles(isolate);
  v8::Local<v8::Context> context = instance->context.Get(isolate);
  v8::Context::Scope context_scope(context);
  v8::TryCatch caught(isolate);
  try {
    if (!instance->started) {
      instance->started = true;
      call_start_function(instance, context, boot_proc);
      call_start_function(instance, context, role_start_proc());
    }
    body(instance, context);
    if (instance->shared->interrupt != nullptr || instance->shared->out_of_memory) return failure_of(caught, function);
    if (call->outer == nullptr) {
      run_v8_tasks(instance);
      warn_of_rejections(instance->shared);
      if (call->fcinfo != nullptr && !instance->new_code.empty()) share_new_code(instance);
    }
    return std::nullopt;
  } catch (const PgError& error) {
    return failure_of(error);
  } catch (const JsPending&) {
    try {
      return failure_of(caught, function);
    } catch (const PgError& error) {
      return failure_of(error);
    } catch (const JsPending&) {
      Failure failure;
      failure.message = pstrdup("exception could not be shown as text");
      return failure;
    }
  }
}

// Types of one call site, worked out once and kept in fn_extra.
struct CallSite {
  int n_arguments;
  Oid argument_types[FUNC_MAX_ARGS];
  Oid result_type;
  TypeFuncClass result_class;
  TupleDesc result_desc;
  bool read_only;
  char name[NAMEDATALEN];
};

CallSite* call_site(FunctionCallInfo fcinfo) {
  CallSite* site = static_cast<CallSite*>(fcinfo->flinfo->fn_extra);
  if (site != nullptr) return site;
  MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
  site = static_cast<CallSite*>(palloc0(sizeof(CallSite)));
  HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
  if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", fcinfo->flinfo->fn_oid);
  Form_pg_proc row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
  strlcpy(site->name, NameStr(row->proname), NAMEDATALEN);
  if (row->prorettype == TRIGGEROID) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("trigger functions can only be called as triggers")));
  }
  site->n_arguments = row->pronargs;
  site->read_only = row->provolatile != PROVOLATILE_VOLATILE;
  for (int i = 0; i < row->pronargs; i++) {
    Oid type = row->proargtypes.values[i];
    if (IsPolymorphicType(type) || type == RECORDOID) {
      Oid actual = get_fn_expr_argtype(fcinfo->flinfo, i);
      if (OidIsValid(actual)) type = actual;
    }
    site->argument_types[i] = type;
  }
  ReleaseSysCache(tuple);
  TupleDesc desc = nullptr;
  site->result_class = get_call_result_type(fcinfo, &site->result_type, &desc);
  if (desc != nullptr) site->result_desc = CreateTupleDescCopyConstr(desc);
  if (site->result_desc != nullptr && site->result_desc->tdtypeid == RECORDOID) BlessTupleDesc(site->result_desc);
  fcinfo->flinfo->fn_extra = site;
  MemoryContextSwitchTo(old);
  return site;
}

Datum call_function(Instance* instance, v8::Local<v8::Context> context, FunctionCallInfo fcinfo, CallSite* site,
                    RowSink* sink) {
  v8::Isolate* isolate = instance->isolate;
  v8::Local<v8::Function> function = compiled_function(instance, fcinfo->flinfo->fn_oid);
  std::vector<v8::Local<v8::Value>> arguments;
  arguments.reserve(site->n_arguments);
  bool window = WindowObjectIsValid(fcinfo->context);
  for (int i = 0; i < site->n_arguments; i++) {
    if (window) {
      WindowObject object = reinterpret_cast<WindowObject>(fcinfo->context);
      bool is_null = false;
      Datum value = 0;
      guarded([&] { value = WinGetFuncArgCurrent(object, i, &is_null); });
      arguments.push_back(to_js(value, is_null, site->argument_types[i]));
    } else {
      arguments.push_back(to_js(fcinfo->args[i].value, fcinfo->args[i].isnull, site->argument_types[i]));
    }
  }
  v8::Local<v8::Value> result;
  if (!function->Call(context, context->Global(), static_cast<int>(arguments.size()), arguments.data())
           .ToLocal(&result)) {
    throw JsPending{};
  }
  if (sink != nullptr) {
    if (result->IsArray()) {
      v8::Local<v8::Array> rows = result.As<v8::Array>();
      for (uint32_t i = 0; i < rows->Length(); i++) {
        v8::HandleScope handles(isolate);
        v8::Local<v8::Value> row;
        if (!rows->Get(context, i).ToLocal(&row)) throw JsPending{};
        put_row(sink, row);
      }
    } else if (!result->IsNullOrUndefined()) {
      put_row(sink, result);
    }
    fcinfo->isnull = true;
    return 0;
  }
  if (site->result_desc != nullptr && (site->result_class == TYPEFUNC_COMPOSITE)) {
    if (result->IsNullOrUndefined()) {
      fcinfo->isnull = true;
      return 0;
    }
    HeapTuple tuple = row_to_tuple(result, site->result_desc);
    Datum out = 0;
    guarded([&] { out = heap_copy_tuple_as_datum(tuple, site->result_desc); });
    return out;
  }
  bool is_null = false;
  Datum out = to_datum(result, site->result_type, -1, &is_null);
  fcinfo->isnull = is_null && site->result_type != VOIDOID;
  return out;
}

bool is_atomic(FunctionCallInfo fcinfo) {
  return !(fcinfo->context != nullptr && IsA(fcinfo->context, CallContext) &&
           !reinterpret_cast<CallContext*>(fcinfo->context)->atomic);
}

void connect(bool atomic) {
  if (SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC) != SPI_OK_CONNECT) elog(ERROR, "could not connect to SPI");
}

// Prepare the tuplestore of a set-returning call.
void open_sink(FunctionCallInfo fcinfo, CallSite* site, RowSink* sink) {
  ReturnSetInfo* info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  if (info == nullptr || !IsA(info, ReturnSetInfo) || !(info->allowedModes & SFRM_Materialize)) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("set-valued function called in context that cannot accept a set")));
  }
  MemoryContext old = MemoryContextSwitchTo(info->econtext->ecxt_per_query_memory);
  sink->composite = site->result_desc != nullptr;
  if (sink->composite) {
    sink->desc = CreateTupleDescCopy(site->result_desc);
  } else if (site->result_class == TYPEFUNC_RECORD) {
    if (info->expectedDesc == nullptr) {
      ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                      errmsg("function returning record called in context that cannot accept type record")));
    }
    sink->composite = true;
    sink->desc = CreateTupleDescCopy(info->expectedDesc);
  } else {
    sink->desc = CreateTemplateTupleDesc(1);
    TupleDescInitEntry(sink->desc, 1, "value", site->result_type, -1, 0);
    sink->type = site->result_type;
  }
  sink->store = tuplestore_begin_heap((info->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
  info->returnMode = SFRM_Materialize;
  info->setResult = sink->store;
  info->setDesc = sink->desc;
  MemoryContextSwitchTo(old);
}

}  // namespace

void put_row(RowSink* sink, v8::Local<v8::Value> value) {
  MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "plv8 row", ALLOCSET_SMALL_SIZES);
  MemoryContext old = MemoryContextSwitchTo(scratch);
  try {
    if (sink->composite) {
      HeapTuple tuple = row_to_tuple(value, sink->desc);
      guarded([&] { tuplestore_puttuple(sink->store, tuple); });
    } else {
      bool is_null = false;
      Datum datum = to_datum(value, sink->type, -1, &is_null);
      guarded([&] { tuplestore_putvalues(sink->store, sink->desc, &datum, &is_null); });
    }
  } catch (const PgError& error) {
    MemoryContextSwitchTo(old);
    ErrorData* kept = copy_error(error.edata);
    MemoryContextDelete(scratch);
    throw PgError{kept};
  } catch (...) {
    MemoryContextSwitchTo(old);
    MemoryContextDelete(scratch);
    throw;
  }
  MemoryContextSwitchTo(old);
  MemoryContextDelete(scratch);
}

namespace {

// The call itself; the Failure, if any, is copied out so that no C++ scope is left when it is reported.
bool run_call(FunctionCallInfo fcinfo, const char* function, CallSite* site, RowSink* sink, bool trigger,
              MemoryContext result_context, Datum* out, Failure* failed) {
  Call call;
  call.fcinfo = fcinfo;
  call.sink = sink;
  call.atomic = is_atomic(fcinfo);
  call.read_only = site != nullptr && site->read_only;
  std::optional<Failure> failure = enter(&call, function, [&](Instance* instance, v8::Local<v8::Context> context) {
    // Results must outlive SPI_finish.
    MemoryContext old = MemoryContextSwitchTo(result_context);
    *out = trigger ? call_trigger(instance, fcinfo) : call_function(instance, context, fcinfo, site, sink);
    MemoryContextSwitchTo(old);
  });
  if (!failure) return true;
  *failed = *failure;
  return false;
}

bool has_forbidden_type(Oid oid) {
  HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
  if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", oid);
  Form_pg_proc row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
  Oid result = row->prorettype;
  bool forbidden = get_typtype(result) == TYPTYPE_PSEUDO && result != TRIGGEROID && result != RECORDOID &&
                   result != VOIDOID && result != INTERNALOID && !IsPolymorphicType(result);
  ReleaseSysCache(tuple);
  if (forbidden) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("PL/v8 functions cannot return type %s", format_type_be(result))));
  }
  return false;
}

bool run_inline(const char* source, bool atomic, Failure* failed) {
  Call call;
  call.atomic = atomic;
  std::optional<Failure> failure = enter(&call, nullptr, [&](Instance* instance, v8::Local<v8::Context> context) {
    v8::Local<v8::Value> ignored;
    v8::Local<v8::Function> function = compile(instance, "undefined", {}, source);
    if (!function->Call(context, context->Global(), 0, nullptr).ToLocal(&ignored)) throw JsPending{};
  });
  if (!failure) return true;
  *failed = *failure;
  return false;
}

bool run_validate(Oid oid, Failure* failed) {
  Call call;
  std::optional<Failure> failure = enter(&call, nullptr, [&](Instance* instance, v8::Local<v8::Context>) {
    compiled_function(instance, oid);
  });
  if (!failure) return true;
  *failed = *failure;
  return false;
}

}  // namespace

Datum call_handler(PG_FUNCTION_ARGS) {
  MemoryContext result_context = CurrentMemoryContext;
  bool trigger = CALLED_AS_TRIGGER(fcinfo);
  CallSite* site = trigger ? nullptr : call_site(fcinfo);
  const char* function = trigger ? get_func_name(fcinfo->flinfo->fn_oid) : site->name;
  RowSink sink;
  bool set = !trigger && fcinfo->flinfo->fn_retset;
  check_stack_depth();
  connect(is_atomic(fcinfo));
  if (trigger) SPI_register_trigger_data(reinterpret_cast<TriggerData*>(fcinfo->context));
  if (set) open_sink(fcinfo, site, &sink);
  Datum out = 0;
  Failure failure;
  if (!run_call(fcinfo, function, site, set ? &sink : nullptr, trigger, result_context, &out, &failure)) report(failure);
  SPI_finish();
  return out;
}

Datum inline_handler(PG_FUNCTION_ARGS) {
  InlineCodeBlock* block = reinterpret_cast<InlineCodeBlock*>(DatumGetPointer(PG_GETARG_DATUM(0)));
  Failure failure;
  connect(block->atomic);
  if (!run_inline(block->source_text, block->atomic, &failure)) report(failure);
  SPI_finish();
  PG_RETURN_VOID();
}

Datum validator(PG_FUNCTION_ARGS) {
  Oid oid = PG_GETARG_OID(0);
  if (!CheckFunctionValidatorAccess(fcinfo->flinfo->fn_oid, oid) || !check_function_bodies) PG_RETURN_VOID();
  has_forbidden_type(oid);
  Failure failure;
  if (!run_validate(oid, &failure)) {
    if (failure.sqlstate == ERRCODE_INTERNAL_ERROR) failure.sqlstate = ERRCODE_SYNTAX_ERROR;
    report(failure);
  }
  PG_RETURN_VOID();
}

}  // namespace host
