// Values both ways: bool, integers, floats, numeric, text, json, bytea, date and time, arrays and composites have a
// JavaScript form of their own; everything else goes through its text form.
#include "host.h"

#include <algorithm>
#include <cmath>

extern "C" {
#include "catalog/pg_type.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
}

namespace host {
namespace {

// Of an array in V8 10.2, with room for what it adds.
constexpr size_t kMostElements = (size_t{1} << 27) - 16;
constexpr double kMicrosecondsPerMs = 1000.0;
// Milliseconds from JavaScript's epoch (1970) to PostgreSQL's (2000).
constexpr double kEpochMs = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 86400000.0;

v8::Isolate* current() { return v8::Isolate::GetCurrent(); }

// JavaScript has no infinite date: an invalid one, which JSON writes as null, marked so that it converts back.
v8::Local<v8::Private> infinity_mark() {
  return v8::Private::ForApi(current(), v8::String::NewFromUtf8Literal(current(), "host::infinity"));
}

v8::Local<v8::Value> infinite_date(bool negative) {
  v8::Local<v8::Context> context = current()->GetCurrentContext();
  v8::Local<v8::Value> date = v8::Date::New(context, std::nan("")).ToLocalChecked();
  date.As<v8::Object>()->SetPrivate(context, infinity_mark(), v8::Int32::New(current(), negative ? -1 : 1)).Check();
  return date;
}

int infinity_sign(v8::Local<v8::Object> date) {
  v8::Local<v8::Value> sign;
  if (!date->GetPrivate(current()->GetCurrentContext(), infinity_mark()).ToLocal(&sign) || !sign->IsInt32()) return 0;
  return sign.As<v8::Int32>()->Value();
}

char* output_text(Datum value, Oid type) {
  char* text = nullptr;
  guarded([&] {
    Oid function;
    bool varlena;
    getTypeOutputInfo(type, &function, &varlena);
    text = OidOutputFunctionCall(function, value);
  });
  return text;
}

Datum input_text(char* text, Oid type, int32 typmod) {
  Datum value = 0;
  guarded([&] {
    Oid function, parameter;
    getTypeInputInfo(type, &function, &parameter);
    value = OidInputFunctionCall(function, text, parameter, typmod);
  });
  return value;
}

v8::Local<v8::Value> json_to_js(const char* text) {
  // An array that V8 could not represent would end the process (builtins.cc).
  if (strlen(text) > kMostElements && std::count(text, text + strlen(text), ',') >= static_cast<ptrdiff_t>(kMostElements)) {
    throw_js("JSON text has more than " + std::to_string(kMostElements) + " elements");
  }
  v8::Local<v8::Value> value;
  if (!v8::JSON::Parse(current()->GetCurrentContext(), js_string(text)).ToLocal(&value)) throw JsPending{};
  return value;
}

// JSON text with each BigInt as a string, as PL/V8 writes jsonb; empty where it is not BigInts that JSON refuses.
v8::MaybeLocal<v8::String> stringify_big_integers(v8::Local<v8::Value> value) {
  v8::Local<v8::Context> context = current()->GetCurrentContext();
  v8::Local<v8::Object> prototype = v8::BigInt::New(current(), 0)->ToObject(context).ToLocalChecked()->GetPrototype().As<v8::Object>();
  v8::Local<v8::String> name = v8::String::NewFromUtf8Literal(current(), "toJSON");
  v8::Local<v8::Function> write;
  if (prototype->HasOwnProperty(context, name).FromMaybe(true)) return {};
  auto to_string = [](const v8::FunctionCallbackInfo<v8::Value>& info) {
    v8::Local<v8::String> text;
    if (info.This()->ToString(info.GetIsolate()->GetCurrentContext()).ToLocal(&text)) info.GetReturnValue().Set(text);
  };
  if (!v8::Function::New(context, to_string).ToLocal(&write) || !prototype->Set(context, name, write).FromMaybe(false)) return {};
  v8::MaybeLocal<v8::String> text = v8::JSON::Stringify(context, value);
  return prototype->Delete(context, name).FromMaybe(false) ? text : v8::MaybeLocal<v8::String>();
}

char* js_to_json(v8::Local<v8::Value> value, Oid type) {
  if (value->IsFunction() || value->IsSymbol()) throw_js("a function or symbol has no JSON form");
  if (value->IsBigInt()) return pg_string(value);
  v8::TryCatch caught(current());
  v8::Local<v8::String> text;
  if (v8::JSON::Stringify(current()->GetCurrentContext(), value).ToLocal(&text)) return pg_string(text);
  if (type == JSONBOID && caught.CanContinue()) {
    v8::TryCatch again(current());
    if (stringify_big_integers(value).ToLocal(&text)) return pg_string(text);
  }
  caught.ReThrow();
  throw JsPending{};
}

v8::Local<v8::Value> bytes_to_js(Datum value) {
  bytea* bytes = nullptr;
  guarded([&] { bytes = DatumGetByteaPP(value); });
  size_t size = VARSIZE_ANY_EXHDR(bytes);
  v8::Local<v8::Value> constructor;
  // Through the constructor, because ArrayBuffer::New ends the process where the allocator refuses.
  v8::Local<v8::Context> context = current()->GetCurrentContext();
  v8::Local<v8::Value> length = v8::Number::New(current(), static_cast<double>(size));
  if (!js_property(context->Global(), "Uint8Array", &constructor)) throw JsPending{};
  v8::Local<v8::Object> array;
  if (!constructor->IsFunction()) throw_js("Uint8Array has been replaced");
  if (!constructor.As<v8::Function>()->NewInstance(context, 1, &length).ToLocal(&array)) throw JsPending{};
  if (!array->IsUint8Array()) throw_js("Uint8Array has been replaced");
  v8::Local<v8::Uint8Array> view = array.As<v8::Uint8Array>();
  if (view->ByteLength() < size) throw_js("Uint8Array has been replaced");
  if (size > 0) memcpy(static_cast<char*>(view->Buffer()->Data()) + view->ByteOffset(), VARDATA_ANY(bytes), size);
  if (reinterpret_cast<Pointer>(bytes) != DatumGetPointer(value)) pfree(bytes);
  return array;
}

v8::Local<v8::Value> composite_to_js(Datum value) {
  HeapTupleHeader header = nullptr;
  TupleDesc desc = nullptr;
  guarded([&] {
    header = DatumGetHeapTupleHeader(value);
    desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
  });
  HeapTupleData tuple{};
  tuple.t_len = HeapTupleHeaderGetDatumLength(header);
  tuple.t_data = header;
  return row_to_js(&tuple, desc);
}

double number_of(v8::Local<v8::Value> value) {
  double number;
  if (!value->NumberValue(current()->GetCurrentContext()).To(&number)) throw JsPending{};
  return number;
}

// An integer within [low, high]; PostgreSQL's own message where it is not.
int64 integer_of(v8::Local<v8::Value> value, Oid type, double low, double high, const char* name) {
  if (value->IsBigInt()) {
    bool lossless = false;
    int64 big = value.As<v8::BigInt>()->Int64Value(&lossless);
    if (lossless && (type == INT8OID || (big >= low && big <= high))) return big;
  } else {
    double number = std::trunc(number_of(value));
    if (number >= low && number <= high) return static_cast<int64>(number);
    if (std::isnan(number)) {
      guarded([&] { ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("%s out of range", name))); });
    }
  }
  guarded([&] { ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("%s out of range", name))); });
  return 0;
}

bool is_numeric(v8::Local<v8::Value> value) { return value->IsNumber() || value->IsBigInt() || value->IsBoolean(); }

Datum bytes_to_datum(v8::Local<v8::Value> value) {
  const char* data = nullptr;
  size_t size = 0;
  if (value->IsArrayBufferView()) {
    v8::Local<v8::ArrayBufferView> view = value.As<v8::ArrayBufferView>();
    size = view->ByteLength();
    data = static_cast<const char*>(view->Buffer()->Data()) + view->ByteOffset();
  } else {
    v8::Local<v8::ArrayBuffer> buffer = value.As<v8::ArrayBuffer>();
    size = buffer->ByteLength();
    data = static_cast<const char*>(buffer->Data());
  }
  bytea* out = nullptr;
  guarded([&] {
    out = static_cast<bytea*>(palloc(size + VARHDRSZ));
    SET_VARSIZE(out, size + VARHDRSZ);
  });
  if (size > 0) memcpy(VARDATA(out), data, size);
  return PointerGetDatum(out);
}

}  // namespace

v8::Local<v8::Value> to_js(Datum value, bool is_null, Oid type) {
  v8::Isolate* isolate = current();
  if (is_null) return v8::Null(isolate);
  switch (type) {
    case BOOLOID:
      return v8::Boolean::New(isolate, DatumGetBool(value));
    case INT2OID:
      return v8::Int32::New(isolate, DatumGetInt16(value));
    case INT4OID:
      return v8::Int32::New(isolate, DatumGetInt32(value));
    case INT8OID:
      return v8::BigInt::New(isolate, DatumGetInt64(value));
    case OIDOID:
      return v8::Integer::NewFromUnsigned(isolate, DatumGetObjectId(value));
    case FLOAT4OID:
      return v8::Number::New(isolate, DatumGetFloat4(value));
    case FLOAT8OID:
      return v8::Number::New(isolate, DatumGetFloat8(value));
    case NUMERICOID: {
      double number = 0;
      guarded([&] { number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value)); });
      return v8::Number::New(isolate, number);
    }
    case DATEOID: {
      DateADT date = DatumGetDateADT(value);
      if (DATE_NOT_FINITE(date)) return infinite_date(DATE_IS_NOBEGIN(date));
      return v8::Date::New(isolate->GetCurrentContext(), date * 86400000.0 + kEpochMs).ToLocalChecked();
    }
    case TIMESTAMPOID:
    case TIMESTAMPTZOID: {
      Timestamp stamp = DatumGetTimestamp(value);
      if (TIMESTAMP_NOT_FINITE(stamp)) return infinite_date(TIMESTAMP_IS_NOBEGIN(stamp));
      return v8::Date::New(isolate->GetCurrentContext(), std::floor(stamp / kMicrosecondsPerMs) + kEpochMs)
          .ToLocalChecked();
    }
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID:
    case XMLOID: {
      text* packed = nullptr;
      guarded([&] { packed = DatumGetTextPP(value); });
      std::string bytes(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
      if (reinterpret_cast<Pointer>(packed) != DatumGetPointer(value)) pfree(packed);
      return js_string(bytes);
    }
    case JSONOID:
    case JSONBOID: {
      char* text = output_text(value, type);
      v8::Local<v8::Value> out = json_to_js(text);
      pfree(text);
      return out;
    }
    case BYTEAOID:
      return bytes_to_js(value);
    case RECORDOID:
      return composite_to_js(value);
    default:
      break;
  }
  Oid base = InvalidOid, element = InvalidOid;
  char kind = TYPTYPE_BASE;
  guarded([&] {
    base = getBaseType(type);
    element = get_base_element_type(type);
    kind = get_typtype(base);
  });
  if (base != type) {
    const TypedDomain* typed = OidIsValid(element) ? typed_domain(type, element) : nullptr;
    return typed != nullptr ? typed_array_to_js(value, *typed) : to_js(value, false, base);
  }
  if (OidIsValid(element) && type != INT2VECTOROID && type != OIDVECTOROID) return array_to_js(value);
  if (kind == TYPTYPE_COMPOSITE) return composite_to_js(value);
  char* text = output_text(value, type);
  v8::Local<v8::Value> out = js_string(text);
  pfree(text);
  return out;
}

v8::Local<v8::Value> row_to_js(HeapTuple tuple, TupleDesc desc) {
  v8::Isolate* isolate = current();
  v8::EscapableHandleScope handles(isolate);
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::Local<v8::Object> row = v8::Object::New(isolate);
  for (int i = 0; i < desc->natts; i++) {
    Form_pg_attribute attribute = TupleDescAttr(desc, i);
    if (attribute->attisdropped) continue;
    bool is_null = false;
    Datum value = 0;
    guarded([&] { value = heap_getattr(tuple, i + 1, desc, &is_null); });
    row->Set(context, js_string(NameStr(attribute->attname)), to_js(value, is_null, attribute->atttypid)).Check();
  }
  return handles.Escape(row);
}

Datum to_datum(v8::Local<v8::Value> value, Oid type, int32 typmod, bool* is_null) {
  *is_null = false;
  if (value.IsEmpty() || value->IsNullOrUndefined()) {
    *is_null = true;
    return 0;
  }
  switch (type) {
    case VOIDOID:
      return 0;
    case BOOLOID:
      if (value->IsBoolean()) return BoolGetDatum(value->BooleanValue(current()));
      break;
    case INT2OID:
      if (is_numeric(value)) return Int16GetDatum(integer_of(value, type, INT16_MIN, INT16_MAX, "smallint"));
      break;
    case INT4OID:
      if (is_numeric(value)) return Int32GetDatum(integer_of(value, type, INT32_MIN, INT32_MAX, "integer"));
      break;
    case OIDOID:
      if (is_numeric(value)) return ObjectIdGetDatum(integer_of(value, type, 0, UINT32_MAX, "OID"));
      break;
    case INT8OID:
      if (is_numeric(value)) {
        return Int64GetDatum(integer_of(value, type, -9223372036854775808.0, 9223372036854774784.0, "bigint"));
      }
      break;
    case FLOAT4OID:
      if (value->IsNumber()) return Float4GetDatum(static_cast<float4>(number_of(value)));
      break;
    case FLOAT8OID:
      if (value->IsNumber()) return Float8GetDatum(number_of(value));
      break;
    case TEXTOID:
      if (value->IsString() || value->IsNumber()) {
        char* characters = pg_string(value);
        Datum out = 0;
        guarded([&] { out = CStringGetTextDatum(characters); });
        return out;
      }
      break;
    case NUMERICOID:
      // A fraction as PostgreSQL's own cast of double precision has it, an integer with every digit.
      if (value->IsNumber() && number_of(value) != std::trunc(number_of(value))) {
        Datum number = Float8GetDatum(number_of(value)), out = 0;
        guarded([&] { out = DirectFunctionCall2(numeric, DirectFunctionCall1(float8_numeric, number), Int32GetDatum(typmod)); });
        return out;
      }
      break;
    case JSONOID:
      if (!value->IsObject()) break;  // a string is JSON text, as in PL/V8
      return input_text(js_to_json(value, type), type, typmod);
    case JSONBOID:
      return input_text(js_to_json(value, type), type, typmod);
    case BYTEAOID:
      if (value->IsFloat32Array() || value->IsFloat64Array()) {
        throw_js("bytea takes an array of integers or an ArrayBuffer, not of floats");
      }
      if (value->IsArrayBufferView() || value->IsArrayBuffer()) return bytes_to_datum(value);
      break;
    case DATEOID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
      if (value->IsDate()) {
        double ms = value.As<v8::Date>()->ValueOf() - kEpochMs;
        if (std::isnan(ms)) {
          int sign = infinity_sign(value.As<v8::Object>());
          if (sign == 0) throw_js("invalid date");
          if (type == DATEOID) return DateADTGetDatum(sign < 0 ? DATEVAL_NOBEGIN : DATEVAL_NOEND);
          return TimestampGetDatum(sign < 0 ? DT_NOBEGIN : DT_NOEND);
        }
        if (type == DATEOID) return DateADTGetDatum(static_cast<DateADT>(std::floor(ms / 86400000.0)));
        return TimestampGetDatum(static_cast<Timestamp>(ms * kMicrosecondsPerMs));
      }
      break;
    default:
      break;
  }
  Oid base = type, element = InvalidOid;
  char kind = TYPTYPE_BASE;
  int32 base_typmod = typmod;
  if (type >= FirstGenbkiObjectId || !(value->IsString() || value->IsDate())) {
    guarded([&] {
      base = getBaseTypeAndTypmod(type, &base_typmod);
      element = get_base_element_type(type);
      kind = get_typtype(base);
    });
  }
  if (base != type) {
    Datum out = to_datum(value, base, base_typmod, is_null);
    guarded([&] { domain_check(out, *is_null, type, nullptr, nullptr); });
    return out;
  }
  if (OidIsValid(element) && (value->IsArray() || value->IsTypedArray())) return array_to_datum(value, element);
  if (OidIsValid(element) && !value->IsString()) throw_js("value is not an Array");
  if (kind == TYPTYPE_COMPOSITE && value->IsObject()) {
    TupleDesc desc = nullptr;
    guarded([&] { desc = lookup_rowtype_tupdesc_copy(type, typmod); });
    HeapTuple tuple = row_to_tuple(value, desc);
    Datum out = 0;
    guarded([&] { out = heap_copy_tuple_as_datum(tuple, desc); });
    return out;
  }
  return input_text(pg_string(value), type, typmod);
}

HeapTuple row_to_tuple(v8::Local<v8::Value> value, TupleDesc desc) {
  if (!value->IsObject()) throw_js("argument must be an object");
  v8::Local<v8::Object> object = value.As<v8::Object>();
  refuse_other_properties(object, desc);
  v8::Local<v8::Context> context = current()->GetCurrentContext();
  Datum* values = static_cast<Datum*>(palloc0(sizeof(Datum) * desc->natts));
  bool* nulls = static_cast<bool*>(palloc0(sizeof(bool) * desc->natts));
  for (int i = 0; i < desc->natts; i++) {
    Form_pg_attribute attribute = TupleDescAttr(desc, i);
    nulls[i] = true;
    if (attribute->attisdropped) continue;
    v8::Local<v8::String> name = js_string(NameStr(attribute->attname));
    bool has = false;
    if (!object->Has(context, name).To(&has)) throw JsPending{};
    if (!has) throw_js("field name / property name mismatch");
    v8::Local<v8::Value> field;
    if (!object->Get(context, name).ToLocal(&field)) throw JsPending{};
    values[i] = to_datum(field, attribute->atttypid, attribute->atttypmod, &nulls[i]);
  }
  HeapTuple tuple = nullptr;
  guarded([&] { tuple = heap_form_tuple(desc, values, nulls); });
  return tuple;
}

}  // namespace host
