// The database side of the plv8 object: execute, prepare, cursors, subtransactions.
//
// Every statement runs in a subtransaction of its own, so that an error which JavaScript catches leaves the transaction
// usable. In parallel workers, which can have none, such an error cannot be caught.
#include "host.h"

extern "C" {
#include "nodes/params.h"
#include "parser/parse_param.h"
#include "parser/parse_type.h"
#include "utils/portal.h"
#include "utils/resowner.h"
}

namespace host {

// Parameter types that the parser works out from the statement itself; the plan refers to it as long as it lives.
struct VariableTypes {
  Oid* types = nullptr;
  int count = 0;
};

struct Plan : Handle {
  static constexpr Kind kKind = kPlan;
  Plan() : Handle(kPlan) {}
  SPIPlanPtr plan = nullptr;
  VariableTypes* variable = nullptr;  // of a plan whose parameter types the parser worked out
  std::vector<Oid> types;
  int running = 0;  // executions under way, which may reach free() through SQL
  ~Plan() override;
};

struct Cursor : Handle {
  static constexpr Kind kKind = kCursor;
  Cursor() : Handle(kCursor) {}
  std::string portal;
};

namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

// Run `body` in a subtransaction; whatever it throws rolls the subtransaction back first. `body` guards itself.
template <typename F>
void in_subtransaction(F&& body) {
  if (IsInParallelMode()) {
    if (portable()) refuse("a statement under a parallel plan ends the connection there: label the function parallel unsafe");
    body();
    return;
  }
  MemoryContext context = CurrentMemoryContext;
  ResourceOwner owner = CurrentResourceOwner;
  guarded([&] {
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
  });
  try {
    body();
    guarded([&] {
      ReleaseCurrentSubTransaction();
      MemoryContextSwitchTo(context);
      CurrentResourceOwner = owner;
    });
  } catch (...) {
    guarded([&] {
      RollbackAndReleaseCurrentSubTransaction();
      MemoryContextSwitchTo(context);
      CurrentResourceOwner = owner;
    });
    throw;
  }
}

// What the last SPI call returned, as JavaScript: rows, or the number of rows processed. Frees the tuple table.
v8::Local<v8::Value> result_to_js(int status) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  uint64 processed = SPI_processed;
  SPITupleTable* table = SPI_tuptable;
  if (table == nullptr || !gives_rows(status)) {
    if (table != nullptr) SPI_freetuptable(table);
    return v8::Number::New(isolate, static_cast<double>(processed));
  }
  v8::Local<v8::Array> out;
  try {
    out = v8::Array::New(isolate, static_cast<int>(table->numvals));
    for (uint64 i = 0; i < table->numvals; i++) {
      v8::HandleScope handles(isolate);
      refuse_stored(table->vals[i], table->tupdesc);
      out->Set(context, static_cast<uint32_t>(i), row_to_js(table->vals[i], table->tupdesc)).Check();
    }
  } catch (...) {
    SPI_freetuptable(table);
    throw;
  }
  SPI_freetuptable(table);
  return out;
}

v8::Local<v8::Array> arguments_from(Info info, int first) {
  v8::Isolate* isolate = info.GetIsolate();
  if (info.Length() > first && info[first]->IsArray()) return info[first].As<v8::Array>();
  v8::Local<v8::Array> list = v8::Array::New(isolate);
  for (int i = first; i < info.Length(); i++) list->Set(isolate->GetCurrentContext(), i - first, info[i]).Check();
  return list;
}

struct Parameters {
  Datum* values = nullptr;
  char* nulls = nullptr;
};

Parameters parameters_of(v8::Local<v8::Array> arguments, const Oid* types, int n_types) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  if (static_cast<int>(arguments->Length()) != n_types) {
    throw_js("plan expected " + std::to_string(n_types) + " argument(s), given is " +
             std::to_string(arguments->Length()));
  }
  Parameters out;
  guarded([&] {
    out.values = static_cast<Datum*>(palloc0(sizeof(Datum) * (n_types + 1)));
    out.nulls = static_cast<char*>(palloc0(n_types + 1));
  });
  for (int i = 0; i < n_types; i++) {
    v8::Local<v8::Value> value;
    if (!arguments->Get(isolate->GetCurrentContext(), i).ToLocal(&value)) throw JsPending{};
    bool is_null = true;
    if (OidIsValid(types[i])) out.values[i] = to_datum(value, types[i], -1, &is_null);
    out.nulls[i] = is_null ? 'n' : ' ';
  }
  return out;
}

// PL/V8 converts the parameters of a plan outside of any error handling.
Parameters plan_parameters_of(v8::Local<v8::Array> arguments, const std::vector<Oid>& types) {
  try {
    return parameters_of(arguments, types.data(), static_cast<int>(types.size()));
  } catch (const PgError& error) {
    if (!portable()) throw;
    refuse((std::string("a parameter of a plan that cannot be converted leaves V8's frames by a jump there: ") + error.edata->message).c_str());
  }
}

void variable_types_setup(ParseState* pstate, void* arg) {
  VariableTypes* variable = static_cast<VariableTypes*>(arg);
  setup_parse_variable_parameters(pstate, &variable->types, &variable->count);
}

// All the memory that one statement takes beside its result.
class Scratch {
 public:
  Scratch() {
    context_ = AllocSetContextCreate(CurrentMemoryContext, "plv8 statement", ALLOCSET_SMALL_SIZES);
    old_ = MemoryContextSwitchTo(context_);
  }
  ~Scratch() {
    MemoryContextSwitchTo(old_);
    MemoryContextDelete(context_);
  }

 private:
  MemoryContext context_, old_;
};

// Prepare `sql` with the parameter types that the parser works out. The parser enlarges `types` with repalloc, so the
// first allocation, made here, decides in which memory context they live.
SPIPlanPtr prepare_variable(const char* sql, VariableTypes* variable, MemoryContext context) {
  SPIPlanPtr plan = nullptr;
  guarded([&] {
    variable->types = static_cast<Oid*>(MemoryContextAllocZero(context, sizeof(Oid)));
    plan = SPI_prepare_params(sql, variable_types_setup, variable, 0);
    if (plan == nullptr) elog(ERROR, "statement could not be prepared: %s", SPI_result_code_string(SPI_result));
  });
  return plan;
}

std::vector<Oid> types_of(const VariableTypes& variable) {
  std::vector<Oid> types(variable.types, variable.types + variable.count);
  for (Oid& type : types) {
    if (type == UNKNOWNOID || !OidIsValid(type)) type = TEXTOID;
  }
  return types;
}

ParamListInfo parameter_list(const Parameters& parameters, const std::vector<Oid>& types) {
  ParamListInfo list = makeParamList(static_cast<int>(types.size()));
  for (size_t i = 0; i < types.size(); i++) {
    list->params[i].value = parameters.values[i];
    list->params[i].isnull = parameters.nulls[i] == 'n';
    list->params[i].pflags = PARAM_FLAG_CONST;
    list->params[i].ptype = types[i];
  }
  return list;
}

void check_status(int status) {
  if (status < 0) elog(ERROR, "statement failed: %s", SPI_result_code_string(status));
}

void execute_callback(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 1) throw_js("plv8.execute needs the text of a statement");
    Scratch scratch;
    char* sql = pg_string(info[0]);
    v8::Local<v8::Array> arguments = arguments_from(info, 1);
    in_subtransaction([&] {
      int status = 0;
      if (arguments->Length() == 0) {
        guarded([&] { check_status(status = SPI_execute(sql, false, 0)); });
      } else {
        VariableTypes variable;
        SPIPlanPtr plan = prepare_variable(sql, &variable, CurrentMemoryContext);
        std::vector<Oid> types = types_of(variable);
        if (arguments->Length() != types.size()) {
          throw_js("parameter numbers mismatch: " + std::to_string(types.size()) + " != " + std::to_string(arguments->Length()));
        }
        Parameters parameters = parameters_of(arguments, types.data(), static_cast<int>(types.size()));
        guarded([&] {
          check_status(status = SPI_execute_plan_with_paramlist(plan, parameter_list(parameters, types), false, 0));
          SPI_freeplan(plan);
        });
      }
      info.GetReturnValue().Set(result_to_js(status));
    });
  });
}

Plan* plan_of(Info info) {
  Plan* plan = handle_of<Plan>(info, "not a plan");
  if (plan->plan == nullptr) throw_js("plan expected -1 argument(s), given is " + std::to_string(arguments_from(info, 0)->Length()));
  return plan;
}

// Marks a plan as running for a scope.
struct PlanInUse {
  explicit PlanInUse(Plan* p) : plan(p) { plan->running++; }
  ~PlanInUse() { plan->running--; }
  Plan* plan;
};

void plan_execute(Info info) {
  callback_body(info, [&] {
    Plan* plan = plan_of(info);
    v8::Local<v8::Array> arguments = arguments_from(info, 0);
    Scratch scratch;
    PlanInUse in_use(plan);
    in_subtransaction([&] {
      Parameters parameters = plan_parameters_of(arguments, plan->types);
      int status = 0;
      guarded([&] {
        if (plan->variable != nullptr) {
          status = SPI_execute_plan_with_paramlist(plan->plan, parameter_list(parameters, plan->types), false, 0);
        } else {
          status = SPI_execute_plan(plan->plan, parameters.values, parameters.nulls, false, 0);
        }
        check_status(status);
      });
      info.GetReturnValue().Set(result_to_js(status));
    });
  });
}

void release_plan(Plan* plan) {
  if (plan->plan != nullptr) SPI_freeplan(plan->plan);
  plan->plan = nullptr;
  if (plan->variable != nullptr) {
    if (plan->variable->types != nullptr) pfree(plan->variable->types);
    delete plan->variable;
  }
  plan->variable = nullptr;
}

}  // namespace

Plan::~Plan() { release_plan(this); }

namespace {

void plan_free(Info info) {
  callback_body(info, [&] {
    Plan* plan = handle_of<Plan>(info, "not a plan");
    if (plan->running > 0) throw_js("plan is running and cannot be freed");
    guarded([&] { release_plan(plan); });
    info.GetReturnValue().Set(0);
  });
}

Cursor* cursor_of(Info info) {
  return handle_of<Cursor>(info, "cannot find cursor");
}

Portal portal_of(Cursor* cursor) {
  Portal portal = SPI_cursor_find(cursor->portal.c_str());
  if (portal == nullptr) throw_js("cannot find cursor");
  return portal;
}

long count_argument(Info info, long otherwise) {
  if (info.Length() < 1 || info[0]->IsUndefined()) return otherwise;
  double count;
  if (!info[0]->NumberValue(info.GetIsolate()->GetCurrentContext()).To(&count)) throw JsPending{};
  return static_cast<long>(count);
}

void cursor_fetch(Info info) {
  callback_body(info, [&] {
    Portal portal = portal_of(cursor_of(info));
    bool one = info.Length() < 1;
    long count = count_argument(info, 1);
    Scratch scratch;
    in_subtransaction([&] {
      try {
        guarded([&] { SPI_cursor_fetch(portal, count >= 0, count >= 0 ? count : -count); });
      } catch (const PgError& error) {
        if (!portable()) throw;
        refuse((std::string("an error in a cursor's fetch ends the server there: ") + error.edata->message).c_str());
      }
      uint64 processed = SPI_processed;
      v8::Local<v8::Value> rows = result_to_js(SPI_OK_FETCH);
      if (processed == 0) return;  // undefined at the end, as PL/V8 has it
      if (one && !rows.As<v8::Array>()->Get(info.GetIsolate()->GetCurrentContext(), 0).ToLocal(&rows)) throw JsPending{};
      info.GetReturnValue().Set(rows);
    });
  });
}

void cursor_move(Info info) {
  callback_body(info, [&] {
    Portal portal = portal_of(cursor_of(info));
    long count = count_argument(info, 0);
    if (count == 0) return;
    in_subtransaction([&] { guarded([&] { SPI_cursor_move(portal, count >= 0, count >= 0 ? count : -count); }); });
  });
}

void cursor_close(Info info) {
  callback_body(info, [&] {
    Portal portal = portal_of(cursor_of(info));
    guarded([&] { SPI_cursor_close(portal); });
    info.GetReturnValue().Set(1);
  });
}

void plan_cursor(Info info) {
  callback_body(info, [&] {
    Plan* plan = plan_of(info);
    v8::Local<v8::Array> arguments = arguments_from(info, 0);
    std::string name;
    {
      Scratch scratch;
      PlanInUse in_use(plan);
      in_subtransaction([&] {
        Parameters parameters = plan_parameters_of(arguments, plan->types);
        Portal portal = nullptr;
        guarded([&] {
          portal = plan->variable != nullptr
                       ? SPI_cursor_open_with_paramlist(nullptr, plan->plan, parameter_list(parameters, plan->types), false)
                       : SPI_cursor_open(nullptr, plan->plan, parameters.values, parameters.nulls, false);
        });
        name = portal->name;
      });
    }
    Cursor* cursor = new Cursor;
    cursor->portal = name;
    v8::Local<v8::Object> object = handle_for(cursor);
    v8::Local<v8::Context> context = info.GetIsolate()->GetCurrentContext();
    set_member(context, object, "fetch", cursor_fetch);
    set_member(context, object, "move", cursor_move);
    set_member(context, object, "close", cursor_close);
    info.GetReturnValue().Set(object);
  });
}

void prepare_callback(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 1) throw_js("plv8.prepare needs the text of a statement");
    v8::Local<v8::Context> context = info.GetIsolate()->GetCurrentContext();
    Scratch scratch;
    char* sql = pg_string(info[0]);
    v8::Local<v8::Array> names = arguments_from(info, 1);
    for (uint32_t i = 0; i < names->Length(); i++) {
      if (!names->Has(context, i).FromMaybe(false)) throw_js("type name " + std::to_string(i + 1) + " is missing");
    }
    std::vector<Oid> types(names->Length());
    for (uint32_t i = 0; i < names->Length(); i++) {
      v8::Local<v8::Value> name;
      if (!names->Get(context, i).ToLocal(&name)) throw JsPending{};
      char* text = pg_string(name);
      guarded([&] { types[i] = type_named(text); });
    }
    SPIPlanPtr prepared = nullptr;
    int n_types = static_cast<int>(types.size());
    Oid* type_data = types.data();
    VariableTypes* variable = n_types == 0 ? new VariableTypes : nullptr;
    try {
      in_subtransaction([&] {
        if (variable != nullptr) prepared = prepare_variable(sql, variable, TopMemoryContext);
        guarded([&] {
          if (variable == nullptr) prepared = SPI_prepare(sql, n_types, type_data);
          if (prepared == nullptr) {
            elog(ERROR, "statement could not be prepared: %s", SPI_result_code_string(SPI_result));
          }
          SPI_keepplan(prepared);
        });
      });
    } catch (...) {
      if (variable != nullptr && variable->types != nullptr) pfree(variable->types);
      delete variable;
      throw;
    }
    if (variable != nullptr) types = types_of(*variable);
    Plan* plan = new Plan;
    plan->plan = prepared;
    plan->variable = variable;
    plan->types = types;
    v8::Local<v8::Object> object = handle_for(plan);
    set_member(context, object, "execute", plan_execute);
    set_member(context, object, "cursor", plan_cursor);
    set_member(context, object, "free", plan_free);
    info.GetReturnValue().Set(object);
  });
}

void subtransaction_callback(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 1 || !info[0]->IsFunction()) throw_js("plv8.subtransaction needs a function");
    MemoryContext memory = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    guarded([&] {
      BeginInternalSubTransaction(nullptr);
      MemoryContextSwitchTo(memory);
    });
    v8::Local<v8::Context> context = info.GetIsolate()->GetCurrentContext();
    v8::Local<v8::Value> result;
    bool ok = info[0].As<v8::Function>()->Call(context, context->Global(), 0, nullptr).ToLocal(&result);
    guarded([&] {
      if (ok) {
        ReleaseCurrentSubTransaction();
      } else {
        RollbackAndReleaseCurrentSubTransaction();
      }
      MemoryContextSwitchTo(memory);
      CurrentResourceOwner = owner;
    });
    if (!ok) throw JsPending{};
    info.GetReturnValue().Set(result);
  });
}

}  // namespace

void install_spi(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  set_member(context, plv8, "execute", execute_callback, kPlv8Member);
  set_member(context, plv8, "prepare", prepare_callback, kPlv8Member);
  set_member(context, plv8, "subtransaction", subtransaction_callback, kPlv8Member);
}

}  // namespace host
