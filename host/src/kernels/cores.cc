// A core is a byte of one file in the data directory, and whoever computes holds a lock on it. The locks belong to an open
// file (F_OFD_SETLK), so they go with a process however it ends. A call that found every core taken computes on its own
// thread all the same and says so by a lock on one of the bytes from kWaiting on; whoever has more than one core looks there
// every few milliseconds, and leaves one.
#include "kernels/cores.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "kernels/pool.h"
#include "segments/segments.h"

namespace host::kernels {
namespace {

constexpr off_t kWaiting = 4096;
constexpr int kWaitingBytes = 1024;
constexpr long kLookEveryNs = 10'000'000;

int file = -1;
std::vector<int> held;    // bytes of cores
int waiting_at = -1;      // byte that says that this call has no core
bool in_call = false;
long looked_at = 0;

long now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return t.tv_sec * 1'000'000'000L + t.tv_nsec;
}

struct flock range(short type, off_t from, off_t bytes) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = from;
  lock.l_len = bytes;
  return lock;
}

bool lock(off_t byte) {
  struct flock l = range(F_WRLCK, byte, 1);
  return fcntl(file, F_OFD_SETLK, &l) == 0;
}

void unlock(off_t byte) {
  struct flock l = range(F_UNLCK, byte, 1);
  fcntl(file, F_OFD_SETLK, &l);
}

bool somebody_waits() {
  struct flock l = range(F_WRLCK, kWaiting, kWaitingBytes);
  return fcntl(file, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

void take_cores(int most, int cores) {
  for (int i = 0; i < cores && static_cast<int>(held.size()) < most; i++) {
    const int core = (static_cast<int>(getpid()) + i) % cores;
    if (std::find(held.begin(), held.end(), core) == held.end() && lock(core)) held.push_back(core);
  }
}

void say_waiting() {
  for (int i = 0; i < 8 && waiting_at < 0; i++) {
    const int byte = static_cast<int>(kWaiting) + (static_cast<int>(getpid()) + i * 127) % kWaitingBytes;
    if (lock(byte)) waiting_at = byte;
  }
}

void stop_waiting() {
  if (waiting_at >= 0) unlock(waiting_at);
  waiting_at = -1;
}

// Take what there is, and leave what another call lacks.
void look(int most, int cores) {
  while (static_cast<int>(held.size()) > most) {
    unlock(held.back());
    held.pop_back();
  }
  if (held.empty()) take_cores(1, cores);
  if (held.empty()) return say_waiting();
  stop_waiting();
  if (!somebody_waits()) return take_cores(most, cores);
  if (held.size() > 1) {
    unlock(held.back());
    held.pop_back();
  }
}

bool open_file() {
  if (file >= 0) return true;
  // A name that begins with a dot is left alone by what sweeps the folder.
  const std::string folder = segments::kFolder;
  mkdir(folder.c_str(), 0700);
  file = segments::open_regular(folder + "/.cores", O_RDWR | O_CREAT);
  return file >= 0;
}

// Of the control group that this process is in, or one above it; 0 where there is none.
double quota_of_group() {
  char line[512], path[256] = "";
  double least = 0;
  auto take = [&](double processors) {
    if (processors > 0 && (least == 0 || processors < least)) least = processors;
  };
  FILE* groups = fopen("/proc/self/cgroup", "r");
  while (groups != nullptr && fgets(line, sizeof line, groups) != nullptr) {
    if (strncmp(line, "0::", 3) == 0) snprintf(path, sizeof path, "%.*s", static_cast<int>(strcspn(line + 3, "\n")), line + 3);
  }
  if (groups != nullptr) fclose(groups);
  for (;;) {
    char name[512];
    snprintf(name, sizeof name, "/sys/fs/cgroup%s/cpu.max", path);
    long quota = 0, period = 0;
    FILE* limit = fopen(name, "r");
    if (limit != nullptr && fscanf(limit, "%ld %ld", &quota, &period) == 2 && period > 0) take(static_cast<double>(quota) / period);
    if (limit != nullptr) fclose(limit);
    char* slash = strrchr(path, '/');
    if (slash == nullptr) break;
    *slash = '\0';
  }
  // The first version of control groups.
  long quota = 0, period = 0;
  FILE* first = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r");
  FILE* second = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
  if (first != nullptr && second != nullptr && fscanf(first, "%ld", &quota) == 1 && fscanf(second, "%ld", &period) == 1 && period > 0) {
    take(static_cast<double>(quota) / period);
  }
  if (first != nullptr) fclose(first);
  if (second != nullptr) fclose(second);
  return least;
}

int count_processors() {
  cpu_set_t set;
  int processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const double quota = quota_of_group();
  if (quota > 0) processors = std::min(processors, std::max(1, static_cast<int>(quota + 0.5)));
  return std::max(1, processors);
}

}  // namespace

int usable_processors() {
  // A quota rarely changes; asked anew every second.
  static int known = 0;
  static long asked_at = 0;
  if (known == 0 || now() - asked_at > 1'000'000'000) {
    known = count_processors();
    asked_at = now();
  }
  return known;
}

int allowed_threads(int setting) {
  if (setting > 0) return std::min(setting, kMostThreads);
  const int all = std::min(usable_processors(), kMostThreads);
  return setting < 0 ? all : std::max(1, all / 2);
}

int threads_now(int most) {
  const long time = now();
  if (!in_call || time - looked_at >= kLookEveryNs) {
    looked_at = time;
    in_call = true;
    if (!open_file()) return most;  // nothing to share by
    look(most, std::max(usable_processors(), most));
  }
  return file < 0 ? most : std::max(1, std::min(most, static_cast<int>(held.size())));
}

void give_cores_back() {
  if (!in_call) return;
  in_call = false;
  stop_waiting();
  for (int core : held) unlock(core);
  held.clear();
}

}  // namespace host::kernels
