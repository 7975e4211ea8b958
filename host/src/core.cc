// The library that needs V8, as the front finds it.
#include "engine/engine.h"

extern "C" {
PG_MODULE_MAGIC;

PGDLLEXPORT const host::Core* hartonomous_v8_core(void);

const host::Core* hartonomous_v8_core(void) {
  using namespace host;
  static const Core core = {HOST_BUILD, call_handler, inline_handler, validator, version, reset, info, inner_product, engine::run_engine};
  return &core;
}
}
