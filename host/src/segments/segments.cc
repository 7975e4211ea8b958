// plv8.segments: prepared memory that backends share, an extension which PL/V8 does not have; segments.h says what a
// segment is. Only functions of the role hartonomous_v8.segment_role may call, while they run as that role.
#include "segments/segments.h"

#include <fcntl.h>
#include <malloc.h>

namespace host {
namespace segments {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

Name name_from(Info info) {
  if (info.Length() < 2 || !info[0]->IsString() || !info[1]->IsUint32()) throw_js("a segment is named by key and layout");
  Name name{std::string(std_string(info[0])), info[1].As<v8::Uint32>()->Value()};
  if (name.key.size() != sizeof(Header::key) || !is_hexadecimal(name.key)) {
    throw_js("key of a segment must be 64 hexadecimal digits");
  }
  return name;
}

struct Segment : Handle {
  static constexpr Kind kKind = kSegment;
  explicit Segment(int fd) : Handle(kKind), file(fd) {}
  File file;
  Header header;
};

uint64 bytes_from(v8::Local<v8::Value> value) {
  double bytes = value->IsNumber() ? value.As<v8::Number>()->Value() : -1;
  if (!(bytes >= 0) || bytes > 4294967296.0 || bytes != static_cast<double>(static_cast<uint64>(bytes)) ||
      static_cast<uint64>(bytes) % kPage != 0) {
    throw_js("length of a segment must be a whole number of pages of " + std::to_string(kPage) + " bytes");
  }
  return static_cast<uint64>(bytes);
}

// publish(key, layout, manifest, memory, offset, bytes): whether the segment is there now; false where it is over the budget.
void publish(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    Name name = name_from(info);
    if (info.Length() < 6 || !info[2]->IsString()) throw_js("usage: publish(key, layout, manifest, memory, offset, bytes)");
    std::string manifest = std_string(info[2]);
    uint64 bytes = bytes_from(info[5]);
    const char* data = range_of(info[3], info[4], bytes);
    if (manifest.size() > kMostManifest) throw_js("manifest of " + std::to_string(manifest.size()) + " bytes is too long");
    Header header = header_of(name, manifest.size(), bytes);
    bool fits = make_room(header.data_at + bytes, name);
    if (fits) write_segment(name, header, manifest, data);
    info.GetReturnValue().Set(fits);
  });
}

// segment.map(memory, offset): the segment's bytes take the place of the memory's, for reading only.
void map(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    Segment* segment = handle_of<Segment>(info, "not a segment");
    if (!segment->file.open()) throw_js("segment is closed");
    if (info.Length() < 2) throw_js("usage: map(memory, offset)");
    map_over(range_of(info[0], info[1], segment->header.data_bytes), segment->file.fd(), segment->header);
  });
}

// place(memory, offset): the first offset from there on at which a segment can be mapped in huge pages; behind the end there may be none.
void place(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    if (info.Length() < 2) throw_js("usage: place(memory, offset)");
    double gap = static_cast<double>(to_huge_page(range_of(info[0], info[1], 0)));
    info.GetReturnValue().Set(v8::Number::New(info.GetIsolate(), info[1].As<v8::Number>()->Value() + gap));
  });
}

// segment.line(n): a line of the manifest, from 0; undefined behind the last.
void manifest_line(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    Segment* segment = handle_of<Segment>(info, "not a segment");
    if (info.Length() < 1 || !info[0]->IsUint32()) throw_js("line needs a number");
    if (!segment->file.open()) throw_js("segment is closed");
    std::string text = read_manifest(segment->file.fd(), segment->header);
    size_t from = 0;
    for (uint32 line = info[0].As<v8::Uint32>()->Value(); line > 0; line--) {
      from = text.find('\n', from);
      if (from == std::string::npos) return;
      from++;
    }
    info.GetReturnValue().Set(js_string(text.substr(from, text.find('\n', from) - from)));
  });
}

void close_segment(Info info) {
  callback_body(info, [&] {
    Segment* segment = handle_of<Segment>(info, "not a segment");
    if (segment->file.open()) close(segment->file.release());
    malloc_trim(0);  // what reading the manifest took
  });
}

// open(key, layout): an object with line, bytes, map and close; null where there is no whole segment of that name.
void open_segment(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    Name name = name_from(info);
    info.GetReturnValue().SetNull();
    if (segment_budget_mb == 0) return;
    sweep_once();
    Header header;
    File file = open_whole(name, &header);
    if (!file.open()) return;
    Segment* segment = new Segment(file.release());
    segment->header = header;
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    v8::Local<v8::Object> object = handle_for(segment);
    set_member(context, object, "map", map);
    set_member(context, object, "close", close_segment);
    set_member(context, object, "line", manifest_line);
    object->Set(context, js_string("bytes"), v8::Number::New(isolate, static_cast<double>(header.data_bytes))).Check();
    info.GetReturnValue().Set(object);
  });
}

// check(key, layout): whether every block is what was published; null where there is no such segment.
void check(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    Name name = name_from(info);
    info.GetReturnValue().SetNull();
    File file(open_regular(name.path(), O_RDONLY));
    if (!file.open()) return;
    Header header;
    std::vector<uint32> sums;
    bool whole = read_header(file.fd(), name, &header, &sums) && blocks_are_whole(file.fd(), header, sums);
    info.GetReturnValue().Set(whole);
  });
}

void list(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    std::vector<Listed> found = all_segments();
    v8::Local<v8::Array> out = v8::Array::New(isolate, static_cast<int>(found.size()));
    for (size_t i = 0; i < found.size(); i++) {
      const Listed& one = found[i];
      v8::Local<v8::Object> row = v8::Object::New(isolate);
      auto number = [&](const char* name, double value) {
        row->Set(context, js_string(name), v8::Number::New(isolate, value)).Check();
      };
      row->Set(context, js_string("key"), js_string(one.name.key)).Check();
      number("layout", one.name.layout);
      number("bytes", static_cast<double>(one.about.st_size));
      number("database", one.header.database);
      number("published", static_cast<double>(one.header.published));
      number("mapped", static_cast<double>(one.about.st_mtime) * 1000.0);
      out->Set(context, static_cast<uint32_t>(i), row).Check();
    }
    info.GetReturnValue().Set(out);
  });
}

// drop(key): how many segments of that key there were. Whoever has one mapped keeps its pages.
void drop(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    if (info.Length() < 1 || !info[0]->IsString()) throw_js("drop needs the key of a segment");
    info.GetReturnValue().Set(drop_segments(std_string(info[0])));
  });
}

// elect(key, layout): whether this backend is, until its transaction ends, the one that publishes a segment of that name.
void elect(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    Name name = name_from(info);
    watch_transactions();
    info.GetReturnValue().Set(elect_publisher(name));
  });
}

// resign(): no longer be the publisher of any segment, before the transaction ends.
void resign(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    release_elections();
  });
}

// usable(): whether the running function has the right and there is a budget.
void usable(Info info) {
  callback_body(info, [&] { info.GetReturnValue().Set(segment_budget_mb > 0 && is_owners_function()); });
}

void sweep_now(Info info) {
  callback_body(info, [&] {
    require_owner("segments");
    info.GetReturnValue().Set(sweep() + sweep_counters());
  });
}

}  // namespace
}  // namespace segments

void install_segments(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  v8::Isolate* isolate = context->GetIsolate();
  v8::Local<v8::Object> members = v8::Object::New(isolate);
  set_member(context, members, "usable", segments::usable, kPlv8Member);
  set_member(context, members, "publish", segments::publish, kPlv8Member);
  set_member(context, members, "place", segments::place, kPlv8Member);
  set_member(context, members, "open", segments::open_segment, kPlv8Member);
  set_member(context, members, "check", segments::check, kPlv8Member);
  set_member(context, members, "elect", segments::elect, kPlv8Member);
  set_member(context, members, "resign", segments::resign, kPlv8Member);
  set_member(context, members, "list", segments::list, kPlv8Member);
  set_member(context, members, "drop", segments::drop, kPlv8Member);
  set_member(context, members, "sweep", segments::sweep_now, kPlv8Member);
  plv8->DefineOwnProperty(context, js_string("segments"), members, kPlv8Member).Check();
}

}  // namespace host
