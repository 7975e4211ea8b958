// Arrays both ways: nested JavaScript arrays for several dimensions, typed arrays for the plv8_*array domains.
#include "host.h"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/syscache.h"
}

namespace host {

// A domain over arrays that arrives as a typed array, and the class of that.
struct TypedDomain {
  const char* name;
  Oid element;
  int16 width;
  const char* constructor;
};

namespace {

v8::Isolate* current() { return v8::Isolate::GetCurrent(); }

constexpr TypedDomain kTypedDomains[] = {
    {"plv8_int2array", INT2OID, 2, "Int16Array"},      {"plv8_int4array", INT4OID, 4, "Int32Array"},
    {"plv8_int8array", INT8OID, 8, "BigInt64Array"},   {"plv8_float4array", FLOAT4OID, 4, "Float32Array"},
    {"plv8_float8array", FLOAT8OID, 8, "Float64Array"},
};

}  // namespace

const TypedDomain* typed_domain(Oid domain, Oid element) {
  const TypedDomain* found = nullptr;
  guarded([&] {
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(domain));
    if (!HeapTupleIsValid(tuple)) return;
    const char* name = NameStr(reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple))->typname);
    for (const TypedDomain& candidate : kTypedDomains) {
      if (candidate.element == element && strcmp(candidate.name, name) == 0) found = &candidate;
    }
    ReleaseSysCache(tuple);
  });
  return found;
}

v8::Local<v8::Value> typed_array_to_js(Datum value, const TypedDomain& domain) {
  ArrayType* array = nullptr;
  guarded([&] {
    array = DatumGetArrayTypeP(value);
    if (ARR_NDIM(array) > 1 || ARR_HASNULL(array)) {
      ereport(ERROR, (errcode(ERRCODE_ARRAY_ELEMENT_ERROR),
                      errmsg("NULL element, or multi-dimension array not allowed in external array type")));
    }
  });
  int n = ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0];
  v8::Local<v8::Context> context = current()->GetCurrentContext();
  v8::Local<v8::Value> constructor, length = v8::Int32::New(current(), n);
  v8::Local<v8::Object> out;
  if (!js_property(context->Global(), domain.constructor, &constructor) || !constructor->IsFunction() ||
      !constructor.As<v8::Function>()->NewInstance(context, 1, &length).ToLocal(&out) || !out->IsTypedArray()) {
    throw JsPending{};
  }
  v8::Local<v8::TypedArray> view = out.As<v8::TypedArray>();
  view->Buffer();  // moves a small array off the heap
  if (n > 0 && view->ByteLength() >= static_cast<size_t>(n) * domain.width) {
    memcpy(static_cast<char*>(view->Buffer()->Data()) + view->ByteOffset(), ARR_DATA_PTR(array),
           static_cast<size_t>(n) * domain.width);
  }
  return out;
}

v8::Local<v8::Value> array_to_js(Datum value) {
  ArrayType* array = nullptr;
  Oid element = InvalidOid;
  Datum* values = nullptr;
  bool* nulls = nullptr;
  int n = 0;
  guarded([&] {
    array = DatumGetArrayTypeP(value);
    element = ARR_ELEMTYPE(array);
    int16 length;
    bool by_value;
    char align;
    get_typlenbyvalalign(element, &length, &by_value, &align);
    deconstruct_array(array, element, length, by_value, align, &values, &nulls, &n);
  });
  v8::Local<v8::Context> context = current()->GetCurrentContext();
  int dimensions = ARR_NDIM(array);
  bool flat = portable() && dimensions > 1;
  int next = 0;
  // Nested arrays for several dimensions.
  auto build = [&](auto& self, int dimension) -> v8::Local<v8::Array> {
    int length = dimensions == 0 ? 0 : flat ? n : ARR_DIMS(array)[dimension];
    v8::Local<v8::Array> out = v8::Array::New(current(), length);
    for (int i = 0; i < length; i++) {
      v8::HandleScope handles(current());
      v8::Local<v8::Value> item = dimension + 1 < dimensions && !flat ? self(self, dimension + 1).template As<v8::Value>()
                                                             : to_js(values[next], nulls[next], element);
      if (dimension + 1 >= dimensions || flat) next++;
      out->Set(context, i, item).Check();
    }
    return out;
  };
  v8::Local<v8::Array> out = build(build, 0);
  pfree(values);
  pfree(nulls);
  if (reinterpret_cast<Pointer>(array) != DatumGetPointer(value)) pfree(array);
  return out;
}

Datum array_to_datum(v8::Local<v8::Value> value, Oid element) {
  if (value->IsTypedArray()) {
    if (portable()) refuse("a typed array for an array type ends the server there: make it an Array");
    // It is read by index as any other array.
  } else if (!value->IsArray()) {
    throw_js("value is not an Array");
  }
  v8::Local<v8::Context> context = current()->GetCurrentContext();
  std::vector<int> dims;
  auto length_of = [](v8::Local<v8::Value> v) {
    return static_cast<int>(v->IsArray() ? v.As<v8::Array>()->Length() : v.As<v8::TypedArray>()->Length());
  };
  for (v8::Local<v8::Value> level = value; level->IsArray() || level->IsTypedArray();) {
    int length = length_of(level);
    if (dims.size() >= MAXDIM) throw_js("array has more than 6 dimensions");
    if (portable() && !dims.empty()) refuse("an array has one dimension there");
    dims.push_back(length);
    if (length == 0 || element == JSONOID || element == JSONBOID || element == BYTEAOID) break;
    if (!level.As<v8::Object>()->Get(context, 0).ToLocal(&level)) throw JsPending{};
  }
  size_t total = 1;
  for (int dim : dims) total *= static_cast<size_t>(dim);
  if (total > MaxAllocSize / sizeof(Datum)) throw_js("array has too many elements");
  Datum* values = nullptr;
  bool* nulls = nullptr;
  int16 type_length = 0;
  bool by_value = false;
  char align = 'i';
  guarded([&] {
    values = static_cast<Datum*>(palloc(sizeof(Datum) * (total + 1)));
    nulls = static_cast<bool*>(palloc(sizeof(bool) * (total + 1)));
    get_typlenbyvalalign(element, &type_length, &by_value, &align);
  });
  size_t next = 0;
  auto fill = [&](auto& self, v8::Local<v8::Value> level, size_t dimension) -> void {
    if (!(level->IsArray() || level->IsTypedArray()) || length_of(level) != dims[dimension]) {
      throw_js("multidimensional arrays must have sub-arrays of equal length");
    }
    for (int i = 0; i < dims[dimension]; i++) {
      v8::HandleScope handles(current());
      v8::Local<v8::Value> item;
      if (!level.As<v8::Object>()->Get(context, i).ToLocal(&item)) throw JsPending{};
      if (dimension + 1 < dims.size()) {
        self(self, item, dimension + 1);
      } else {
        values[next] = to_datum(item, element, -1, &nulls[next]);
        next++;
      }
    }
  };
  if (total > 0) fill(fill, value, 0);
  Datum out = 0;
  std::vector<int> lower(dims.size(), 1);
  int* dims_data = dims.data();
  int* lower_data = lower.data();
  int n_dims = total == 0 ? 0 : static_cast<int>(dims.size());
  guarded([&] {
    out = PointerGetDatum(
        construct_md_array(values, nulls, n_dims, dims_data, lower_data, element, type_length, by_value, align));
    pfree(values);
    pfree(nulls);
  });
  return out;
}

}  // namespace host
