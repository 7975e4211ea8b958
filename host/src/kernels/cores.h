// How many threads a call may have: what the setting, the caller and the machine allow, and what other backends leave.
#pragma once

namespace host::kernels {

// Processors that this process may use, control groups' quota included; at least 1.
int usable_processors();
// Threads that hartonomous_v8.threads allows: a number, -1 for all usable processors, 0 for half of them.
int allowed_threads(int setting);

// Threads for the next kernel of a call that may have `most`. Cores are shared by the backends of a server: a call holds
// locks for what it uses and gives one back where another call has none; it always has its own one.
int threads_now(int most);
// The call is over: others may have its cores.
void give_cores_back();

}  // namespace host::kernels
