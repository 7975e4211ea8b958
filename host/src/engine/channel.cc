// plv8.engine: what a caller and an engine do with a request. Only functions of the role hartonomous_v8.segment_role may.
#include "engine.h"

extern "C" {
#include "storage/proc.h"
#include "utils/timestamp.h"
}

#include <deque>
#include <map>
#include <vector>

namespace host::engine {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

// Bytes of an answer that may wait for its caller in the engine, behind the text that is being sent and what is in the queue. One
// text may be longer, as an answer is that fills a long context.
constexpr size_t kMostWaiting = size_t{8} << 20;

v8::Local<v8::String> utf8_string(v8::Isolate* isolate, const char* data, size_t size) {
  v8::Local<v8::String> text;
  if (!v8::String::NewFromUtf8(isolate, data, v8::NewStringType::kNormal, static_cast<int>(size)).ToLocal(&text)) throw JsPending{};
  return text;
}

// ask(role, text, visit, about): have the engine compute; `visit` is called with each text of the answer until it returns true. What came
// of it: "done", "none" where there is no engine, "gone" where it ended before. `about` is a number that others see beside the request.
void ask(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    if (info.Length() < 3 || !info[0]->IsUint32() || !info[1]->IsString() || !info[2]->IsFunction()) {
      throw_js("usage: ask(role, text, visit)");
    }
    Oid role = info[0].As<v8::Uint32>()->Value();
    double about = info.Length() > 3 && info[3]->IsNumber() ? info[3].As<v8::Number>()->Value() : 0;
    v8::Local<v8::Function> visit = info[2].As<v8::Function>();
    v8::String::Utf8Value text(isolate, info[1]);
    const char* bytes = *text;
    uint32 length = static_cast<uint32>(text.length());
    int pid = 0;
    bool there = false;
    guarded([&] { there = engine_enabled && (find_engine(&pid) || start_engine(&pid)); });
    Asked asked = {nullptr, nullptr};
    if (there) guarded([&] { asked = ask_engine(pid, role, about, bytes, length); });
    if (asked.segment == nullptr) return info.GetReturnValue().Set(js_string("none"));
    struct Detach {
      dsm_segment* segment;
      ~Detach() {
        if (segment != nullptr) dsm_detach(segment);  // raises nothing
      }
    } detach{asked.segment};
    for (;;) {
      size_t size = 0;
      void* data = nullptr;
      shm_mq_result result = SHM_MQ_DETACHED;
      process_interrupts();
      guarded([&] { result = receive(asked, pid, &size, &data); });
      if (result == SHM_MQ_WOULD_BLOCK) continue;
      if (result == SHM_MQ_DETACHED) return info.GetReturnValue().Set(js_string("gone"));
      v8::HandleScope handles(isolate);
      v8::Local<v8::Value> argument = utf8_string(isolate, static_cast<char*>(data), size);
      v8::Local<v8::Value> is_last;
      if (!visit->Call(context, v8::Undefined(isolate), 1, &argument).ToLocal(&is_last)) throw JsPending{};
      if (is_last->IsTrue()) return info.GetReturnValue().Set(js_string("done"));
    }
  });
}

// ---- the engine -----------------------------------------------------------------------------------------------

struct Counted {
  Oid role;
  uint32 what;
  int64 amount;
};

struct Open {
  dsm_segment* segment = nullptr;
  shm_mq_handle* queue = nullptr;
  std::deque<std::string> waiting;  // the first may be sent in part
  size_t waiting_bytes = 0;
  bool is_broken = false;
  bool is_ending = false;
  std::vector<Counted> counted;  // sums
};

std::map<uint32, Open>* requests = nullptr;
uint32 latest = 0;

Header* header_of(const Open& open) { return static_cast<Header*>(dsm_segment_address(open.segment)); }

bool is_gone(const Open& open) { return open.is_broken || header_of(open)->gone != 0; }

void flush(Open& open) {
  while (!open.waiting.empty() && !open.is_broken) {
    const std::string& next = open.waiting.front();
    const char* data = next.data();
    size_t size = next.size();
    shm_mq_result result = SHM_MQ_DETACHED;
    guarded([&] { result = shm_mq_send(open.queue, size, data, true, true); });
    if (result == SHM_MQ_WOULD_BLOCK) return;
    if (result == SHM_MQ_DETACHED) open.is_broken = true;
    open.waiting_bytes -= size;
    open.waiting.pop_front();
  }
}

void drop(std::map<uint32, Open>::iterator which) {
  dsm_segment* segment = which->second.segment;
  shm_mq_handle* queue = which->second.queue;
  requests->erase(which);
  guarded([&] {
    end_request(dsm_segment_handle(segment));
    shm_mq_detach(queue);
    dsm_detach(segment);
  });
}

// Send what waits, and let go of what has ended.
void pump() {
  for (auto i = requests->begin(); i != requests->end();) {
    auto which = i++;
    flush(which->second);
    if (which->second.is_ending && (which->second.waiting.empty() || is_gone(which->second))) {
      drop(which);
    }
  }
}

Open& open_request(v8::Local<v8::Value> id) {
  if (requests != nullptr && id->IsUint32()) {
    auto found = requests->find(id.As<v8::Uint32>()->Value());
    if (found != requests->end()) return found->second;
  }
  throw_js("no such request");
}

// take(): requests that were left since, each as [id, role, text, when it was left].
void take(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    if (requests == nullptr) requests = new std::map<uint32, Open>;
    pump();
    dsm_handle handles[kMostRequests];
    int count = 0;
    guarded([&] { count = take_requests(handles); });
    v8::Local<v8::Array> out = v8::Array::New(isolate);
    for (int i = 0; i < count; i++) {
      Open open;
      guarded([&] {
        open.segment = dsm_attach(handles[i]);
        if (open.segment == nullptr) {
          end_request(handles[i]);
          return;
        }
        dsm_pin_mapping(open.segment);
        MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
        shm_mq* queue = queue_in(static_cast<Header*>(dsm_segment_address(open.segment)));
        shm_mq_set_sender(queue, MyProc);
        open.queue = shm_mq_attach(queue, open.segment, nullptr);
        MemoryContextSwitchTo(before);
      });
      if (open.segment == nullptr) continue;
      Header* header = header_of(open);
      uint32 id = ++latest;
      v8::Local<v8::Value> row[] = {v8::Integer::NewFromUnsigned(isolate, id), v8::Integer::NewFromUnsigned(isolate, header->role),
                                    utf8_string(isolate, text_in(header), header->text_bytes),
                                    v8::Number::New(isolate, unix_ms(header->since))};
      requests->emplace(id, std::move(open));
      out->Set(context, out->Length(), v8::Array::New(isolate, row, 4)).Check();
    }
    info.GetReturnValue().Set(out);
  });
}

// gone(id): whether nobody waits for its answer any more.
void gone(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    info.GetReturnValue().Set(is_gone(open_request(info[0])));
  });
}

// send(id, text): a part of its answer.
void send(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    if (info.Length() < 2 || !info[1]->IsString()) throw_js("usage: send(id, text)");
    Open& open = open_request(info[0]);
    if (is_gone(open)) return;
    flush(open);
    size_t behind = open.waiting.empty() ? 0 : open.waiting_bytes - open.waiting.front().size();
    if (behind > kMostWaiting) open.is_broken = true;
    if (open.is_broken) return;
    v8::String::Utf8Value text(info.GetIsolate(), info[1]);
    open.waiting.emplace_back(*text, text.length());
    open.waiting_bytes += text.length();
    flush(open);
  });
}

// finish(id): nothing follows.
void finish(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    open_request(info[0]).is_ending = true;
    pump();
  });
}

// Numbers out of an array of at most `most`; 0 for those that it does not have.
void read_numbers(v8::Local<v8::Value> given, double* out, int most, const char* usage) {
  v8::Local<v8::Context> context = v8::Isolate::GetCurrent()->GetCurrentContext();
  if (!given->IsArray() || given.As<v8::Array>()->Length() > static_cast<uint32>(most)) throw_js(usage);
  v8::Local<v8::Array> numbers = given.As<v8::Array>();
  for (int i = 0; i < most; i++) {
    v8::Local<v8::Value> each;
    if (static_cast<uint32>(i) >= numbers->Length()) out[i] = 0;
    else if (!numbers->Get(context, i).ToLocal(&each)) throw JsPending{};
    else if (!each->IsNumber()) throw_js(usage);
    else out[i] = each.As<v8::Number>()->Value();
  }
}

// show(numbers): at most 16 that others see of this engine.
void show(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    double facts[kFacts];
    read_numbers(info[0], facts, kFacts, "usage: show(numbers), at most 16");
    show_facts(facts);
  });
}

// note(id, numbers, about): at most 8 that others see of a request, and what it is about, where its caller could not say.
void note(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    Open& open = open_request(info[0]);
    double facts[kRequestFacts];
    read_numbers(info[1], facts, kRequestFacts, "usage: note(id, numbers), at most 8");
    if (info.Length() > 2 && info[2]->IsNumber()) header_of(open)->about = info[2].As<v8::Number>()->Value();
    for (int i = 0; i < kRequestFacts; i++) header_of(open)->facts[i] = facts[i];
  });
}

// count(id, role, what, amount): as plv8.counters.add, but taken back where this engine ends before the request does: its caller
// then computes, and counts, anew.
void count(Info info) {
  callback_body(info, [&] {
    require_owner("engine");
    v8::Local<v8::Context> context = info.GetIsolate()->GetCurrentContext();
    if (info.Length() < 4 || !info[1]->IsUint32() || !info[2]->IsUint32() || !info[3]->IsNumber()) {
      throw_js("usage: count(id, role, what, amount)");
    }
    Open& open = open_request(info[0]);
    const Counted counted = {info[1].As<v8::Uint32>()->Value(), info[2].As<v8::Uint32>()->Value(),
                             info[3]->IntegerValue(context).FromMaybe(0)};
    if (counted.what > 255) throw_js("what is counted is a number from 0 to 255");
    info.GetReturnValue().Set(static_cast<double>(count_for(counted.role, counted.what, counted.amount)));
    for (Counted& each : open.counted) {
      if (each.role != counted.role || each.what != counted.what) continue;
      each.amount += counted.amount;
      return;
    }
    if (counted.amount != 0) open.counted.push_back(counted);
  });
}

// ---- whoever looks on -----------------------------------------------------------------------------------------

// What others may see of a request.
struct Seen {
  int caller;
  Oid role;
  double about;
  TimestampTz since;
  double facts[kRequestFacts];
};

// Read what stands in a request; false where it has ended. It is mapped for that, unless it is one of this process's own.
bool see(dsm_handle handle, Seen* seen) {
  dsm_segment* own = dsm_find_mapping(handle);
  dsm_segment* segment = own != nullptr ? own : dsm_attach(handle);
  if (segment == nullptr) return false;
  const Header* header = static_cast<const Header*>(dsm_segment_address(segment));
  seen->caller = header->caller;
  seen->role = header->role;
  seen->about = header->about;
  seen->since = header->since;
  for (int i = 0; i < kRequestFacts; i++) seen->facts[i] = header->facts[i];
  if (own == nullptr) dsm_detach(segment);
  return true;
}

v8::Local<v8::Array> js_numbers(v8::Isolate* isolate, const double* numbers, int count) {
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::Local<v8::Array> out = v8::Array::New(isolate, count);
  for (int i = 0; i < count; i++) out->Set(context, i, v8::Number::New(isolate, numbers[i])).Check();
  return out;
}

// look(): the engine of this database, as {pid, since, facts, requests}, each request as {pid, role, about, since, facts};
// null where there is none, and for functions that may not use it.
void look(Info info) {
  callback_body(info, [&] {
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    Place place;
    bool there = false;
    if (is_owners_function()) guarded([&] { there = copy_place(&place); });
    if (!there) return info.GetReturnValue().SetNull();
    auto set = [&](v8::Local<v8::Object> row, const char* name, v8::Local<v8::Value> value) {
      row->Set(context, js_string(name), value).Check();
    };
    auto number = [&](double value) { return v8::Number::New(isolate, value); };
    v8::Local<v8::Array> found = v8::Array::New(isolate);
    for (int i = 0; i < place.n_taken + place.n_left; i++) {
      dsm_handle handle = i < place.n_taken ? place.taken[i] : place.left[i - place.n_taken];
      Seen seen;
      bool open = false;
      guarded([&] { open = see(handle, &seen); });
      if (!open) continue;
      v8::Local<v8::Object> row = v8::Object::New(isolate);
      set(row, "pid", number(seen.caller));
      set(row, "role", number(seen.role));
      set(row, "about", number(seen.about));
      set(row, "since", number(unix_ms(seen.since)));
      set(row, "facts", js_numbers(isolate, seen.facts, kRequestFacts));
      found->Set(context, found->Length(), row).Check();
    }
    v8::Local<v8::Object> out = v8::Object::New(isolate);
    set(out, "pid", number(place.pid));
    set(out, "since", number(unix_ms(place.since)));
    set(out, "facts", js_numbers(isolate, place.facts, kFacts));
    set(out, "requests", found);
    info.GetReturnValue().Set(out);
  });
}

// kept(): what answers left for later calls that came before there was JavaScript here, texts of the engine's; once.
void take_kept(Info info) {
  callback_body(info, [&] {
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Array> out = v8::Array::New(isolate);
    info.GetReturnValue().Set(out);
    if (!is_owners_function()) return;
    ListCell* cell;
    foreach (cell, kept_answers()) {
      const char* text = static_cast<const char*>(lfirst(cell));
      out->Set(isolate->GetCurrentContext(), out->Length(), utf8_string(isolate, text, strlen(text))).Check();
    }
    forget_kept_answers();
  });
}

// serving(): whether this process is an engine.
void serving(Info info) {
  callback_body(info, [&] { info.GetReturnValue().Set(is_engine && is_owners_function()); });
}

void usable(Info info) {
  callback_body(info, [&] { info.GetReturnValue().Set(engine_enabled && !is_engine && is_owners_function()); });
}

}  // namespace

void take_back_counts() {
  if (requests == nullptr) return;
  for (auto& [id, open] : *requests) {
    if (is_gone(open)) continue;
    for (const Counted& each : open.counted) {
      try {
        if (each.amount != 0) count_for(each.role, each.what, -each.amount);
      } catch (const PgError&) {
      }
    }
    open.counted.clear();
  }
}

bool has_open_requests() { return requests != nullptr && !requests->empty(); }

}  // namespace host::engine

namespace host {

void install_engine(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  v8::Local<v8::Object> members = v8::Object::New(context->GetIsolate());
  set_member(context, members, "usable", engine::usable, kPlv8Member);
  set_member(context, members, "ask", engine::ask, kPlv8Member);
  set_member(context, members, "take", engine::take, kPlv8Member);
  set_member(context, members, "gone", engine::gone, kPlv8Member);
  set_member(context, members, "send", engine::send, kPlv8Member);
  set_member(context, members, "finish", engine::finish, kPlv8Member);
  set_member(context, members, "serving", engine::serving, kPlv8Member);
  set_member(context, members, "show", engine::show, kPlv8Member);
  set_member(context, members, "note", engine::note, kPlv8Member);
  set_member(context, members, "count", engine::count, kPlv8Member);
  set_member(context, members, "look", engine::look, kPlv8Member);
  set_member(context, members, "kept", engine::take_kept, kPlv8Member);
  plv8->DefineOwnProperty(context, js_string("engine"), members, kPlv8Member).Check();
}

}  // namespace host
