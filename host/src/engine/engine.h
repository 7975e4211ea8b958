// The engine: one process for each database that wants one, which computes for all its backends. A backend asks with a
// text and gets texts back until it has seen the last; what they say is the bundle's affair.
//
// A request is a segment of dynamic shared memory that its caller makes: the text, and a queue for the answer. Whoever
// of the two goes, by whatever end, detaches from it, and the other one sees that.
#pragma once

#include "../host.h"

extern "C" {
#include "storage/dsm.h"
#include "storage/shm_mq.h"
#include "utils/timestamp.h"
}

namespace host::engine {

// Requests that wait for the engine of a database or are computed by it, at the very most: hartonomous_v8.engine_requests.
constexpr int kMostRequests = 64;
// Numbers by which an engine shows others what it does, and how far a request is. What they say is the bundle's affair.
constexpr int kFacts = 16;
constexpr int kRequestFacts = 8;

// ---- front/places.cc: which database has an engine, in the server's shared memory ---------------------------------------

// Where requests to an engine are left. An engine that ends takes its place away.
struct Place {
  Oid database;  // invalid: free
  int pid;       // of its engine; 0: there is none yet
  int starter;   // who starts one; 0: nobody
  int n_left;
  int n_taken;
  dsm_handle left[kMostRequests];   // requests that it has not taken yet
  dsm_handle taken[kMostRequests];  // and those that it has and somebody waits for; both together are engine_requests at most
  TimestampTz since;                // when its engine took it
  double facts[kFacts];             // what its engine shows
};

bool find_engine(int* pid);                                  // of this database
bool is_there(int pid);                                      // whether it still is this database's engine
bool begin_start();                                          // false where another session starts one
void end_start();
bool is_starting();                                          // whether some session starts one
bool claim_place();                                          // for this process; false where another has it
void give_up_place();                                        // who waits for this engine sees it at the next look
enum class Left { kYes, kGone, kFull };
Left leave_request(int pid, dsm_handle handle);
// One that nobody waits for any more, be it left or taken: whoever made it may make another, which has room then even if the engine
// has not come to let go of this one.
void withdraw_request(int pid, dsm_handle handle);
int take_requests(dsm_handle* handles);                      // kMostRequests at most
bool has_left_requests();
void end_request(dsm_handle handle);                         // one that this engine took, be it withdrawn
void show_facts(const double* facts);                        // kFacts of this engine
bool copy_place(Place* copy);                                // of this database; false where no engine has it
void wake(int pid);

inline double unix_ms(TimestampTz time) {  // milliseconds since 1970
  constexpr double kEpoch = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 86400e3;
  return static_cast<double>(time) / 1000 + kEpoch;
}

// ---- front/request.cc: one request, for who makes it ------------------------------------------------------------------

struct Header {
  Oid role;                      // on whose behalf
  int caller;                    // pid
  volatile sig_atomic_t gone;    // the caller needs it no more
  uint32 text_bytes;
  double about;                            // what its caller says of it to others
  TimestampTz since;                       // when it was made
  volatile double facts[kRequestFacts];    // what the engine says of it to others
  // text, then the queue
};

char* text_in(Header* header);
shm_mq* queue_in(Header* header);

struct Asked {
  dsm_segment* segment;
  shm_mq_handle* queue;
};

// Leave a request with the engine of this process id; segment is null where that is gone, or there is no room for one.
Asked ask_engine(int pid, Oid role, double about, const char* text, uint32 bytes);
// The next text of an answer, or what keeps it: the engine is gone, or was waited for.
shm_mq_result receive(const Asked& asked, int pid, size_t* bytes, void** data);

// ---- front/values.cc: arguments and results of calls -------------------------------------------------------------------

bool is_sent(Oid type);  // arguments of such a type can be
bool append_argument(StringInfo json, Oid type, const NullableDatum& argument);  // false for an array of several dimensions
bool is_received(Oid type);                 // results of such a type can be
Datum value_of(Oid type, char* text);       // by the type's input function
bool can_give_rows(FunctionCallInfo fcinfo);  // whether its caller takes a set of rows

// The rows of a call that gives a set.
struct Rows {
  ReturnSetInfo* info;
  TupleDesc desc;
  AttInMetadata* input;
  Tuplestorestate* store;
  MemoryContext of_a_row;

  void begin(FunctionCallInfo fcinfo);
  bool add(char** columns, int count);  // each `-` for null, or `+` and its text; false where they are not as many as there should be
  void give();                          // to the caller
  void forget();
};

// ---- front/call.cc: calls that need no JavaScript in their backend ----------------------------------------------------

// Have the engine answer what a function was called for; false where the function has to be run.
bool answered_by_engine(FunctionCallInfo fcinfo, Datum* out);
// What answers that came that way left for later calls, oldest first: texts of the bundle's. `take` empties the list.
List* kept_answers();
void forget_kept_answers();

// ---- channel.cc: requests, for JavaScript that makes them and for the engine ---------------------------------------------

bool has_open_requests();  // that this engine took and that have not ended
void take_back_counts();   // of these, for who waits for them: this engine ends

// ---- front/start.cc ------------------------------------------------------------------------------------------------

// Start one for this database and wait until it is there; false where no process can be had.
bool start_engine(int* pid);
// What it is told.
struct Errand {
  Oid database;
  Oid owner;
};

// ---- process.cc ---------------------------------------------------------------------------------------------------

extern bool is_engine;  // this process
void run_engine(Datum);  // its main function

}  // namespace host::engine
