// Errors both ways.
//
// The rule that this file and every other of the extension keeps: PostgreSQL's longjmp never crosses a C++ frame with
// destructors, and a C++ exception never crosses a frame of PostgreSQL or of V8. PostgreSQL code that may fail runs
// inside `guarded`, which ends the longjmp and throws PgError; callbacks end PgError and JsPending in `callback_body`
// before they return to V8; `report` calls ereport only after every C++ scope of the call has been left.
#include "host.h"

#include <algorithm>

extern "C" {
#include "mb/pg_wchar.h"
}

namespace host {
namespace {

// Longest stack text put into an error's context.
constexpr size_t kMaxContext = 4000;
// Longest source line shown there; of a longer one (a bundle's) nothing helps.
constexpr int kMaxSourceLine = 300;

char* copy(const char* text) { return text == nullptr ? nullptr : pstrdup(text); }

v8::Local<v8::Private> pg_mark(v8::Isolate* isolate) {
  return v8::Private::ForApi(isolate, v8::String::NewFromUtf8Literal(isolate, "host::pg_error"));
}

// The text of a value, or null where showing it fails.
char* text_or_null(v8::Local<v8::Value> value) {
  v8::TryCatch caught(v8::Isolate::GetCurrent());
  try {
    return pg_string(value);
  } catch (const JsPending&) {
    return nullptr;
  } catch (const PgError& error) {
    FreeErrorData(error.edata);
    return nullptr;
  }
}

char* text_property(v8::Local<v8::Object> object, const char* name) {
  v8::TryCatch caught(v8::Isolate::GetCurrent());
  v8::Local<v8::Value> value;
  if (!js_property(object, name, &value) || value->IsNullOrUndefined()) return nullptr;
  return text_or_null(value);
}

// The SQLSTATE that an exception names; false where it names none.
bool state_of(v8::Local<v8::Object> object, Failure* failure) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  for (const char* property : {"sqlerrcode", "code"}) {
    v8::Local<v8::Value> value;
    if (!js_property(object, property, &value)) continue;
    if (value->IsInt32() && strcmp(property, "code") == 0 && value.As<v8::Int32>()->Value() > 0) {
      failure->sqlstate = value.As<v8::Int32>()->Value();
      return true;
    }
    char* state = value->IsString() ? text_or_null(value) : nullptr;
    if (state != nullptr && strlen(state) == 5 && strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
        strcmp(state, "00000") != 0) {
      failure->sqlstate = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
      return true;
    }
  }
  return object->HasPrivate(isolate->GetCurrentContext(), pg_mark(isolate)).FromMaybe(false);
}

// The same as PL/V8 has it, which takes whatever `code` is for a packed SQLSTATE; false with a message of its own for a string.
bool portable_state_of(v8::Local<v8::Object> object, Failure* failure) {
  v8::Local<v8::Value> code;
  if (!js_property(object, "code", &code) || code->IsNullOrUndefined()) return true;
  if (code->IsInt32()) {
    if (code.As<v8::Int32>()->Value() != 0) failure->sqlstate = code.As<v8::Int32>()->Value();
    return true;
  }
  char* text = text_or_null(code);
  failure->message = psprintf("not portable to PL/V8 3.2: an exception has code %s, which is read as a packed SQLSTATE there",
                              text == nullptr ? "?" : text);
  return false;
}

}  // namespace

ErrorData* copy_error(ErrorData* edata) {
  ErrorData* out = static_cast<ErrorData*>(palloc(sizeof(ErrorData)));
  *out = *edata;
  out->message = copy(edata->message);
  out->detail = copy(edata->detail);
  out->detail_log = copy(edata->detail_log);
  out->hint = copy(edata->hint);
  out->context = copy(edata->context);
  out->backtrace = copy(edata->backtrace);
  out->schema_name = copy(edata->schema_name);
  out->table_name = copy(edata->table_name);
  out->column_name = copy(edata->column_name);
  out->datatype_name = copy(edata->datatype_name);
  out->constraint_name = copy(edata->constraint_name);
  out->internalquery = copy(edata->internalquery);
  out->assoc_context = CurrentMemoryContext;
  return out;
}

void throw_js(const std::string& message) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  isolate->ThrowException(v8::Exception::Error(js_string(message)));
  throw JsPending{};
}

void throw_in_javascript(v8::Isolate* isolate, ErrorData* edata) {
  Instance* instance = current_instance();
  bool final = (edata->sqlerrcode == ERRCODE_QUERY_CANCELED && interrupts_enabled && !portable()) || IsInParallelMode();
  if (final) {
    keep_interrupt(instance, edata);
    end_javascript(instance);
  } else {
    isolate->ThrowException(js_error_of(edata));
  }
  FreeErrorData(edata);
}

v8::Local<v8::Value> js_error_of(ErrorData* edata) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::Local<v8::Object> error =
      v8::Exception::Error(js_string(edata->message ? edata->message : "missing error text")).As<v8::Object>();
  auto set = [&](const char* name, const char* value) {
    v8::Local<v8::Value> text = v8::Null(isolate);
    if (value != nullptr) text = js_string(value);
    error->Set(context, js_string(name), text).Check();
  };
  set("sqlerrcode", unpack_sql_state(edata->sqlerrcode));
  error->Set(context, js_string("code"), v8::Int32::New(isolate, edata->sqlerrcode)).Check();  // packed, as PL/V8 has it
  set("detail", edata->detail);
  set("hint", edata->hint);
  set("context", edata->context);
  set("internalquery", edata->internalquery);
  set("schema_name", edata->schema_name);
  set("table_name", edata->table_name);
  set("column_name", edata->column_name);
  set("datatype_name", edata->datatype_name);
  set("constraint_name", edata->constraint_name);
  error->SetPrivate(context, pg_mark(isolate), v8::True(isolate)).Check();
  return error;
}

Failure failure_of(const PgError& error) {
  ErrorData* edata = error.edata;
  Failure failure;
  failure.sqlstate = edata->sqlerrcode;
  failure.message = edata->message == nullptr ? pstrdup("missing error text") : edata->message;
  failure.detail = edata->detail;
  failure.hint = edata->hint;
  failure.context = edata->context;
  failure.schema_name = edata->schema_name;
  failure.table_name = edata->table_name;
  failure.column_name = edata->column_name;
  failure.constraint_name = edata->constraint_name;
  failure.datatype_name = edata->datatype_name;
  return failure;
}

Failure failure_of(v8::TryCatch& caught, const char* function) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  Instance* instance = current_instance();
  Failure failure;
  if (caught.HasTerminated() || instance->shared->interrupt != nullptr || instance->shared->out_of_memory) {
    isolate->CancelTerminateExecution();
    serve_late_interrupt(instance);
    if (instance->shared->interrupt != nullptr) {
      failure = failure_of(PgError{copy_error(instance->shared->interrupt)});
      FreeErrorData(instance->shared->interrupt);
      instance->shared->interrupt = nullptr;
      instance->shared->out_of_memory = false;
      return failure;
    }
    failure.sqlstate = instance->shared->out_of_memory ? ERRCODE_OUT_OF_MEMORY : ERRCODE_QUERY_CANCELED;
    failure.message = psprintf(instance->shared->out_of_memory ? "out of memory: JavaScript heap reached plv8.memory_limit of %d MB"
                                                       : "JavaScript was terminated",
                               memory_limit_mb);
    instance->shared->out_of_memory = false;
    return failure;
  }
  return failure_of(caught.Exception(), caught.Message(), function);
}

Failure failure_of(v8::Local<v8::Value> exception, v8::Local<v8::Message> message, const char* function) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::TryCatch inner(isolate);  // toString and getters of a thrown object are code too
  Failure failure;
  if (exception.IsEmpty()) {
    failure.message = pstrdup("JavaScript ended without a result");
    return failure;
  }
  char* inner_context = nullptr;
  bool names_state = false;
  if (exception->IsObject()) {
    v8::Local<v8::Object> object = exception.As<v8::Object>();
    if (portable()) {
      if (!portable_state_of(object, &failure)) return failure;
    } else if ((names_state = state_of(object, &failure))) {
      // An error that names its SQLSTATE is meant for the client: its message stands without the class name.
      failure.message = text_property(object, "message");
    }
    inner_context = text_property(object, "context");
    failure.detail = text_property(object, "detail");
    failure.hint = text_property(object, "hint");
    if (!portable()) {
      failure.schema_name = text_property(object, "schema_name");
      failure.table_name = text_property(object, "table_name");
      failure.column_name = text_property(object, "column_name");
      failure.constraint_name = text_property(object, "constraint_name");
      failure.datatype_name = text_property(object, "datatype_name");
    }
  }
  if (failure.message == nullptr) {
    failure.message = text_or_null(exception);
    constexpr char kPlainError[] = "Error: ";
    if (failure.message != nullptr && exception->IsNativeError() &&
        strncmp(failure.message, kPlainError, strlen(kPlainError)) == 0) {
      failure.message += strlen(kPlainError);
    }
  }
  if (failure.message == nullptr && !message.IsEmpty()) {
    // Showing it as text failed, as it does at the end of the stack: V8's own description needs no JavaScript.
    constexpr char kUncaught[] = "Uncaught ";
    failure.message = text_or_null(message->Get());
    if (failure.message != nullptr && strncmp(failure.message, kUncaught, strlen(kUncaught)) == 0) failure.message += strlen(kUncaught);
  }
  if (failure.message == nullptr) failure.message = pstrdup("unknown exception");
  std::string where = inner_context == nullptr ? "" : inner_context;
  int line_number = message.IsEmpty() ? 0 : message->GetLineNumber(context).FromMaybe(0);
  v8::Local<v8::Value> script;
  if (!message.IsEmpty()) script = message->GetScriptResourceName();
  if (line_number > 0 && !script.IsEmpty() && script->IsString()) {
    if (!where.empty()) where += "\n";
    std::string thrower = std_string(script);
    // Code that one function leaves in globalThis for others throws in its own name: say which was called, and only that
    // where the error is meant for the client.
    bool elsewhere = function != nullptr && thrower != function && !portable();
    if (!elsewhere || !names_state) {
      where += thrower + "() LINE " + std::to_string(line_number);
      v8::Local<v8::String> line;
      if (message->GetSourceLine(context).ToLocal(&line) && line->Length() < kMaxSourceLine) where += ": " + std_string(line);
      if (elsewhere) where += "\n";
    }
    if (elsewhere) where += std::string(function) + "()";
  }
  if (!where.empty()) {
    size_t size = std::min(where.size(), kMaxContext);
    guarded([&] { failure.context = pnstrdup(where.data(), pg_mbcliplen(where.data(), where.size(), size)); });
  }
  return failure;
}

void warn_of_rejections(RoleIsolate* shared) {
  std::vector<Rejection> rejections;
  rejections.swap(shared->rejections);
  for (Rejection& rejection : rejections) {
    v8::HandleScope handles(shared->isolate);
    Failure failure = failure_of(rejection.exception.Get(shared->isolate), rejection.message.Get(shared->isolate), nullptr);
    guarded([&] {
      ereport(WARNING, (errcode(failure.sqlstate), errmsg("Unhandled Promise rejection: %s", failure.message),
                        failure.detail ? errdetail_internal("%s", failure.detail) : 0,
                        failure.hint ? errhint("%s", failure.hint) : 0,
                        failure.context ? errcontext_msg("%s", failure.context) : 0));
    });
  }
}

void report(const Failure& failure) {
  auto generic = [](int field, const char* value) {
    if (value != nullptr) err_generic_string(field, value);
    return 0;
  };
  ereport(ERROR, (errcode(failure.sqlstate), errmsg_internal("%s", failure.message),
                  failure.detail ? errdetail_internal("%s", failure.detail) : 0,
                  failure.hint ? errhint("%s", failure.hint) : 0,
                  failure.context ? errcontext_msg("%s", failure.context) : 0,
                  generic(PG_DIAG_SCHEMA_NAME, failure.schema_name), generic(PG_DIAG_TABLE_NAME, failure.table_name),
                  generic(PG_DIAG_COLUMN_NAME, failure.column_name),
                  generic(PG_DIAG_CONSTRAINT_NAME, failure.constraint_name),
                  generic(PG_DIAG_DATATYPE_NAME, failure.datatype_name)));
  pg_unreachable();
}

}  // namespace host
