// The global object `plv8` and the constants beside it.
#include "host.h"

#include <algorithm>

extern "C" {
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "commands/proclang.h"
#include "utils/acl.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "windowapi.h"
}

namespace host {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

void elog_callback(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 2) throw_js("usage: plv8.elog(elevel, ...)");
    int level = info[0]->Int32Value(info.GetIsolate()->GetCurrentContext()).FromMaybe(0);
    if (level < DEBUG5 || level > ERROR) throw_js("invalid error level");
    std::string text;
    for (int i = 1; i < info.Length(); i++) text += (i > 1 ? " " : "") + std_string(info[i]);
    if (level == ERROR) throw_js(text);
    char* message = pg_string(js_string(text));
    try {
      guarded([&] { ereport(level, (errmsg_internal("%s", message))); });
    } catch (const PgError& error) {
      if (!portable()) throw;
      refuse((std::string("an error while a message is sent, as a cancel is, ends the server there: ") + error.edata->message).c_str());
    }
  });
}

template <char* (*Quote)(const char*)>
void quote_callback(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 1) throw_js("quoting needs one argument");
    char* text = pg_string(info[0]);
    char* quoted = nullptr;
    guarded([&] { quoted = Quote(text); });
    info.GetReturnValue().Set(js_string(quoted));
  });
}

char* quote_ident_copy(const char* text) { return pstrdup(quote_identifier(text)); }
char* quote_literal_copy(const char* text) { return quote_literal_cstr(text); }

void quote_nullable_callback(Info info) {
  if (info.Length() < 1 || info[0]->IsNullOrUndefined()) {
    info.GetReturnValue().Set(v8::String::NewFromUtf8Literal(info.GetIsolate(), "NULL"));
  } else {
    quote_callback<quote_literal_copy>(info);
  }
}

void return_next_callback(Info info) {
  callback_body(info, [&] {
    if (running_call == nullptr || running_call->sink == nullptr) {
      throw_js("return_next called in context that cannot accept a set");
    }
    put_row(running_call->sink, info[0]);
  });
}

void memory_usage_callback(Info info) {
  v8::Isolate* isolate = info.GetIsolate();
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::HeapStatistics heap;
  isolate->GetHeapStatistics(&heap);
  v8::Local<v8::Object> out = v8::Object::New(isolate);
  auto set = [&](const char* name, size_t bytes) {
    out->Set(context, v8::String::NewFromUtf8(isolate, name).ToLocalChecked(),
             v8::Number::New(isolate, static_cast<double>(bytes)))
        .Check();
  };
  set("total_heap_size", heap.total_heap_size());
  set("total_physical_size", heap.total_physical_size());
  set("used_heap_size", heap.used_heap_size());
  set("heap_size_limit", heap.heap_size_limit());
  set("external_memory", heap.external_memory());
  set("array_buffers", array_buffer_bytes(current_instance()->shared));
  set("number_of_native_contexts", heap.number_of_native_contexts());
  info.GetReturnValue().Set(out);
}

// Run a script under a name of its own, which stack traces and error contexts show.
void run_script_callback(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 1 || !info[0]->IsString()) throw_js("run_script needs the source of a script");
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    v8::Local<v8::String> source = info[0].As<v8::String>();
    if (max_eval_size >= 0 && source->Length() > max_eval_size) {
      throw_js("script of " + std::to_string(source->Length()) + " characters is over plv8.max_eval_size of " +
               std::to_string(max_eval_size));
    }
    v8::ScriptOrigin origin = script_origin(info.Length() > 1 ? info[1] : js_string("script").As<v8::Value>());
    v8::Local<v8::Script> script;
    v8::Local<v8::Value> value;
    if (!v8::Script::Compile(context, source, &origin).ToLocal(&script) || !script->Run(context).ToLocal(&value)) {
      throw JsPending{};
    }
    info.GetReturnValue().Set(value);
  });
}

void find_function_callback(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 1) throw_js("find_function needs the name or signature of a function");
    char* signature = pg_string(info[0]);
    Oid oid = InvalidOid;
    guarded([&] {
      const char* input = strchr(signature, '(') ? "regprocedurein" : "regprocin";
      Datum cstring = CStringGetDatum(signature);
      oid = DatumGetObjectId(strcmp(input, "regprocin") == 0 ? DirectFunctionCall1(regprocin, cstring)
                                                             : DirectFunctionCall1(regprocedurein, cstring));
    });
    if (!may_execute(oid, signature)) return;
    guarded([&] {
      HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
      if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", oid);
      Oid language = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->prolang;
      ReleaseSysCache(tuple);
      if (language != get_language_oid("plv8", true)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("javascript function is not found for \"%s\"", signature)));
      }
    });
    info.GetReturnValue().Set(compiled_function(current_instance(), oid));
  });
}

void transaction_end(Info info, bool commit) {
  callback_body(info, [&] {
    if (running_call == nullptr || running_call->atomic) {
      guarded([&] {
        ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION), errmsg("invalid transaction termination")));
      });
    }
    guarded([&] { commit ? SPI_commit() : SPI_rollback(); });
  });
}

void commit_callback(Info info) { transaction_end(info, true); }
void rollback_callback(Info info) { transaction_end(info, false); }

// ---- window functions: methods over the WindowObject of the running call

WindowObject window_of_call() {
  WindowObject window = nullptr;
  if (running_call != nullptr && running_call->fcinfo != nullptr) {
    window = WindowObjectIsValid(running_call->fcinfo->context)
                 ? reinterpret_cast<WindowObject>(running_call->fcinfo->context)
                 : nullptr;
  }
  if (window == nullptr) throw_js("get_window_object called in wrong context");
  return window;
}

int int_argument(Info info, int index) {
  int value;
  if (!info[index]->Int32Value(info.GetIsolate()->GetCurrentContext()).To(&value)) throw JsPending{};
  return value;
}

void window_position(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    int64 position = 0;
    guarded([&] { position = WinGetCurrentPosition(window); });
    info.GetReturnValue().Set(v8::Number::New(info.GetIsolate(), static_cast<double>(position)));
  });
}

void window_row_count(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    int64 count = 0;
    guarded([&] { count = WinGetPartitionRowCount(window); });
    info.GetReturnValue().Set(v8::Number::New(info.GetIsolate(), static_cast<double>(count)));
  });
}

void window_mark(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    int position = int_argument(info, 0);
    guarded([&] { WinSetMarkPosition(window, position); });
  });
}

void window_peers(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    int a = int_argument(info, 0), b = int_argument(info, 1);
    bool equal = false;
    guarded([&] { equal = WinRowsArePeers(window, a, b); });
    info.GetReturnValue().Set(equal);
  });
}

void return_argument(Info info, Datum value, bool is_null, bool out_of_range, int argument) {
  if (out_of_range) return;  // undefined
  Oid type = get_fn_expr_argtype(running_call->fcinfo->flinfo, argument);
  info.GetReturnValue().Set(to_js(value, is_null, type));
}

template <Datum (*Get)(WindowObject, int, int, int, bool, bool*, bool*)>
void window_argument_at(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    int argument = int_argument(info, 0), position = int_argument(info, 1), seek = int_argument(info, 2);
    bool mark = info[3]->BooleanValue(info.GetIsolate());
    bool is_null = false, out = false;
    Datum value = 0;
    guarded([&] { value = Get(window, argument, position, seek, mark, &is_null, &out); });
    return_argument(info, value, is_null, out, argument);
  });
}

void window_argument_current(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    int argument = int_argument(info, 0);
    bool is_null = false;
    Datum value = 0;
    guarded([&] { value = WinGetFuncArgCurrent(window, argument, &is_null); });
    return_argument(info, value, is_null, false, argument);
  });
}

// Partition-local storage holds JSON text. The first use in a partition fixes its capacity; PostgreSQL zeroes it.
struct Local {
  uint32 capacity;
  uint32 size;
  char text[FLEXIBLE_ARRAY_MEMBER];
};
constexpr int kLocalBytes = 1000;
constexpr int kMostLocalBytes = 64 << 20;

Local* local_memory(WindowObject window, int bytes) {
  if (bytes < 0 || bytes > kMostLocalBytes) throw_js("window local memory of " + std::to_string(bytes) + " bytes is not possible");
  Local* local = nullptr;
  guarded([&] { local = static_cast<Local*>(WinGetPartitionLocalMemory(window, sizeof(Local) + bytes)); });
  if (local->capacity == 0) local->capacity = sizeof(Local) + bytes;
  return local;
}

void window_get_local(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    Local* local = local_memory(window, info.Length() > 0 ? int_argument(info, 0) : kLocalBytes);
    if (local->size == 0) return;
    v8::Local<v8::Value> value;
    if (!v8::JSON::Parse(info.GetIsolate()->GetCurrentContext(), js_string(std::string(local->text, local->size)))
             .ToLocal(&value)) {
      throw JsPending{};
    }
    info.GetReturnValue().Set(value);
  });
}

void window_set_local(Info info) {
  callback_body(info, [&] {
    WindowObject window = window_of_call();
    v8::Local<v8::String> json;
    if (!v8::JSON::Stringify(info.GetIsolate()->GetCurrentContext(), info[0]).ToLocal(&json)) throw JsPending{};
    std::string text = std_string(json);
    Local* local = local_memory(window, std::max(kLocalBytes, static_cast<int>(text.size())));
    if (sizeof(Local) + text.size() > local->capacity) throw_js("window local memory overflow");
    local->size = static_cast<uint32>(text.size());
    memcpy(local->text, text.data(), text.size());
  });
}

void get_window_object(Info info) {
  callback_body(info, [&] {
    window_of_call();
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    v8::Local<v8::Object> out = v8::Object::New(isolate);
    set_member(context, out, "get_current_position", window_position);
    set_member(context, out, "get_partition_row_count", window_row_count);
    set_member(context, out, "set_mark_position", window_mark);
    set_member(context, out, "rows_are_peers", window_peers);
    set_member(context, out, "get_func_arg_in_partition", window_argument_at<WinGetFuncArgInPartition>);
    set_member(context, out, "get_func_arg_in_frame", window_argument_at<WinGetFuncArgInFrame>);
    set_member(context, out, "get_func_arg_current", window_argument_current);
    set_member(context, out, "get_func_arg_in_current", window_argument_current);
    set_member(context, out, "get_partition_local", window_get_local);
    set_member(context, out, "set_partition_local", window_set_local);
    auto constant = [&](const char* name, int value) {
      out->Set(context, v8::String::NewFromUtf8(isolate, name).ToLocalChecked(), v8::Int32::New(isolate, value)).Check();
    };
    constant("SEEK_CURRENT", WINDOW_SEEK_CURRENT);
    constant("SEEK_HEAD", WINDOW_SEEK_HEAD);
    constant("SEEK_TAIL", WINDOW_SEEK_TAIL);
    info.GetReturnValue().Set(out);
  });
}

}  // namespace

bool is_owners_function() {
  bool allowed = false;
  guarded([&] {
    Oid role = segment_role == nullptr || segment_role[0] == '\0' ? InvalidOid : get_role_oid(segment_role, true);
    if (!OidIsValid(role) || GetUserId() != role || running_call == nullptr || running_call->fcinfo == nullptr) return;
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(running_call->fcinfo->flinfo->fn_oid));
    if (!HeapTupleIsValid(tuple)) return;
    allowed = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->proowner == role;
    ReleaseSysCache(tuple);
  });
  return allowed;
}

void require_owner(const char* what) {
  if (is_owners_function()) return;
  guarded([&] {
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for %s", what),
                    errdetail("Only functions of the role that hartonomous_v8.segment_role names may use them.")));
  });
}

bool may_execute(Oid function, const char* signature) {
  bool allowed = false;
  guarded([&] {
    allowed = role_may_execute(GetUserId(), function);
    if (!allowed) ereport(WARNING, (errmsg("failed to find or no permission for js function %s", signature)));
  });
  return allowed;
}

void set_member(v8::Local<v8::Context> context, v8::Local<v8::Object> object, const char* name, v8::FunctionCallback f,
                v8::PropertyAttribute attributes) {
  v8::Isolate* isolate = context->GetIsolate();
  v8::Local<v8::String> key = v8::String::NewFromUtf8(isolate, name).ToLocalChecked();
  v8::Local<v8::Function> function = v8::Function::New(context, f).ToLocalChecked();
  function->SetName(key);
  object->DefineOwnProperty(context, key, function, attributes).Check();
}

void install_plv8_object(v8::Local<v8::Context> context, v8::Local<v8::Object> global) {
  v8::Isolate* isolate = context->GetIsolate();
  auto key = [&](const char* name) { return v8::String::NewFromUtf8(isolate, name).ToLocalChecked(); };
  v8::Local<v8::Object> plv8 = v8::Object::New(isolate);
  plv8->Set(context, key("version"), key(HOST_VERSION)).Check();
  plv8->Set(context, key("v8_version"), key(v8::V8::GetVersion())).Check();
  set_member(context, plv8, "elog", elog_callback, kPlv8Member);
  set_member(context, plv8, "quote_literal", quote_callback<quote_literal_copy>, kPlv8Member);
  set_member(context, plv8, "quote_nullable", quote_nullable_callback, kPlv8Member);
  set_member(context, plv8, "nullable", quote_nullable_callback, kPlv8Member);  // its name in PL/V8's documentation
  set_member(context, plv8, "quote_ident", quote_callback<quote_ident_copy>, kPlv8Member);
  set_member(context, plv8, "return_next", return_next_callback, kPlv8Member);
  set_member(context, plv8, "memory_usage", memory_usage_callback, kPlv8Member);
  set_member(context, plv8, "find_function", find_function_callback, kPlv8Member);
  set_member(context, plv8, "run_script", run_script_callback, kPlv8Member);
  set_member(context, plv8, "get_window_object", get_window_object, kPlv8Member);
  set_member(context, plv8, "commit", commit_callback, kPlv8Member);
  set_member(context, plv8, "rollback", rollback_callback, kPlv8Member);
  install_spi(context, plv8);
  if (extras_enabled && !portable()) {
    install_pages(context, plv8);
    install_segments(context, plv8);
    install_kernels(context, plv8);
    install_counters(context, plv8);
    install_rollback_note(context, plv8);
    install_engine(context, plv8);
  }
  global->Set(context, key("plv8"), plv8).Check();

  static const std::pair<const char*, int> levels[] = {
      {"DEBUG5", DEBUG5}, {"DEBUG4", DEBUG4}, {"DEBUG3", DEBUG3}, {"DEBUG2", DEBUG2},   {"DEBUG1", DEBUG1},
      {"DEBUG", DEBUG5},  {"LOG", LOG},       {"INFO", INFO},     {"NOTICE", NOTICE},   {"WARNING", WARNING},
      {"ERROR", ERROR},
  };
  for (const auto& [name, level] : levels) global->Set(context, key(name), v8::Int32::New(isolate, level)).Check();
}

}  // namespace host
