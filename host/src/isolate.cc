// V8 itself, one isolate per role, and the functions compiled in each.
#include "host.h"

#include <libplatform/libplatform.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

extern "C" {
#include "catalog/pg_proc.h"
#include "utils/syscache.h"
}

namespace host {
namespace {

// Heap granted above plv8.memory_limit when it is reached, so that JavaScript can be unwound: built-in functions look for
// the termination only when they are done, and the largest array they may be making (2^27 elements) and its copy have to
// fit. Where this is used up as well, V8 cannot be left but by ending the session.
constexpr size_t kHeapReserve = size_t{2304} << 20;
// Freed ArrayBuffers of these sizes are kept for the next one: the first touch of a fresh page is what costs.
constexpr size_t kLeastPooled = size_t{256} << 10;
constexpr size_t kMostPooled = size_t{8} << 20;
constexpr size_t kPoolBytes = size_t{64} << 20;

}  // namespace

// Counts ArrayBuffers against plv8.memory_limit; V8 collects garbage and asks again before it gives up.
// V8 frees buffers on a thread of its own, too.
class CountingAllocator : public v8::ArrayBuffer::Allocator {
 public:
  explicit CountingAllocator(size_t limit) : limit_(limit) {}
  ~CountingAllocator() override {
    for (const Block& block : pool_) free(block.data);
  }
  void* Allocate(size_t length) override {
    refused_ = !take(length);
    if (refused_) return nullptr;
    void* data = from_pool(length);
    if (data != nullptr) return memset(data, 0, length);
    return give(calloc(length, 1), length);
  }
  void* AllocateUninitialized(size_t length) override {
    refused_ = !take(length);
    if (refused_) return nullptr;
    void* data = from_pool(length);
    return data != nullptr ? data : give(malloc(length), length);
  }
  void Free(void* data, size_t length) override {
    if (!to_pool(data, length)) free(data);
    used_ -= length;
  }
  size_t used() const { return used_; }
  // The last request was refused: V8 is collecting garbage before it asks again.
  bool refused() const { return refused_; }
  void forget_refusal() { refused_ = false; }

 private:
  bool take(size_t length) {
    if (length > limit_ || used_.fetch_add(length) + length > limit_) {
      if (length <= limit_) used_ -= length;
      return false;
    }
    return true;
  }
  void* give(void* data, size_t length) {
    if (data == nullptr) used_ -= length;
    return data;
  }
  struct Block {
    void* data;
    size_t length;
  };
  void* from_pool(size_t length) {
    if (length < kLeastPooled || length > kMostPooled) return nullptr;
    std::lock_guard<std::mutex> lock(mutex_);
    for (Block& block : pool_) {
      if (block.length != length) continue;
      void* data = block.data;
      block = pool_.back();
      pool_.pop_back();
      pooled_ -= length;
      return data;
    }
    return nullptr;
  }
  bool to_pool(void* data, size_t length) {
    if (length < kLeastPooled || length > kMostPooled) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    if (pooled_ + length > kPoolBytes) return false;
    pool_.push_back({data, length});
    pooled_ += length;
    return true;
  }
  const size_t limit_;
  std::atomic<size_t> used_{0};
  bool refused_ = false;
  std::mutex mutex_;
  std::vector<Block> pool_;
  size_t pooled_ = 0;
};

namespace {

std::map<Oid, RoleIsolate*>* isolates = nullptr;                        // by role
std::map<std::pair<Oid, std::string>, Instance*>* instances = nullptr;  // by role and plv8.context
uint64 uses = 0;  // a clock for Instance::last_use
Instance* running = nullptr;
v8::Platform* platform = nullptr;

// Worker threads of V8 are alive when the backend exits; leaving without static destructors keeps them from touching
// what those would have destroyed. PostgreSQL's own exit callbacks have run by then.
void leave(int status, void*) {
  fflush(nullptr);
  _exit(status);
}

// V8 cannot go on after these and would abort, which makes the postmaster restart every session. Ending only this
// session is left: FATAL leaves through proc_exit and never returns into V8's frames.
void out_of_memory_handler(const char* where, bool) {
  if (syscall(SYS_gettid) != getpid()) return;
  ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory in V8: %s", where)));
}

void fatal_error_handler(const char* where, const char* message) {
  if (syscall(SYS_gettid) != getpid()) return;
  ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("V8 cannot go on: %s: %s", where, message)));
}

// V8 stops with a trap instruction where an object would be larger than it can represent ('1'.repeat(0x7ffffff).split('')
// is one). That ends this session only; a trap anywhere else does what it always did.
void on_trap(int number, siginfo_t*, void*) {
  if (running != nullptr && syscall(SYS_gettid) == getpid()) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    pthread_sigmask(SIG_UNBLOCK, &mask, nullptr);
    signal(number, SIG_DFL);
    ereport(FATAL, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("V8 cannot go on: an object would be too large")));
  }
  signal(number, SIG_DFL);
  raise(number);
}

// Code outside WebAssembly has written to a mapped segment, or a segment's file was cut short: the session ends, the server
// and other sessions go on. WebAssembly's own stores are V8's to turn into traps; any other fault does what it always did.
void on_fault(int number, siginfo_t* info, void*) {
  if (running != nullptr && syscall(SYS_gettid) == getpid() && is_mapped(info->si_addr)) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    pthread_sigmask(SIG_UNBLOCK, &mask, nullptr);
    signal(number, SIG_DFL);
    ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("memory of a shared segment was written to or is gone")));
  }
  signal(number, SIG_DFL);  // and the instruction is run again
}

void start_v8() {
  static bool started = false;
  if (started) return;
  started = true;
  // Signals belong to the backend's own thread: V8's threads are born with all of them blocked.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  v8::V8::SetFlagsFromString("--stack-size=900");
  if (v8_flags != nullptr && v8_flags[0] != '\0') v8::V8::SetFlagsFromString(v8_flags);
  // Lives as long as the process.
  platform = v8::platform::NewDefaultPlatform(1).release();
  v8::V8::InitializePlatform(platform);
  v8::V8::Initialize();
  struct sigaction fault = {};
  fault.sa_sigaction = on_fault;
  fault.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &fault, nullptr);
  sigaction(SIGSEGV, &fault, nullptr);  // V8 takes its place and gives back what is not a trap
  v8::V8::EnableWebAssemblyTrapHandler(true);
  struct sigaction trap = {};
  trap.sa_sigaction = on_trap;
  trap.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &trap, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  on_exit(leave, nullptr);
  register_builtins();
  isolates = new std::map<Oid, RoleIsolate*>;
  instances = new std::map<std::pair<Oid, std::string>, Instance*>;
}

void end_out_of_memory(RoleIsolate* shared) {
  shared->out_of_memory = true;
  shared->limit_raised = true;
  shared->isolate->TerminateExecution();
}

size_t near_heap_limit(void* data, size_t current, size_t) {
  RoleIsolate* shared = static_cast<RoleIsolate*>(data);
  end_out_of_memory(shared);
  return std::max(current, shared->heap_limit + kHeapReserve);
}

// V8's last collection before it gives up on one large object; it does not call near_heap_limit for that.
void after_collection(v8::Isolate* isolate, v8::GCType, v8::GCCallbackFlags flags, void* data) {
  RoleIsolate* shared = static_cast<RoleIsolate*>(data);
  constexpr int kForBuffers = v8::kGCCallbackFlagCollectAllExternalMemory | v8::kGCCallbackFlagForced;
  if (!(flags & v8::kGCCallbackFlagCollectAllAvailableGarbage) || (flags & kForBuffers)) return;
  if (running == nullptr || running->shared != shared || shared->allocator->refused()) return;
  end_out_of_memory(shared);
  isolate->IncreaseHeapLimitForDebugging();  // to four times what the isolate was made with: see make_isolate
}

// Take back what was granted beyond the limit, or what of it is not in use any more.
void restore_heap_limit(RoleIsolate* shared) {
  v8::Isolate::Scope scope(shared->isolate);
  shared->isolate->LowMemoryNotification();
  shared->isolate->RemoveNearHeapLimitCallback(near_heap_limit, shared->heap_limit);
  shared->isolate->AddNearHeapLimitCallback(near_heap_limit, shared);
  v8::HeapStatistics heap;
  shared->isolate->GetHeapStatistics(&heap);
  shared->limit_raised = heap.used_heap_size() > shared->heap_limit;
}

v8::ModifyCodeGenerationFromStringsResult allow_eval(v8::Local<v8::Context>, v8::Local<v8::Value> source, bool) {
  bool allowed = max_eval_size < 0 || (source->IsString() && max_eval_size > 0 &&
                                       source.As<v8::String>()->Length() <= max_eval_size);
  return {allowed, {}};
}

RoleIsolate* make_isolate() {
  RoleIsolate* shared = new RoleIsolate;
  size_t limit = static_cast<size_t>(memory_limit_mb) << 20;
  shared->allocator = new CountingAllocator(limit);
  v8::Isolate::CreateParams params;
  params.array_buffer_allocator = shared->allocator;
  v8::ResourceConstraints& heap = params.constraints;
  heap.ConfigureDefaultsFromHeapSize(0, limit);
  shared->heap_limit = heap.max_old_generation_size_in_bytes();
  // Made with a greater limit, which is lowered at once: after_collection can ask V8 for four times of it only.
  heap.set_initial_old_generation_size_in_bytes(shared->heap_limit / 2);
  heap.set_max_old_generation_size_in_bytes(std::max(shared->heap_limit, (shared->heap_limit + kHeapReserve) / 4));
  params.allow_atomics_wait = false;  // a wait would block the backend where no cancel reaches it
  v8::Isolate* isolate = v8::Isolate::New(params);
  shared->isolate = isolate;
  isolate->SetOOMErrorHandler(out_of_memory_handler);
  isolate->SetFatalErrorHandler(fatal_error_handler);
  isolate->AddNearHeapLimitCallback(near_heap_limit, shared);
  isolate->AddGCEpilogueCallback(after_collection, shared, v8::kGCTypeMarkSweepCompact);
  isolate->SetModifyCodeGenerationFromStringsCallback(allow_eval);
  restore_heap_limit(shared);
  v8::Isolate::Scope isolate_scope(isolate);
  v8::HandleScope handles(isolate);
  v8::Local<v8::Context> context = v8::Context::New(isolate);
  v8::Context::Scope context_scope(context);
  v8::Local<v8::ObjectTemplate> handle_template = v8::ObjectTemplate::New(isolate);
  handle_template->SetInternalFieldCount(1);
  shared->handle_template.Reset(isolate, handle_template);
  v8::Local<v8::Script> endless =
      v8::Script::Compile(context, v8::String::NewFromUtf8Literal(isolate, "(function () { for (;;) {} })"))
          .ToLocalChecked();
  shared->endless.Reset(isolate, endless->Run(context).ToLocalChecked().As<v8::Function>());
  shared->own_context.Reset(isolate, context);
  return shared;
}

Instance* make_instance(Oid role) {
  start_v8();
  RoleIsolate*& shared = (*isolates)[role];
  if (shared == nullptr) shared = make_isolate();
  v8::Isolate* isolate = shared->isolate;
  Instance* instance = new Instance;
  instance->shared = shared;
  instance->isolate = isolate;
  v8::Isolate::Scope isolate_scope(isolate);
  v8::HandleScope handles(isolate);
  v8::ExtensionConfiguration extensions(1, &kBuiltins);
  v8::Local<v8::Context> context = v8::Context::New(isolate, &extensions);
  v8::Context::Scope context_scope(context);
  context->AllowCodeGenerationFromStrings(false);
  install_plv8_object(context, context->Global());
  // V8 puts a console without an output there; PL/V8 has none.
  context->Global()->Delete(context, v8::String::NewFromUtf8Literal(isolate, "console")).Check();
  instance->context.Reset(isolate, context);
  return instance;
}

void drop(Instance* instance) {
  instance->functions.clear();
  instance->context.Reset();
  delete instance;
}

void drop(RoleIsolate* shared) {
  shared->handle_template.Reset();
  shared->endless.Reset();
  shared->own_context.Reset();
  shared->isolate->Dispose();
  delete shared->allocator;
  delete shared;
}

// Keep at most plv8.context_cache_size named contexts of a role: make room for one more.
void drop_oldest_context(Oid role) {
  if (running != nullptr) return;
  auto oldest = instances->end();
  int count = 0;
  for (auto i = instances->begin(); i != instances->end(); ++i) {
    if (i->first.first != role || i->first.second.empty()) continue;
    count++;
    if (oldest == instances->end() || i->second->last_use < oldest->second->last_use) oldest = i;
  }
  if (count < context_cache_size || oldest == instances->end()) return;
  RoleIsolate* shared = oldest->second->shared;
  drop(oldest->second);
  instances->erase(oldest);
  v8::Isolate::Scope scope(shared->isolate);
  shared->isolate->ContextDisposedNotification(false);
  shared->isolate->LowMemoryNotification();  // the context and all that hung on it
}

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

Instance* current_instance() { return running; }

bool javascript_is_running() { return running != nullptr; }

Instance* instance_of_current_role() {
  std::pair<Oid, std::string> key(GetUserId(), context_name == nullptr ? "" : context_name);
  if (instances != nullptr) {
    auto found = instances->find(key);
    if (found != instances->end()) {
      found->second->last_use = ++uses;
      return found->second;
    }
    if (!key.second.empty()) drop_oldest_context(key.first);
  }
  Instance* instance = make_instance(key.first);
  instance->last_use = ++uses;
  (*instances)[key] = instance;
  return instance;
}

std::vector<std::pair<Oid, RoleIsolate*>> all_isolates() {
  if (isolates == nullptr) return {};
  return {isolates->begin(), isolates->end()};
}

void reset_instances() {
  if (instances == nullptr || running != nullptr) return;
  for (auto& [key, instance] : *instances) drop(instance);
  instances->clear();
  for (auto& [role, shared] : *isolates) drop(shared);
  isolates->clear();
}

size_t array_buffer_bytes(RoleIsolate* shared) { return shared->allocator->used(); }

Running::Running(Instance* instance) : previous_(running) {
  running = instance;
  instance->shared->allocator->forget_refusal();
  watch_begin(instance->isolate, previous_ == nullptr);
}

Running::~Running() {
  RoleIsolate* shared = running->shared;
  running = previous_;
  watch_end(previous_ == nullptr ? nullptr : previous_->isolate);
  if (previous_ == nullptr && shared->limit_raised) restore_heap_limit(shared);
}

v8::Local<v8::Function> compile(Instance* instance, const std::string& name, const std::vector<std::string>& arguments,
                                const char* source) {
  v8::Isolate* isolate = instance->isolate;
  v8::EscapableHandleScope handles(isolate);
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  std::vector<v8::Local<v8::String>> names;
  for (const std::string& argument : arguments) names.push_back(js_string(argument));
  v8::ScriptOrigin origin(isolate, js_string(name));
  v8::ScriptCompiler::Source text(js_string(source), origin);
  v8::TryCatch caught(isolate);
  v8::Local<v8::Function> function;
  if (!v8::ScriptCompiler::CompileFunctionInContext(context, &text, names.size(), names.data(), 0, nullptr)
           .ToLocal(&function)) {
    if (!caught.HasCaught()) throw_js("an argument name of " + name + " is a reserved word of JavaScript");
    caught.ReThrow();
    throw JsPending{};
  }
  function->SetName(js_string(name));
  return handles.Escape(function);
}

void end_javascript(Instance* instance) {
  v8::Isolate* isolate = instance->isolate;
  isolate->TerminateExecution();
  // V8 looks at the request only where JavaScript loops or calls: do both, so that nothing runs after this.
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::MaybeLocal<v8::Value> never = instance->shared->endless.Get(isolate)->Call(context, context->Global(), 0, nullptr);
  static_cast<void>(never);
}

void run_v8_tasks(Instance* instance) {
  while (v8::platform::PumpMessageLoop(platform, instance->isolate)) {
  }
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
  v8::Local<v8::Function> function = compile(instance, name, arguments, source);
  Compiled& slot = instance->functions[oid];
  slot.xmin = xmin;
  slot.tid = tid;
  slot.function.Reset(isolate, function);
  return function;
}

}  // namespace host
