// Cancel, timeout and termination of running JavaScript and WebAssembly.
//
// PostgreSQL's signal handlers only set flags. A small thread per backend looks at them every few milliseconds while
// JavaScript runs and asks V8 to call `on_interrupt` on the backend's own thread at the next loop back-edge or call.
// There the pending interrupt is processed; its error is kept, and V8 unwinds every JavaScript frame by termination.
#include "host.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace host {
namespace {

constexpr auto kLookEvery = std::chrono::milliseconds(2);
// Looks without JavaScript before the thread sleeps until it is woken: short calls in a row wake it once.
constexpr int kIdleLooks = 50;

// What works on without looking for interrupts, as products of large BigInts do, is ended after this.
constexpr auto kServedWithin = std::chrono::milliseconds(100);

using Clock = std::chrono::steady_clock;
std::mutex* mutex_ = nullptr;
std::condition_variable* wake_ = nullptr;
v8::Isolate* watched_ = nullptr;  // guarded by mutex_
bool asleep_ = false;             // guarded by mutex_
std::atomic<bool> requested_{false};
Clock::time_point requested_at_;        // guarded by mutex_
std::atomic<bool> terminated_{false};  // the watcher asked V8 to end JavaScript

std::atomic<Clock::time_point> deadline_{Clock::time_point::max()};  // of the outermost call, by plv8.execution_timeout

bool timed_out() {
  Clock::time_point deadline = deadline_;
  return deadline != Clock::time_point::max() && Clock::now() >= deadline;
}

}  // namespace

void process_interrupts() {
  if (!InterruptPending && !timed_out()) return;
  guarded([] {
    if (interrupts_enabled && !portable()) CHECK_FOR_INTERRUPTS();
    if (timed_out()) ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("execution timeout exceeded")));
  });
}

namespace {

// Process what is pending; true where it is an error, which is kept.
bool serve(Instance* instance) {
  try {
    process_interrupts();
    return false;
  } catch (const PgError& error) {
    keep_interrupt(instance, error.edata);
    FreeErrorData(error.edata);
    return true;
  }
}

void on_interrupt(v8::Isolate* isolate, void*) {
  requested_ = false;
  Instance* instance = current_instance();
  if (instance == nullptr || instance->isolate != isolate) return;
  if (serve(instance)) {
    isolate->TerminateExecution();
  } else if (terminated_.exchange(false)) {
    isolate->CancelTerminateExecution();
  }
}

void watch() {
  std::unique_lock<std::mutex> lock(*mutex_);
  int idle = 0;
  for (;;) {
    if (watched_ == nullptr && ++idle > kIdleLooks) {
      asleep_ = true;
      wake_->wait(lock, [] { return watched_ != nullptr; });
      asleep_ = false;
    }
    if (watched_ != nullptr) idle = 0;
    bool pending = InterruptPending && (QueryCancelPending || ProcDiePending);
    if (watched_ != nullptr && (pending || timed_out()) && !requested_.exchange(true)) {
      requested_at_ = Clock::now();
      watched_->RequestInterrupt(on_interrupt, nullptr);
    } else if (watched_ != nullptr && requested_ && ((pending && interrupts_enabled && !portable()) || timed_out()) &&
               Clock::now() - requested_at_ > kServedWithin && !terminated_.exchange(true)) {
      watched_->TerminateExecution();
    }
    wake_->wait_for(lock, kLookEvery);
  }
}

void start_watcher() {
  mutex_ = new std::mutex;
  wake_ = new std::condition_variable;
  // Signals belong to the backend's own thread: the watcher is born with all of them blocked.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread(watch).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void set_watched(v8::Isolate* isolate) {
  std::lock_guard<std::mutex> lock(*mutex_);
  // JavaScript came to its end before it noticed; whoever looks for interrupts next serves this one.
  if (terminated_.exchange(false)) watched_->CancelTerminateExecution();
  watched_ = isolate;
  requested_ = false;
  if (isolate != nullptr && asleep_) wake_->notify_one();
}

}  // namespace

void watch_begin(v8::Isolate* isolate, bool outermost) {
  if (mutex_ == nullptr) start_watcher();
  if (outermost) {
    int seconds = role_execution_timeout();
    deadline_ = seconds > 0 ? Clock::now() + std::chrono::seconds(seconds) : Clock::time_point::max();
  }
  set_watched(isolate);
}

void watch_end(v8::Isolate* isolate_outside) { set_watched(isolate_outside); }

void serve_late_interrupt(Instance* instance) {
  if (terminated_.exchange(false) && instance->shared->interrupt == nullptr) serve(instance);
}

void keep_interrupt(Instance* instance, ErrorData* edata) {
  MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
  if (instance->shared->interrupt == nullptr) instance->shared->interrupt = copy_error(edata);
  MemoryContextSwitchTo(old);
}

}  // namespace host
