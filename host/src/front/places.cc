// Which database has an engine. The table stands in the part of the server's shared memory that PostgreSQL leaves free for
// libraries that are not preloaded; it is gone after a restart, as the engines are.
#include "../engine/engine.h"

extern "C" {
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"
}

namespace host::engine {
namespace {

constexpr int kMostEngines = 32;

struct Table {
  slock_t lock;
  Place places[kMostEngines];
};

Table* table() {
  static Table* found_table = nullptr;
  if (found_table != nullptr) return found_table;
  bool found;
  LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
  Table* made = static_cast<Table*>(ShmemInitStruct("hartonomous engines 2", sizeof(Table), &found));
  if (!found) {
    memset(made, 0, sizeof(Table));
    SpinLockInit(&made->lock);
  }
  LWLockRelease(AddinShmemInitLock);
  return found_table = made;
}

// Take a handle out of a list; false where it is none of it. Under the lock.
bool remove_handle(dsm_handle* list, int* count, dsm_handle handle) {
  for (int i = 0; i < *count; i++) {
    if (list[i] != handle) continue;
    memmove(&list[i], &list[i + 1], (*count - i - 1) * sizeof(dsm_handle));
    (*count)--;
    return true;
  }
  return false;
}

// Under the lock.
Place* place_of(Table* all, Oid database) {
  for (Place& place : all->places)
    if (place.database == database) return &place;
  return nullptr;
}

// A process of PostgreSQL's that is connected to this database.
bool is_alive(int pid) {
  PGPROC* process = BackendPidGetProc(pid);
  return process != nullptr && process->databaseId == MyDatabaseId;
}

}  // namespace

bool find_engine(int* pid) {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  *pid = place == nullptr ? 0 : place->pid;
  SpinLockRelease(&all->lock);
  return *pid != 0 && is_alive(*pid);
}

bool is_there(int pid) {
  int now;
  return find_engine(&now) && now == pid;
}

bool is_starting() {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  int starter = place == nullptr ? 0 : place->starter;
  SpinLockRelease(&all->lock);
  return starter != 0 && is_alive(starter);
}

bool begin_start() {
  if (is_starting()) return false;
  Table* all = table();
  bool begun = false;
  SpinLockAcquire(&all->lock);
  int before = 0;
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr) before = place->starter;
  SpinLockRelease(&all->lock);
  if (before != 0 && is_alive(before)) return false;
  SpinLockAcquire(&all->lock);
  place = place_of(all, MyDatabaseId);
  if (place == nullptr) place = place_of(all, InvalidOid);
  if (place != nullptr && (place->database == InvalidOid || place->starter == before)) {
    place->database = MyDatabaseId;
    place->starter = MyProcPid;
    begun = true;
  }
  SpinLockRelease(&all->lock);
  return begun;
}

void end_start() {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr && place->starter == MyProcPid) {
    place->starter = 0;
    if (place->pid == 0) memset(place, 0, sizeof *place);
  }
  SpinLockRelease(&all->lock);
}

bool claim_place() {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  int before = place == nullptr ? 0 : place->pid;
  SpinLockRelease(&all->lock);
  if (before != 0 && is_alive(before)) return false;
  bool claimed = false;
  TimestampTz now = GetCurrentTimestamp();
  SpinLockAcquire(&all->lock);
  place = place_of(all, MyDatabaseId);
  if (place == nullptr) place = place_of(all, InvalidOid);
  if (place != nullptr && (place->pid == 0 || place->pid == before)) {
    memset(place, 0, sizeof *place);
    place->database = MyDatabaseId;
    place->pid = MyProcPid;
    place->since = now;
    claimed = true;
  }
  SpinLockRelease(&all->lock);
  return claimed;
}

void give_up_place() {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr && place->pid == MyProcPid) memset(place, 0, sizeof *place);
  SpinLockRelease(&all->lock);
}

Left leave_request(int pid, dsm_handle handle) {
  Table* all = table();
  Left left = Left::kGone;
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr && place->pid == pid) {
    left = place->n_left + place->n_taken < engine_requests ? Left::kYes : Left::kFull;
    if (left == Left::kYes) place->left[place->n_left++] = handle;
  }
  SpinLockRelease(&all->lock);
  if (left == Left::kYes) wake(pid);
  return left;
}

void withdraw_request(int pid, dsm_handle handle) {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr && place->pid == pid && !remove_handle(place->left, &place->n_left, handle)) {
    remove_handle(place->taken, &place->n_taken, handle);
  }
  SpinLockRelease(&all->lock);
}

int take_requests(dsm_handle* handles) {
  Table* all = table();
  int count = 0;
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr && place->pid == MyProcPid) {
    count = place->n_left;
    memcpy(handles, place->left, count * sizeof(dsm_handle));
    memcpy(&place->taken[place->n_taken], place->left, count * sizeof(dsm_handle));
    place->n_taken += count;
    place->n_left = 0;
  }
  SpinLockRelease(&all->lock);
  return count;
}

bool has_left_requests() {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  bool has = place != nullptr && place->pid == MyProcPid && place->n_left > 0;
  SpinLockRelease(&all->lock);
  return has;
}

void end_request(dsm_handle handle) {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr && place->pid == MyProcPid) remove_handle(place->taken, &place->n_taken, handle);
  SpinLockRelease(&all->lock);
}

void show_facts(const double* facts) {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  if (place != nullptr && place->pid == MyProcPid) memcpy(place->facts, facts, sizeof place->facts);
  SpinLockRelease(&all->lock);
}

bool copy_place(Place* copy) {
  Table* all = table();
  SpinLockAcquire(&all->lock);
  Place* place = place_of(all, MyDatabaseId);
  bool there = place != nullptr && place->pid != 0;
  if (there) memcpy(copy, place, sizeof *copy);
  SpinLockRelease(&all->lock);
  return there && is_alive(copy->pid);
}

void wake(int pid) {
  PGPROC* process = BackendPidGetProc(pid);
  if (process != nullptr) SetLatch(&process->procLatch);
}

}  // namespace host::engine
