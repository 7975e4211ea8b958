// plv8.counters: what was counted within the hour past, by all backends of a database. The numbers stand in a file of the
// data directory that backends map, so no rollback, no context and no end of a session takes them back; a restart of the
// server leaves them, a crash of the machine may not. Only functions of the role hartonomous_v8.segment_role may count.
#include "segments/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include <atomic>

extern "C" {
#include "utils/syscache.h"
}

namespace host {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

// Base backups leave out whatever has the prefix pgsql_tmp. The name ends with the layout's number.
constexpr char kFolder[] = "pgsql_tmp_hartonomous_v8_counters1";
constexpr uint32 kHour = 60;     // minutes
constexpr size_t kBuckets = 63;  // more than an hour has, so that none is used again within it
constexpr size_t kSlots = 16384;
constexpr size_t kProbes = 64;  // slots in which a counter may stand

// One counter. A bucket is a minute since 1970 in the upper half and what was counted in it in the lower one.
struct Slot {
  std::atomic<uint64> key;  // of whom (an oid) and what; 0: free
  std::atomic<uint64> buckets[kBuckets];
};
static_assert(sizeof(Slot) == 512 && std::atomic<uint64>::is_always_lock_free);

std::string path_of(Oid database) { return std::string(kFolder) + "/" + std::to_string(database); }

Slot* mapped_slots() {
  static Slot* slots = nullptr;
  if (slots != nullptr) return slots;
  constexpr size_t kBytes = kSlots * sizeof(Slot);
  std::string path = path_of(MyDatabaseId);
  if (mkdir(kFolder, 0700) != 0 && errno != EEXIST) segments::throw_file_error("create", kFolder);
  segments::File file(segments::open_regular(path, O_RDWR | O_CREAT));
  struct stat about;
  if (!file.open() || fstat(file.fd(), &about) != 0) segments::throw_file_error("open", path);
  // Holes until they are written to.
  if (static_cast<size_t>(about.st_size) < kBytes && ftruncate(file.fd(), kBytes) != 0) segments::throw_file_error("extend", path);
  void* at = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
  if (at == MAP_FAILED) segments::throw_file_error("map", path);
  return slots = static_cast<Slot*>(at);
}

uint32 minute_of(uint64 bucket) { return static_cast<uint32>(bucket >> 32); }

// What was counted since an hour ago; a minute that lies ahead, as after a clock was set back, counts too.
uint64 sum_of(const Slot& slot, uint32 now) {
  uint64 sum = 0;
  for (const auto& each : slot.buckets) {
    uint64 bucket = each.load(std::memory_order_relaxed);
    if (minute_of(bucket) + kHour > now) sum += static_cast<uint32>(bucket);
  }
  return sum;
}

// The slot of a counter: its own, else a free one, else one in which nothing was counted for an hour.
Slot* slot_of(uint64 key, uint32 now) {
  Slot* slots = mapped_slots();
  size_t first = (key * 0x9e3779b97f4a7c15u) >> 32;
  for (size_t i = 0; i < kProbes; i++) {
    Slot* slot = &slots[(first + i) % kSlots];
    uint64 found = slot->key.load();
    if (found == 0 && slot->key.compare_exchange_strong(found, key)) return slot;
    if (found == key) return slot;
  }
  for (size_t i = 0; i < kProbes; i++) {
    Slot* slot = &slots[(first + i) % kSlots];
    uint64 found = slot->key.load();
    if (sum_of(*slot, now) == 0 && slot->key.compare_exchange_strong(found, key)) return slot;
  }
  return nullptr;
}

void add_to(Slot* slot, uint32 now, int64 amount) {
  std::atomic<uint64>& bucket = slot->buckets[now % kBuckets];
  uint64 old = bucket.load();
  uint64 next;
  do {
    bool current = minute_of(old) + kHour > now;
    int64 count = (current ? static_cast<int64>(static_cast<uint32>(old)) : 0) + amount;
    count = count < 0 ? 0 : count > UINT32_MAX ? UINT32_MAX : count;
    next = (static_cast<uint64>(current ? minute_of(old) : now) << 32) | static_cast<uint64>(count);
  } while (!bucket.compare_exchange_weak(old, next));
}

}  // namespace

uint64 count_for(Oid role, uint32 what, int64 amount) {
  uint64 key = (static_cast<uint64>(what + 1) << 32) | role;
  uint32 now = static_cast<uint32>(time(nullptr) / 60);
  Slot* slot = slot_of(key, now);
  if (slot == nullptr) {
    guarded([] { ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("there is no room for another counter"))); });
  }
  if (amount != 0) add_to(slot, now, amount);
  return sum_of(*slot, now);
}

namespace {

// add(role, what, amount): count for a role's oid and a kind from 0 to 255; what there is of it within the hour past.
void add(Info info) {
  callback_body(info, [&] {
    require_owner("counters");
    v8::Local<v8::Context> context = info.GetIsolate()->GetCurrentContext();
    if (info.Length() < 3 || !info[0]->IsUint32() || !info[1]->IsUint32() || !info[2]->IsNumber()) {
      throw_js("usage: add(role, what, amount)");
    }
    uint32 what = info[1].As<v8::Uint32>()->Value();
    int64 amount = info[2]->IntegerValue(context).FromMaybe(0);
    if (what > 255) throw_js("what is counted is a number from 0 to 255");
    info.GetReturnValue().Set(static_cast<double>(count_for(info[0].As<v8::Uint32>()->Value(), what, amount)));
  });
}

// usable(): whether the running function may count.
void usable(Info info) {
  callback_body(info, [&] { info.GetReturnValue().Set(is_owners_function()); });
}

}  // namespace

int sweep_counters() {
  DIR* folder = opendir(kFolder);
  if (folder == nullptr) return 0;
  std::vector<Oid> databases;
  while (dirent* entry = readdir(folder)) databases.push_back(static_cast<Oid>(strtoul(entry->d_name, nullptr, 10)));
  closedir(folder);
  int removed = 0;
  for (Oid database : databases) {
    bool there = true;
    guarded([&] { there = database == InvalidOid || SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)); });
    if (!there && unlink(path_of(database).c_str()) == 0) removed++;
  }
  return removed;
}

void install_counters(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  v8::Local<v8::Object> members = v8::Object::New(context->GetIsolate());
  set_member(context, members, "usable", usable, kPlv8Member);
  set_member(context, members, "add", add, kPlv8Member);
  plv8->DefineOwnProperty(context, js_string("counters"), members, kPlv8Member).Check();
}

}  // namespace host
