// V8 itself and one isolate per role.
#include "allocator.h"
#include "kernels/pool.h"

#include <libplatform/libplatform.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>

namespace host {
namespace {

// Heap granted above plv8.memory_limit when it is reached, so that JavaScript can be unwound: built-in functions look for
// the termination only when they are done, and the largest array they may be making (2^27 elements) and its copy have to
// fit. Where this is used up as well, V8 cannot be left but by ending the session.
constexpr size_t kHeapReserve = size_t{2304} << 20;
// Rejected promises of one call that are warned of.
constexpr size_t kMostRejections = 100;

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
void out_of_memory_handler(const char* where, OutOfMemoryDetails) {
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
    ereport(FATAL, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("V8 cannot go on: it found no memory, or an object would be too large")));
  }
  signal(number, SIG_DFL);
  raise(number);
}

// Code outside WebAssembly has written to a mapped segment, or a segment's file was cut short: the session ends, the server
// and other sessions go on. WebAssembly's own stores are V8's to turn into traps; any other fault does what it always did.
void on_fault(int number, siginfo_t* info, void*) {
  if (is_mapped(info->si_addr)) kernels::leave_faulted_part();
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
  latch_portable();
  // Signals belong to the backend's own thread: V8's threads are born with all of them blocked.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  v8::V8::SetFlagsFromString("--stack-size=900");
  if (v8_flags != nullptr && v8_flags[0] != '\0') v8::V8::SetFlagsFromString(v8_flags);
  // Both live as long as the process.
  platform = v8::platform::NewDefaultPlatform(1).release();
  v8::V8::InitializePlatform(limited_platform(platform));
  v8::V8::Initialize();
  struct sigaction fault = {};
  fault.sa_sigaction = on_fault;
  fault.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &fault, nullptr);
  sigaction(SIGSEGV, &fault, nullptr);  // V8 takes its place and gives back what is not a trap
  if (!portable()) v8::V8::EnableWebAssemblyTrapHandler(true);
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

// Keeps what nobody handles; V8 tells of a handler that came later.
void on_rejection(v8::PromiseRejectMessage data) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  if (running == nullptr) return;
  std::vector<Rejection>& rejections = running->shared->rejections;
  v8::Local<v8::Promise> promise = data.GetPromise();
  if (data.GetEvent() == v8::kPromiseHandlerAddedAfterReject) {
    rejections.erase(std::remove_if(rejections.begin(), rejections.end(), [&](Rejection& r) { return r.promise == promise; }),
                     rejections.end());
  } else if (data.GetEvent() == v8::kPromiseRejectWithNoHandler && rejections.size() < kMostRejections) {
    v8::HandleScope handles(isolate);
    v8::Local<v8::Value> exception = data.GetValue();
    rejections.push_back({v8::Global<v8::Promise>(isolate, promise), v8::Global<v8::Value>(isolate, exception),
                          v8::Global<v8::Message>(isolate, v8::Exception::CreateMessage(isolate, exception))});
  }
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
  isolate->SetPromiseRejectCallback(on_rejection);
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
  if (shared == nullptr) {
    shared = make_isolate();
    shared->role = role;
  }
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
  shared->rejections.clear();
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

}  // namespace

Instance* current_instance() { return running; }

Instance* instance_of_current_role() {
  std::pair<Oid, std::string> key(GetUserId(), role_context());
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

void reset_instance(Oid role) {
  if (instances == nullptr || running != nullptr) return;
  for (auto i = instances->begin(); i != instances->end();) {
    if (i->first.first != role) {
      ++i;
      continue;
    }
    drop(i->second);
    i = instances->erase(i);
  }
  auto shared = isolates->find(role);
  if (shared == isolates->end()) return;
  drop(shared->second);
  isolates->erase(shared);
}

size_t array_buffer_bytes(RoleIsolate* shared) { return shared->allocator->used(); }

Running::Running(Instance* instance) : previous_(running) {
  running = instance;
  javascript_runs = true;
  instance->shared->allocator->forget_refusal();
  watch_begin(instance->isolate, previous_ == nullptr);
}

Running::~Running() {
  RoleIsolate* shared = running->shared;
  running = previous_;
  javascript_runs = running != nullptr;
  watch_end(previous_ == nullptr ? nullptr : previous_->isolate);
  if (previous_ != nullptr) return;
  end_kernels_of_call();
  if (shared->limit_raised) restore_heap_limit(shared);
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

}  // namespace host
