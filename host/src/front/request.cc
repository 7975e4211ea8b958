// A request to the engine of a database, from the side of who makes it. Nothing here throws or needs V8; errors are PostgreSQL's.
#include "../engine/engine.h"

extern "C" {
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace host::engine {
namespace {

// Bytes of an answer that may wait for its caller in the queue.
constexpr size_t kQueueBytes = 64 * 1024;
// Between two looks whether the engine is still there.
constexpr long kLookMs = 1000;

size_t queue_at(uint32 text_bytes) { return MAXALIGN(sizeof(Header)) + MAXALIGN(text_bytes); }

// On every way out: the end of the call, an error, a cancel, the end of the process.
void on_caller_detach(dsm_segment* segment, Datum pid) {
  static_cast<Header*>(dsm_segment_address(segment))->gone = 1;
  withdraw_request(DatumGetInt32(pid), dsm_segment_handle(segment));
  wake(DatumGetInt32(pid));
}

// Whether an error says that there is too little of something, as of memory, disk or segments (class 53).
bool is_shortage() { return ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_INSUFFICIENT_RESOURCES; }

// A segment of the current resource owner; null where the server has no more of them, or no room for it, as in a container whose
// /dev/shm is small. PostgreSQL's error leaves a segment behind, so an owner of its own lets go of that.
dsm_segment* create_segment(Size size) {
  ResourceOwner before = CurrentResourceOwner;
  MemoryContext context = CurrentMemoryContext;
  ResourceOwner own = ResourceOwnerCreate(before, "request to an engine");
  dsm_segment* volatile made = nullptr;
  CurrentResourceOwner = own;
  PG_TRY();
  {
    made = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
    if (made != nullptr) dsm_pin_mapping(made);
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = before;
    if (!is_shortage()) PG_RE_THROW();
    FlushErrorState();
  }
  PG_END_TRY();
  CurrentResourceOwner = before;
  ResourceOwnerRelease(own, RESOURCE_RELEASE_BEFORE_LOCKS, false, false);
  ResourceOwnerRelease(own, RESOURCE_RELEASE_LOCKS, false, false);
  ResourceOwnerRelease(own, RESOURCE_RELEASE_AFTER_LOCKS, false, false);
  ResourceOwnerDelete(own);
  if (made != nullptr) dsm_unpin_mapping(made);
  return made;
}

}  // namespace

char* text_in(Header* header) { return reinterpret_cast<char*>(header) + MAXALIGN(sizeof(Header)); }

shm_mq* queue_in(Header* header) { return reinterpret_cast<shm_mq*>(reinterpret_cast<char*>(header) + queue_at(header->text_bytes)); }

Asked ask_engine(int pid, Oid role, double about, const char* text, uint32 bytes) {
  Asked asked = {nullptr, nullptr};
  asked.segment = create_segment(queue_at(bytes) + kQueueBytes);
  if (asked.segment == nullptr) return asked;
  Header* header = static_cast<Header*>(dsm_segment_address(asked.segment));
  header->role = role;
  header->caller = MyProcPid;
  header->gone = 0;
  header->text_bytes = bytes;
  header->about = about;
  header->since = GetCurrentTimestamp();
  for (int i = 0; i < kRequestFacts; i++) header->facts[i] = 0;
  memcpy(text_in(header), text, bytes);
  shm_mq* queue = shm_mq_create(queue_in(header), kQueueBytes);
  shm_mq_set_receiver(queue, MyProc);
  asked.queue = shm_mq_attach(queue, asked.segment, nullptr);
  on_dsm_detach(asked.segment, on_caller_detach, Int32GetDatum(pid));
  Left left = leave_request(pid, dsm_segment_handle(asked.segment));
  if (left == Left::kFull) {
    dsm_detach(asked.segment);
    ereport(ERROR, (errcode(ERRCODE_TOO_MANY_CONNECTIONS),
                    errmsg("the engine of this database has %d requests, hartonomous_v8.engine_requests is %d", engine_requests, engine_requests),
                    errhint("Call again later.")));
  }
  if (left == Left::kGone) {
    dsm_detach(asked.segment);
    asked.segment = nullptr;
  }
  return asked;
}

shm_mq_result receive(const Asked& asked, int pid, size_t* bytes, void** data) {
  CHECK_FOR_INTERRUPTS();  // as every statement does, with hartonomous_v8.interrupts off as well
  bool is_last_look = !is_there(pid);  // it may have sent before it went
  shm_mq_result result = shm_mq_receive(asked.queue, bytes, data, true);
  if (result != SHM_MQ_WOULD_BLOCK) return result;
  if (is_last_look) return SHM_MQ_DETACHED;
  WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLookMs, PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
  return SHM_MQ_WOULD_BLOCK;
}

}  // namespace host::engine
