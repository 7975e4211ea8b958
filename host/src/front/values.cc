// Values of calls that the engine answers: arguments as JSON, and what the engine says of a result as a datum or as rows.
#include "../engine/engine.h"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/json.h"
#include "utils/tuplestore.h"
}

namespace host::engine {
namespace {

// How a column of a row begins.
constexpr char kIsNull = '-';

bool append_array(StringInfo json, Datum value) {
  ArrayType* array = DatumGetArrayTypeP(value);
  if (ARR_NDIM(array) > 1) return false;
  Datum* elements;
  bool* nulls;
  int count;
  deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
  appendStringInfoChar(json, '[');
  for (int i = 0; i < count; i++) {
    if (i > 0) appendStringInfoChar(json, ',');
    if (nulls[i]) appendStringInfoString(json, "null");
    else escape_json(json, TextDatumGetCString(elements[i]));
  }
  appendStringInfoChar(json, ']');
  return true;
}

}  // namespace

bool is_sent(Oid type) { return type == TEXTOID || type == JSONOID || type == TEXTARRAYOID; }

bool append_argument(StringInfo json, Oid type, const NullableDatum& argument) {
  if (argument.isnull) appendStringInfoString(json, "null");
  else if (type == TEXTARRAYOID) return append_array(json, argument.value);
  else escape_json(json, TextDatumGetCString(argument.value));  // JSON is a text, too
  return true;
}

bool is_received(Oid type) { return type == TEXTOID || type == JSONOID || type == FLOAT4ARRAYOID || type == FLOAT8OID; }

Datum value_of(Oid type, char* text) {
  Oid input, element;
  getTypeInputInfo(type, &input, &element);
  return OidInputFunctionCall(input, text, element, -1);
}

bool can_give_rows(FunctionCallInfo fcinfo) {
  ReturnSetInfo* info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  return info != nullptr && IsA(info, ReturnSetInfo) && (info->allowedModes & SFRM_Materialize) != 0;
}

void Rows::begin(FunctionCallInfo fcinfo) {
  info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  MemoryContext before = MemoryContextSwitchTo(info->econtext->ecxt_per_query_memory);
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "unexpected result type");
  desc = BlessTupleDesc(CreateTupleDescCopy(desc));
  store = tuplestore_begin_heap((info->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
  MemoryContextSwitchTo(before);
  input = TupleDescGetAttInMetadata(desc);
  of_a_row = AllocSetContextCreate(CurrentMemoryContext, "row of an engine's", ALLOCSET_DEFAULT_SIZES);
}

bool Rows::add(char** columns, int count) {
  if (count != desc->natts) return false;
  MemoryContext before = MemoryContextSwitchTo(of_a_row);
  char** texts = static_cast<char**>(palloc(count * sizeof(char*)));
  for (int i = 0; i < count; i++) texts[i] = columns[i][0] == kIsNull ? nullptr : columns[i] + 1;
  tuplestore_puttuple(store, BuildTupleFromCStrings(input, texts));
  MemoryContextSwitchTo(before);
  MemoryContextReset(of_a_row);
  return true;
}

void Rows::give() {
  info->returnMode = SFRM_Materialize;
  info->setResult = store;
  info->setDesc = desc;
}

void Rows::forget() { tuplestore_end(store); }

}  // namespace host::engine
