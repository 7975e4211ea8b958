// Threads that compute the units of a kernel's call together with the thread that calls. They run kernels and nothing else:
// no call of PostgreSQL or V8, no allocation; every signal is blocked for them but those of a fault of their own.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace host::kernels {

// More threads than this are of no use.
constexpr int kMostThreads = 128;

class Pool {
 public:
  // Computes the units [first, end) of a call.
  using Body = void (*)(const void* call, size_t first, size_t end);

  // Compute all units, cut into `items` parts, with `threads` threads of which the caller is one. False where a thread met
  // memory that is gone ; then not all units are computed.
  bool run(Body body, const void* call, size_t units, size_t items, int threads);


 private:
  int started_ = 0;  // threads beside the caller
};

Pool& pool();

// To be called by the handler of SIGBUS and SIGSEGV: where the thread is one of the pool's, its part of the call counts as
// done, the call as failed, and this does not return.
void leave_faulted_part();

}  // namespace host::kernels
