// How a call is handed over: one word, the ticket, holds the number of the call, how many threads take part in it and how
// many of its parts nobody has taken yet. Whoever takes a part exchanges the ticket for one with a part less, so nobody
// takes a part of another call than the one it read, and a thread that wakes up late finds nothing to do and holds nobody
// up. The call's description is written before its ticket and stays as it is until every part is done, which a counter says.
//
// A thread without work watches the ticket for some microseconds, since the next call mostly comes at once, and then sleeps
// in the kernel. Whoever publishes a ticket wakes the sleepers; both sides look at the other's word after writing their own.
#include "kernels/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace host::kernels {
namespace {

// How long a thread without work looks for more before it sleeps.
constexpr uint64_t kSpinNs = 50'000;
// Parts that others hold for longer than this have been taken from the processor with their thread: for a while, which
// doubles each time and shrinks with calls that go well, calls are not divided. So a busy machine is as fast as one thread.
constexpr uint64_t kHeldUpNs = 2'000'000;
constexpr uint64_t kLeastPauseNs = 4'000'000, kMostPauseNs = 1'000'000'000;
// The threads are a little less urgent than backends.
constexpr int kNice = 2;

// Ticket: number of the call, 24 bits; threads beside the caller that take part, 8; parts nobody has taken, 32.
constexpr uint64_t parts_left(uint64_t ticket) { return ticket & 0xffffffff; }
constexpr int workers_of(uint64_t ticket) { return static_cast<int>(ticket >> 32 & 0xff); }

// Each on a cache line of its own.
alignas(64) std::atomic<uint64_t> ticket{0};
alignas(64) std::atomic<uint32_t> done{0};         // parts of the call that are
alignas(64) std::atomic<uint32_t> wake{0};         // changes when sleepers are to look again
alignas(64) std::atomic<int> sleepers{0};
std::atomic<bool> caller_sleeps{false};
std::atomic<bool> faulted{false};

struct {
  Pool::Body body;
  const void* call;
  size_t units;
  uint32_t items;
} call_now;

// Where a thread of the pool goes on after a fault; null in every other thread. Looked up by signal handlers.
__thread sigjmp_buf* escape __attribute__((tls_model("initial-exec"))) = nullptr;

uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake_sleepers(std::atomic<uint32_t>& word, int threads) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, threads, nullptr, nullptr, 0);
}

void finish_part(uint32_t items) {
  if (done.fetch_add(1) + 1 == items && caller_sleeps.load()) wake_sleepers(done, 1);
}

// Take parts of the call as long as there are any that thread number `worker` may take; 0 is the caller.
bool take_parts(int worker) {
  bool any = false;
  uint64_t seen = ticket.load();
  while (parts_left(seen) > 0 && worker <= workers_of(seen)) {
    if (!ticket.compare_exchange_weak(seen, seen - 1)) continue;
    // The call cannot end, and its description not change, before this part is done.
    const uint32_t items = call_now.items;
    const uint64_t part = items - parts_left(seen);
    const size_t units = call_now.units;
    call_now.body(call_now.call, units * part / items, units * (part + 1) / items);
    finish_part(items);
    any = true;
    seen = ticket.load();
  }
  return any;
}

void* work(void* number) {
  const int worker = static_cast<int>(reinterpret_cast<intptr_t>(number));
  prctl(PR_SET_NAME, "kernels");
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), getpriority(PRIO_PROCESS, 0) + kNice);
#if defined(__x86_64__)
  _mm_setcsr(0x1f80);  // rounding to nearest, subnormals kept, no traps
#endif
  sigjmp_buf here;
  if (sigsetjmp(here, 1) != 0) {
    faulted = true;
    finish_part(call_now.items);
  }
  escape = &here;
  uint64_t idle_since = now();
  for (;;) {
    if (take_parts(worker)) idle_since = now();
    for (int i = 0; i < 32; i++) pause();
    const uint64_t seen = ticket.load();
    if (worker <= workers_of(seen) && (parts_left(seen) > 0 || now() - idle_since < kSpinNs)) continue;
    sleepers.fetch_add(1);
    const uint32_t value = wake.load();
    const uint64_t again = ticket.load();
    if (parts_left(again) == 0 || worker > workers_of(again)) sleep_while(wake, value);
    sleepers.fetch_sub(1);
    idle_since = now();
  }
  return nullptr;
}

// Threads beside the caller, at most `workers`; fewer where the system gives no more.
int start_threads(int started, int workers) {
  if (started >= workers) return started;
  // Born with every signal blocked, but for the faults, which no other thread can be told of.
  sigset_t blocked, before;
  sigfillset(&blocked);
  sigdelset(&blocked, SIGBUS);
  sigdelset(&blocked, SIGSEGV);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 << 10);
  while (started < workers) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, work, reinterpret_cast<void*>(static_cast<intptr_t>(started + 1))) != 0) break;
    started++;
  }
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

// Wait until all parts are done; how many nanoseconds it took.
uint64_t wait_for_others(uint32_t items) {
  const uint64_t started = now();
  while (done.load() != items) {
    for (int i = 0; i < 32; i++) pause();
    if (now() - started < kSpinNs) continue;
    caller_sleeps = true;
    for (uint32_t seen = done.load(); seen != items; seen = done.load()) sleep_while(done, seen);
    caller_sleeps = false;
  }
  return now() - started;
}

}  // namespace

bool Pool::run(Body body, const void* call, size_t units, size_t items, int threads) {
  static uint64_t divide_again_at = 0, pause_ns = kLeastPauseNs;
  if (threads > kMostThreads) threads = kMostThreads;
  if (items > units) items = units;
  if (threads > 1 && items > 1 && now() >= divide_again_at) started_ = start_threads(started_, threads - 1);
  const int workers = threads - 1 < started_ ? threads - 1 : started_;
  if (workers < 1 || items < 2 || now() < divide_again_at) {
    body(call, 0, units);
    return true;
  }
  call_now = {body, call, units, static_cast<uint32_t>(items)};
  done.store(0);
  const uint64_t number = (ticket.load() >> 40) + 1;
  ticket.store(number << 40 | static_cast<uint64_t>(workers) << 32 | items);
  if (sleepers.load() > 0) {
    wake.fetch_add(1);
    wake_sleepers(wake, kMostThreads);
  }
  take_parts(0);
  const uint64_t waited = wait_for_others(static_cast<uint32_t>(items));
  if (waited > kHeldUpNs) {
    divide_again_at = now() + pause_ns;
    pause_ns = pause_ns < kMostPauseNs / 2 ? pause_ns * 2 : kMostPauseNs;
  } else if (pause_ns > kLeastPauseNs) {
    pause_ns -= pause_ns / 128;
  }
  return !faulted.exchange(false);
}

Pool& pool() {
  static Pool* const one = new Pool;  // never destroyed: its threads live as long as the process
  return *one;
}

void leave_faulted_part() {
  if (escape != nullptr) siglongjmp(*escape, 1);
}

}  // namespace host::kernels
