// SQL functions beside the language: plv8_version, plv8_reset, plv8_info.
#include "host.h"

extern "C" {
#include "utils/fmgrprotos.h"
#include "utils/json.h"
}

namespace host {

Datum version(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  PG_RETURN_TEXT_P(cstring_to_text(HOST_VERSION));
}

Datum reset(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  reset_instance(GetUserId());
  PG_RETURN_VOID();
}

Datum info(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  StringInfoData json;
  initStringInfo(&json);
  appendStringInfoChar(&json, '[');
  bool first = true;
  for (const auto& [role, shared] : all_isolates()) {
    StringInfoData user;
    initStringInfo(&user);
    char* name = GetUserNameFromId(role, true);
    escape_json(&user, name == nullptr ? "" : name);
    v8::HeapStatistics heap;
    shared->isolate->GetHeapStatistics(&heap);
    appendStringInfo(&json,
                     "%s{\"user\": %s, \"role\": %u, \"total_heap_size\": %zu, \"used_heap_size\": %zu, \"heap_size_limit\": %zu, "
                     "\"array_buffers\": %zu, \"number_of_native_contexts\": %zu}",
                     first ? "" : ", ", user.data, role, heap.total_heap_size(), heap.used_heap_size(), heap.heap_size_limit(),
                     array_buffer_bytes(shared), heap.number_of_native_contexts());
    first = false;
  }
  appendStringInfoChar(&json, ']');
  PG_RETURN_DATUM(DirectFunctionCall1(json_in, CStringGetDatum(json.data)));
}

}  // namespace host
