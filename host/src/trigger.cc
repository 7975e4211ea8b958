// Trigger functions: NEW, OLD and the TG_ variables are the arguments; a returned object replaces the row.
#include "host.h"

extern "C" {
#include "commands/trigger.h"
#include "utils/rel.h"
}

namespace host {

Datum call_trigger(Instance* instance, FunctionCallInfo fcinfo) {
  v8::Isolate* isolate = instance->isolate;
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  TriggerData* data = reinterpret_cast<TriggerData*>(fcinfo->context);
  TriggerEvent event = data->tg_event;
  TupleDesc desc = RelationGetDescr(data->tg_relation);
  v8::Local<v8::Value> fresh = v8::Undefined(isolate), old = v8::Undefined(isolate);
  HeapTuple result = nullptr;
  bool row = TRIGGER_FIRED_FOR_ROW(event);
  if (row) {
    if (TRIGGER_FIRED_BY_INSERT(event)) {
      result = data->tg_trigtuple;
      fresh = row_to_js(data->tg_trigtuple, desc);
    } else if (TRIGGER_FIRED_BY_DELETE(event)) {
      result = data->tg_trigtuple;
      old = row_to_js(data->tg_trigtuple, desc);
    } else {
      result = data->tg_newtuple;
      fresh = row_to_js(data->tg_newtuple, desc);
      old = row_to_js(data->tg_trigtuple, desc);
    }
  }
  const char* when = TRIGGER_FIRED_BEFORE(event) ? "BEFORE" : TRIGGER_FIRED_AFTER(event) ? "AFTER" : "INSTEAD OF";
  const char* op = TRIGGER_FIRED_BY_INSERT(event)   ? "INSERT"
                   : TRIGGER_FIRED_BY_DELETE(event) ? "DELETE"
                   : TRIGGER_FIRED_BY_UPDATE(event) ? "UPDATE"
                                                    : "TRUNCATE";
  Trigger* trigger = data->tg_trigger;
  v8::Local<v8::Array> arguments = v8::Array::New(isolate, trigger->tgnargs);
  for (int i = 0; i < trigger->tgnargs; i++) arguments->Set(context, i, js_string(trigger->tgargs[i])).Check();
  char* schema = nullptr;
  guarded([&] { schema = SPI_getnspname(data->tg_relation); });
  v8::Local<v8::Value> values[] = {
      fresh,
      old,
      js_string(trigger->tgname),
      js_string(when),
      js_string(row ? "ROW" : "STATEMENT"),
      js_string(op),
      v8::Integer::NewFromUnsigned(isolate, RelationGetRelid(data->tg_relation)),
      js_string(RelationGetRelationName(data->tg_relation)),
      js_string(schema),
      arguments,
  };
  v8::Local<v8::Function> function = compiled_function(instance, fcinfo->flinfo->fn_oid);
  v8::Local<v8::Value> returned;
  if (!function->Call(context, context->Global(), 10, values).ToLocal(&returned)) throw JsPending{};
  if (!row) return PointerGetDatum(nullptr);
  if (returned->IsNull()) return PointerGetDatum(nullptr);  // skip this row
  // undefined keeps the row as it came, whatever was done to NEW
  if (returned->IsUndefined() || TRIGGER_FIRED_AFTER(event) || TRIGGER_FIRED_BY_DELETE(event)) {
    return PointerGetDatum(result);
  }
  return PointerGetDatum(row_to_tuple(returned, desc));
}

}  // namespace host
