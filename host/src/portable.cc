// hartonomous_v8.portable: for testing code that has to run on PL/V8 3.2 too. What that does otherwise than this host is done
// as there, and what ends the connection or the server there is an error that names the rule.
#include "host.h"

namespace host {

void refuse(const char* rule) {
  guarded([&] { ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("not portable to PL/V8 3.2: %s", rule))); });
  pg_unreachable();
}

// A value that is still in its TOAST table is fetched while the row is converted, outside of any error handling: a cancel
// there jumps over V8's frames.
void refuse_stored(HeapTuple tuple, TupleDesc desc) {
  if (!portable()) return;
  for (int i = 0; i < desc->natts; i++) {
    Form_pg_attribute attribute = TupleDescAttr(desc, i);
    if (attribute->attisdropped || attribute->attlen != -1) continue;
    bool is_null = false;
    Datum value = 0;
    guarded([&] { value = heap_getattr(tuple, i + 1, desc, &is_null); });
    if (is_null || !VARATT_IS_EXTERNAL(DatumGetPointer(value))) continue;
    refuse((std::string("column ") + NameStr(attribute->attname) +
            " of a row comes from a TOAST table, and a cancel while it is read there ends the server: make it an expression")
               .c_str());
  }
}

// PL/V8 compares the columns with as many of the object's property names as there are columns, and no more.
void refuse_other_properties(v8::Local<v8::Object> object, TupleDesc desc) {
  if (!portable()) return;
  v8::Local<v8::Context> context = v8::Isolate::GetCurrent()->GetCurrentContext();
  v8::Local<v8::Array> names;
  if (!object->GetPropertyNames(context).ToLocal(&names)) throw JsPending{};
  if (static_cast<int>(names->Length()) <= desc->natts) return;
  throw_js("not portable to PL/V8 3.2: a row has " + std::to_string(names->Length()) + " properties for " +
           std::to_string(desc->natts) + " columns");
}

}  // namespace host
