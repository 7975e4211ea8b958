// What PostgreSQL calls. It goes on to the core, which needs V8 and is loaded for it; but a call that the engine answers needs no
// JavaScript here, and a session that makes no others never loads it.
#include "../engine/engine.h"

extern "C" {
#include "commands/trigger.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT void hartonomous_engine_main(Datum argument);
PG_FUNCTION_INFO_V1(hartonomous_v8_call_handler);
PG_FUNCTION_INFO_V1(hartonomous_v8_inline_handler);
PG_FUNCTION_INFO_V1(hartonomous_v8_validator);
PG_FUNCTION_INFO_V1(hartonomous_v8_inner_product);
PG_FUNCTION_INFO_V1(plv8_version);
PG_FUNCTION_INFO_V1(plv8_reset);
PG_FUNCTION_INFO_V1(plv8_info);
}

namespace host {
namespace {

constexpr char kCore[] = "$libdir/hartonomous_v8/core";
const Core* loaded = nullptr;

using Find = const Core* (*)();

// Where this library is of an older installation it may lack what the core needs of it, which the loader alone finds.
Find find_core() {
  MemoryContext context = CurrentMemoryContext;
  Find volatile found = nullptr;
  PG_TRY();
  { found = reinterpret_cast<Find>(load_external_function(kCore, "hartonomous_v8_core", true, nullptr)); }
  PG_CATCH();
  {
    MemoryContextSwitchTo(context);
    ErrorData* error = CopyErrorData();
    FlushErrorState();
    ereport(ERROR, (errcode(error->sqlerrcode), errmsg("the core of hartonomous_v8 could not be loaded"), errdetail_internal("%s", error->message),
                    errhint("Connect again if hartonomous_v8 was installed anew since this session began.")));
  }
  PG_END_TRY();
  return found;
}

const Core& core() {
  if (loaded != nullptr) return *loaded;
  const Core* found = find_core()();
  // This library was loaded before, and may be of an older installation.
  if (strcmp(found->build, HOST_BUILD) != 0) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("hartonomous_v8 was installed anew since this session began"), errhint("Connect again.")));
  }
  return *(loaded = found);
}

}  // namespace

bool core_is_loaded() { return loaded != nullptr; }

}  // namespace host

using host::core;

extern "C" {

void _PG_init(void) { host::define_settings(); }

Datum hartonomous_v8_call_handler(PG_FUNCTION_ARGS) {
  Datum out;
  if (host::engine::answered_by_engine(fcinfo, &out)) return out;
  return core().call_handler(fcinfo);
}

Datum hartonomous_v8_inline_handler(PG_FUNCTION_ARGS) { return core().inline_handler(fcinfo); }

Datum hartonomous_v8_validator(PG_FUNCTION_ARGS) { return core().validator(fcinfo); }

Datum hartonomous_v8_inner_product(PG_FUNCTION_ARGS) { return core().inner_product(fcinfo); }

Datum plv8_version(PG_FUNCTION_ARGS) { return core().version(fcinfo); }

Datum plv8_reset(PG_FUNCTION_ARGS) { return core().reset(fcinfo); }

Datum plv8_info(PG_FUNCTION_ARGS) { return core().info(fcinfo); }

void hartonomous_engine_main(Datum argument) { core().engine(argument); }
}
