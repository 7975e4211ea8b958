// The functions compiled in an isolate.
#include "host.h"

#include <algorithm>

extern "C" {
#include "catalog/pg_proc.h"
#include "utils/syscache.h"
}

namespace host {
namespace {

bool is_identifier(const char* name) {
  if (name == nullptr || name[0] == '\0') return false;
  auto starts = [](char c) { return isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$' || (c & 0x80); };
  if (!starts(name[0])) return false;
  for (const char* p = name; *p; p++) {
    if (!starts(*p) && !isdigit(static_cast<unsigned char>(*p))) return false;
  }
  return true;
}

}  // namespace

v8::Local<v8::Function> compile(Instance* instance, const std::string& name, const std::vector<std::string>& arguments,
                                const char* source, v8::ScriptCompiler::CachedData* code, bool* refused) {
  v8::Isolate* isolate = instance->isolate;
  v8::EscapableHandleScope handles(isolate);
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  std::vector<v8::Local<v8::String>> names;
  for (const std::string& argument : arguments) names.push_back(js_string(argument));
  v8::ScriptOrigin origin = script_origin(js_string(name));
  v8::ScriptCompiler::Source text(js_string(source), origin, code);
  v8::TryCatch caught(isolate);
  v8::Local<v8::Function> function;
  if (!v8::ScriptCompiler::CompileFunction(context, &text, names.size(), names.data(), 0, nullptr,
                                           code == nullptr ? v8::ScriptCompiler::kNoCompileOptions
                                                           : v8::ScriptCompiler::kConsumeCodeCache)
           .ToLocal(&function)) {
    if (!caught.HasCaught()) throw_js("an argument name of " + name + " is a reserved word of JavaScript");
    caught.ReThrow();
    throw JsPending{};
  }
  if (code != nullptr && code->rejected && refused != nullptr) *refused = true;
  function->SetName(js_string(name));
  return handles.Escape(function);
}

v8::Local<v8::Function> compiled_function(Instance* instance, Oid oid) {
  v8::Isolate* isolate = instance->isolate;
  HeapTuple tuple = nullptr;
  char* source = nullptr;
  char* name = nullptr;
  char** names = nullptr;
  Oid* types = nullptr;
  char* modes = nullptr;
  int n_all = 0;
  guarded([&] {
    tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", oid);
  });
  Form_pg_proc row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
  TransactionId xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
  ItemPointerData tid = tuple->t_self;
  Compiled& known = instance->functions[oid];
  if (!known.function.IsEmpty() && known.xmin == xmin && ItemPointerEquals(&known.tid, &tid)) {
    ReleaseSysCache(tuple);  // cannot fail for a tuple that is held
    return known.function.Get(isolate);
  }
  bool trigger = row->prorettype == TRIGGEROID || row->prorettype == EVENT_TRIGGEROID;
  Oid owner = row->proowner;
  guarded([&] {
    bool is_null;
    Datum body = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
    source = is_null ? pstrdup("") : TextDatumGetCString(body);
    name = pstrdup(NameStr(row->proname));
    n_all = get_func_arg_info(tuple, &types, &names, &modes);
    ReleaseSysCache(tuple);
  });
  std::vector<std::string> arguments;
  if (trigger) {
    arguments = {"NEW",           "OLD",           "TG_NAME", "TG_WHEN", "TG_LEVEL", "TG_OP", "TG_RELID",
                 "TG_TABLE_NAME", "TG_TABLE_SCHEMA", "TG_ARGV"};
  } else {
    for (int i = 0; i < n_all; i++) {
      char mode = modes == nullptr ? PROARGMODE_IN : modes[i];
      if (mode == PROARGMODE_OUT || mode == PROARGMODE_TABLE) continue;
      const char* argument = names == nullptr ? nullptr : names[i];
      arguments.push_back(is_identifier(argument) ? argument : "$" + std::to_string(arguments.size() + 1));
    }
  }
  bool shared = arguments.empty() && code_is_shared(owner, source);
  std::string code = shared ? shared_code(name, source) : std::string();
  bool refused = code.empty();
  v8::Local<v8::Function> function = compile(instance, name, arguments, source, cached_data(code), &refused);
  std::vector<NewCode>& fresh = instance->new_code;
  fresh.erase(std::remove_if(fresh.begin(), fresh.end(), [&](const NewCode& of) { return of.function == oid; }), fresh.end());
  if (shared) {
    guarded([&] { ereport(DEBUG1, (errmsg_internal("code of %s: %s", name, refused ? "compiled" : "taken from a file"))); });
    if (refused) fresh.push_back({oid, name, source});
  }
  Compiled& slot = instance->functions[oid];
  slot.xmin = xmin;
  slot.tid = tid;
  slot.function.Reset(isolate, function);
  return function;
}

}  // namespace host
