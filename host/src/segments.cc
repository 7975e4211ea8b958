// plv8.segments: prepared memory that backends share, an extension which PL/V8 does not have.
//
// A segment is a file of the data directory: a header, CRC-32C of every block, a text that its maker wrote, and bytes that
// go read-only over a page-aligned range of a WebAssembly memory. It is written under a temporary name and renamed, so it
// is there whole or not at all; one that is damaged or was made by another build is as good as absent. Nothing here is
// needed after a restart: whoever uses segments can make them again.
//
// Files are named by what the caller gives as key (64 hexadecimal digits) and layout; there is no other way to say where.
// Only functions of the role hartonomous_v8.segment_role may call, while they run as that role.
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

extern "C" {
#include "catalog/pg_proc.h"
#include "port/pg_crc32c.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

namespace host {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

// Base backups, pg_rewind and pg_checksums leave out whatever has this prefix.
constexpr char kFolder[] = "pgsql_tmp_hartonomous_v8";
// Holds the time at which the server started that swept the folder last.
constexpr char kSwept[] = "swept";
constexpr size_t kPage = 4096;
constexpr size_t kBlock = size_t{1} << 20;  // has one checksum
constexpr uint32 kHeaderVersion = 1;
constexpr uint32 kEndianness = 0x01020304;
constexpr size_t kMostManifest = size_t{64} << 20;

struct Header {
  char magic[8];
  uint32 endianness;
  uint32 version;
  uint32 layout;
  uint32 database;
  char key[64];
  char host[64];
  uint64 manifest_bytes;
  uint64 data_at;
  uint64 data_bytes;
  int64 published;  // milliseconds since 1970
  uint32 crc;       // of the header with 0 here, and of the checksums behind it
};

constexpr char kMagic[8] = {'H', 'A', 'R', 'T', 'S', 'E', 'G', '\0'};

// What has to be the same for a segment to be of use: the machine's kind and this extension's build.
std::string host_name() {
  utsname name;
  return std::string("hartonomous_v8 ") + HOST_VERSION + " " + (uname(&name) == 0 ? name.machine : "");
}

size_t pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

void check_for_interrupts() {
  guarded([] { CHECK_FOR_INTERRUPTS(); });
}

[[noreturn]] void throw_file_error(const char* what, const std::string& path) {
  int error = errno;
  const char* name = path.c_str();
  guarded([&] {
    errno = error;
    ereport(ERROR, (errcode_for_file_access(), errmsg("could not %s file \"%s\": %m", what, name)));
  });
  throw JsPending{};  // never reached
}

bool write_all(int fd, const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    ssize_t written = write(fd, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      if (written == 0) errno = ENOSPC;
      return false;
    }
    at += written;
    bytes -= written;
  }
  return true;
}

bool read_all(int fd, void* data, size_t bytes, off_t at) {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    ssize_t got = pread(fd, to, bytes, at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    at += got;
    bytes -= got;
  }
  return true;
}

uint32 checksum(const void* data, size_t bytes) {
  pg_crc32c crc;
  INIT_CRC32C(crc);
  COMP_CRC32C(crc, data, bytes);
  FIN_CRC32C(crc);
  return crc;
}

size_t blocks_of(const Header& header) { return (pages(header.manifest_bytes) + header.data_bytes + kBlock - 1) / kBlock; }

// ---- who may

bool has_right() {
  bool allowed = false;
  guarded([&] {
    Oid role = segment_role == nullptr || segment_role[0] == '\0' ? InvalidOid : get_role_oid(segment_role, true);
    if (!OidIsValid(role) || GetUserId() != role || running_call == nullptr || running_call->fcinfo == nullptr) return;
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(running_call->fcinfo->flinfo->fn_oid));
    if (!HeapTupleIsValid(tuple)) return;
    allowed = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->proowner == role;
    ReleaseSysCache(tuple);
  });
  return allowed;
}

void require_right() {
  if (!has_right()) {
    guarded([] {
      ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for segments"),
                      errdetail("Only functions of the role that hartonomous_v8.segment_role names may use them.")));
    });
  }
}

// ---- names

struct Name {
  std::string key;
  uint32 layout;
  std::string file() const {
    char number[16];
    snprintf(number, sizeof number, "_%08x", layout);
    return key + number;
  }
  std::string path() const { return std::string(kFolder) + "/" + file(); }
};

bool is_hexadecimal(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Name name_from(Info info) {
  if (info.Length() < 2 || !info[0]->IsString() || !info[1]->IsUint32()) throw_js("a segment is named by key and layout");
  Name name{std::string(std_string(info[0])), info[1].As<v8::Uint32>()->Value()};
  if (name.key.size() != sizeof(Header::key) || !is_hexadecimal(name.key)) {
    throw_js("key of a segment must be 64 hexadecimal digits");
  }
  return name;
}

// Of a file in the folder; false where it is none of a segment.
bool name_of(const std::string& file, Name* name) {
  constexpr size_t kKey = sizeof(Header::key);
  if (file.size() != kKey + 9 || file[kKey] != '_') return false;
  name->key = file.substr(0, kKey);
  std::string layout = file.substr(kKey + 1);
  if (!is_hexadecimal(name->key) || !is_hexadecimal(layout)) return false;
  name->layout = static_cast<uint32>(std::stoul(layout, nullptr, 16));
  return true;
}

void each_file(const std::function<void(const std::string&)>& visit) {
  DIR* folder = opendir(kFolder);
  if (folder == nullptr) return;
  std::vector<std::string> files;
  while (dirent* entry = readdir(folder)) files.push_back(entry->d_name);
  closedir(folder);
  for (const std::string& file : files) {
    if (file[0] != '.') visit(file);
  }
}

// ---- reading

// The header of an open segment and its checksums; false where it is damaged or of another build.
bool read_header(int fd, const Name& name, Header* header, std::vector<uint32>* sums) {
  struct stat about;
  if (fstat(fd, &about) != 0 || !read_all(fd, header, sizeof *header, 0)) return false;
  if (memcmp(header->magic, kMagic, sizeof kMagic) != 0 || header->endianness != kEndianness) return false;
  if (header->version != kHeaderVersion || header->layout != name.layout) return false;
  if (memcmp(header->key, name.key.data(), sizeof header->key) != 0) return false;
  if (strncmp(header->host, host_name().c_str(), sizeof header->host) != 0) return false;
  if (header->manifest_bytes > kMostManifest || header->data_bytes > (uint64{1} << 40) || header->data_bytes % kPage != 0) {
    return false;
  }
  sums->resize(blocks_of(*header));
  size_t front = pages(sizeof *header + sums->size() * sizeof(uint32));
  if (header->data_at != front + pages(header->manifest_bytes)) return false;
  if (static_cast<uint64>(about.st_size) != header->data_at + header->data_bytes) return false;
  if (!read_all(fd, sums->data(), sums->size() * sizeof(uint32), sizeof *header)) return false;
  Header plain = *header;
  plain.crc = 0;
  pg_crc32c crc;
  INIT_CRC32C(crc);
  COMP_CRC32C(crc, &plain, sizeof plain);
  COMP_CRC32C(crc, sums->data(), sums->size() * sizeof(uint32));
  FIN_CRC32C(crc);
  return crc == header->crc;
}

// Whether every block has the checksum that the header holds.
bool blocks_are_whole(int fd, const Header& header, const std::vector<uint32>& sums) {
  uint64 at = header.data_at - pages(header.manifest_bytes), end = header.data_at + header.data_bytes;
  std::vector<char> block(kBlock);
  for (uint32 sum : sums) {
    size_t bytes = std::min<uint64>(kBlock, end - at);
    if (!read_all(fd, block.data(), bytes, static_cast<off_t>(at)) || checksum(block.data(), bytes) != sum) return false;
    at += bytes;
    check_for_interrupts();
  }
  return true;
}

std::string text_of(const std::string& path) {
  File file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  char text[64];
  ssize_t bytes = file.open() ? read(file.fd(), text, sizeof text) : 0;
  return std::string(text, bytes < 0 ? 0 : bytes);
}

void note(const std::string& path, const std::string& text) {
  File file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file.open() && !write_all(file.fd(), text.data(), text.size())) unlink(path.c_str());
}

// Names one run of the server.
std::string this_start() { return std::to_string(PgStartTime); }

// The blocks of a segment are checked once for each start of the server, by whoever opens it first.
bool is_checked(const std::string& path, const struct stat& about) {
  return text_of(path + ".checked") == this_start() + " " + std::to_string(about.st_ino);
}

void note_checked(const std::string& path, const struct stat& about) {
  note(path + ".checked", this_start() + " " + std::to_string(about.st_ino));
}

void remove_segment(const std::string& path) {
  unlink((path + ".checked").c_str());
  unlink(path.c_str());
}

// Remove what nobody can use: temporary files whose writer is gone, segments that are damaged or of another build.
int sweep() {
  int removed = 0;
  each_file([&](const std::string& file) {
    std::string path = std::string(kFolder) + "/" + file;
    Name name;
    if (name_of(file, &name)) {
      File segment(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
      Header header;
      std::vector<uint32> sums;
      if (segment.open() && read_header(segment.fd(), name, &header, &sums)) return;
      remove_segment(path);
      removed++;
    } else if (file.size() > 8 && file.compare(file.size() - 8, 8, ".checked") == 0) {
      if (access(path.substr(0, path.size() - 8).c_str(), F_OK) != 0) unlink(path.c_str());
    } else if (file != kSwept) {
      // A writer holds a lock on its temporary file.
      File temporary(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
      if (temporary.open() && flock(temporary.fd(), LOCK_EX | LOCK_NB) != 0) return;
      unlink(path.c_str());
      removed++;
    }
  });
  return removed;
}

void sweep_once() {
  std::string path = std::string(kFolder) + "/" + kSwept;
  if (access(kFolder, F_OK) != 0 || text_of(path) == this_start()) return;
  sweep();
  note(path, this_start());
}

// ---- mapped ranges

struct Range {
  const char* from;
  const char* to;
};
constexpr int kMostRanges = 64;
Range ranges[kMostRanges];  // read by a signal handler
volatile int n_ranges = 0;

void remember_range(const char* from, const char* to) {
  int at = 0;
  while (at < n_ranges && (ranges[at].to <= from || ranges[at].from >= to)) at++;
  ranges[at < kMostRanges ? at : 0] = {from, to};
  if (at == n_ranges && n_ranges < kMostRanges) n_ranges++;
}

// ---- members of plv8.segments

struct Segment : Handle {
  static constexpr Kind kKind = kSegment;
  explicit Segment(int fd) : Handle(kKind), file(fd) {}
  File file;
  Header header;
};

// The bytes of a WebAssembly memory from `offset` on, of which there are at least `bytes`.
char* range_of(v8::Local<v8::Value> memory, v8::Local<v8::Value> offset, uint64 bytes) {
  v8::Local<v8::Value> buffer;
  if (!memory->IsObject() || !js_property(memory.As<v8::Object>(), "buffer", &buffer) || !buffer->IsArrayBuffer() ||
      buffer.As<v8::ArrayBuffer>()->IsDetachable()) {
    throw_js("a segment needs a WebAssembly memory");
  }
  v8::Local<v8::ArrayBuffer> whole = buffer.As<v8::ArrayBuffer>();
  double at = offset->IsNumber() ? offset.As<v8::Number>()->Value() : -1;
  if (!(at >= 0) || at != static_cast<double>(static_cast<uint64>(at)) || static_cast<uint64>(at) % kPage != 0 ||
      static_cast<uint64>(at) + bytes > whole->ByteLength()) {
    throw_js("segment of " + std::to_string(bytes) + " bytes cannot stand at byte " + std::to_string(static_cast<int64>(at)) +
             " of a memory of " + std::to_string(whole->ByteLength()));
  }
  return static_cast<char*>(whole->Data()) + static_cast<uint64>(at);
}

uint64 bytes_from(v8::Local<v8::Value> value) {
  double bytes = value->IsNumber() ? value.As<v8::Number>()->Value() : -1;
  if (!(bytes >= 0) || bytes > 4294967296.0 || bytes != static_cast<double>(static_cast<uint64>(bytes)) ||
      static_cast<uint64>(bytes) % kPage != 0) {
    throw_js("length of a segment must be a whole number of pages of " + std::to_string(kPage) + " bytes");
  }
  return static_cast<uint64>(bytes);
}

struct Listed {
  Name name;
  Header header;
  struct stat about;
};

std::vector<Listed> all_segments() {
  std::vector<Listed> list;
  each_file([&](const std::string& file) {
    Listed one;
    std::vector<uint32> sums;
    if (!name_of(file, &one.name)) return;
    File segment(open(one.name.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!segment.open() || fstat(segment.fd(), &one.about) != 0) return;
    if (read_header(segment.fd(), one.name, &one.header, &sums)) list.push_back(one);
  });
  std::sort(list.begin(), list.end(), [](const Listed& a, const Listed& b) {
    return std::pair(a.about.st_mtim.tv_sec, a.about.st_mtim.tv_nsec) < std::pair(b.about.st_mtim.tv_sec, b.about.st_mtim.tv_nsec);
  });
  return list;
}

// Drop segments that were mapped longest ago until `bytes` more fit the budget; false where they never will. Whoever has
// one mapped keeps its pages.
bool make_room(uint64 bytes, const Name& wanted) {
  uint64 budget = static_cast<uint64>(segment_budget_mb) << 20;
  if (bytes > budget) return false;
  std::vector<Listed> list = all_segments();
  uint64 used = 0;
  for (const Listed& one : list) used += one.about.st_size;
  for (const Listed& one : list) {
    if (used + bytes <= budget) break;
    if (one.name.file() == wanted.file()) continue;
    remove_segment(one.name.path());
    used -= one.about.st_size;
  }
  return true;
}

// publish(key, layout, manifest, memory, offset, bytes): whether the segment is there now; false where it is over the budget.
void publish(Info info) {
  callback_body(info, [&] {
    require_right();
    Name name = name_from(info);
    if (info.Length() < 6 || !info[2]->IsString()) throw_js("usage: publish(key, layout, manifest, memory, offset, bytes)");
    std::string manifest = std_string(info[2]);
    uint64 bytes = bytes_from(info[5]);
    const char* data = range_of(info[3], info[4], bytes);
    if (manifest.size() > kMostManifest) throw_js("manifest of " + std::to_string(manifest.size()) + " bytes is too long");
    Header header = {};
    memcpy(header.magic, kMagic, sizeof kMagic);
    header.endianness = kEndianness;
    header.version = kHeaderVersion;
    header.layout = name.layout;
    header.database = MyDatabaseId;
    memcpy(header.key, name.key.data(), sizeof header.key);
    strlcpy(header.host, host_name().c_str(), sizeof header.host);
    header.manifest_bytes = manifest.size();
    header.data_bytes = bytes;
    header.published = static_cast<int64>(GetCurrentTimestamp() / 1000 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000));
    manifest.resize(pages(manifest.size()));
    std::vector<uint32> sums(blocks_of(header));
    size_t front = pages(sizeof header + sums.size() * sizeof(uint32));
    header.data_at = front + manifest.size();
    if (!make_room(header.data_at + bytes, name)) {
      info.GetReturnValue().Set(false);
      return;
    }
    if (mkdir(kFolder, 0700) != 0 && errno != EEXIST) throw_file_error("create", kFolder);
    sweep();
    std::string path = name.path(), temporary = path + "." + std::to_string(MyProcPid);
    File file(open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.open()) throw_file_error("create", path);
    try {
      if (flock(file.fd(), LOCK_EX | LOCK_NB) != 0) throw_file_error("lock", path);
      if (lseek(file.fd(), static_cast<off_t>(front), SEEK_SET) < 0) throw_file_error("seek in", path);
      uint64 total = manifest.size() + bytes, at = 0;
      for (uint32& sum : sums) {
        // A block holds the end of the manifest, then data.
        size_t size = std::min<uint64>(kBlock, total - at);
        size_t head = at < manifest.size() ? std::min(size, manifest.size() - static_cast<size_t>(at)) : 0;
        const char* body = data + (at + head - manifest.size());
        pg_crc32c block;
        INIT_CRC32C(block);
        if (head > 0) COMP_CRC32C(block, manifest.data() + at, head);
        if (size > head) COMP_CRC32C(block, body, size - head);
        FIN_CRC32C(block);
        sum = block;
        if ((head > 0 && !write_all(file.fd(), manifest.data() + at, head)) ||
            (size > head && !write_all(file.fd(), body, size - head))) {
          throw_file_error("write", path);
        }
        at += size;
        check_for_interrupts();
      }
      pg_crc32c crc;
      INIT_CRC32C(crc);
      COMP_CRC32C(crc, &header, sizeof header);
      COMP_CRC32C(crc, sums.data(), sums.size() * sizeof(uint32));
      FIN_CRC32C(crc);
      header.crc = crc;
      std::vector<char> first(front);
      memcpy(first.data(), &header, sizeof header);
      memcpy(first.data() + sizeof header, sums.data(), sums.size() * sizeof(uint32));
      struct stat about;
      if (lseek(file.fd(), 0, SEEK_SET) < 0 || !write_all(file.fd(), first.data(), front)) throw_file_error("write", path);
      if (fstat(file.fd(), &about) != 0 || rename(temporary.c_str(), path.c_str()) != 0) throw_file_error("rename", path);
      note_checked(path, about);
    } catch (...) {
      unlink(temporary.c_str());
      throw;
    }
    info.GetReturnValue().Set(true);
  });
}

// segment.map(memory, offset): the segment's bytes take the place of the memory's, for reading only.
void map(Info info) {
  callback_body(info, [&] {
    require_right();
    Segment* segment = handle_of<Segment>(info, "not a segment");
    if (!segment->file.open()) throw_js("segment is closed");
    if (info.Length() < 2) throw_js("usage: map(memory, offset)");
    const Header& header = segment->header;
    char* to = range_of(info[0], info[1], header.data_bytes);
    if (header.data_bytes == 0) return;
    void* mapped = mmap(to, header.data_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, segment->file.fd(),
                        static_cast<off_t>(header.data_at));
    if (mapped != to) throw_file_error("map", Name{std::string(header.key, sizeof header.key), header.layout}.path());
    remember_range(to, to + header.data_bytes);
    futimens(segment->file.fd(), nullptr);  // mapped last: make_room drops the others first
  });
}

std::string manifest_of(Segment* segment) {
  if (!segment->file.open()) throw_js("segment is closed");
  std::string text(segment->header.manifest_bytes, '\0');
  off_t at = static_cast<off_t>(segment->header.data_at - pages(text.size()));
  if (!read_all(segment->file.fd(), text.data(), text.size(), at)) throw_js("manifest of the segment could not be read");
  return text;
}

// segment.manifest: the whole text, read when it is asked for.
void manifest(v8::Local<v8::Name>, const v8::PropertyCallbackInfo<v8::Value>& info) {
  try {
    info.GetReturnValue().Set(js_string(manifest_of(static_cast<Segment*>(handle_in(info.This(), Handle::kSegment, "not a segment")))));
  } catch (const PgError& error) {
    throw_in_javascript(info.GetIsolate(), error.edata);
  } catch (const JsPending&) {
  }
}

// segment.line(n): a line of the manifest, from 0; undefined behind the last.
void manifest_line(Info info) {
  callback_body(info, [&] {
    require_right();
    Segment* segment = handle_of<Segment>(info, "not a segment");
    if (info.Length() < 1 || !info[0]->IsUint32()) throw_js("line needs a number");
    std::string text = manifest_of(segment);
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

// open(key, layout): an object with manifest, line, bytes, map and close; null where there is no whole segment of that name.
void open_segment(Info info) {
  callback_body(info, [&] {
    require_right();
    Name name = name_from(info);
    info.GetReturnValue().SetNull();
    if (segment_budget_mb == 0) return;
    sweep_once();
    std::string path = name.path();
    File file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.open()) return;
    Header header;
    std::vector<uint32> sums;
    struct stat about;
    bool whole = fstat(file.fd(), &about) == 0 && read_header(file.fd(), name, &header, &sums);
    if (whole && !is_checked(path, about)) {
      whole = blocks_are_whole(file.fd(), header, sums);
      if (whole) note_checked(path, about);
    }
    if (!whole) {
      remove_segment(path);
      return;
    }
    Segment* segment = new Segment(file.release());
    segment->header = header;
    v8::Isolate* isolate = info.GetIsolate();
    v8::Local<v8::Context> context = isolate->GetCurrentContext();
    v8::Local<v8::Object> object = handle_for(segment);
    set_member(context, object, "map", map);
    set_member(context, object, "close", close_segment);
    set_member(context, object, "line", manifest_line);
    object->SetLazyDataProperty(context, js_string("manifest"), manifest).Check();
    object->Set(context, js_string("bytes"), v8::Number::New(isolate, static_cast<double>(header.data_bytes))).Check();
    info.GetReturnValue().Set(object);
  });
}

// check(key, layout): whether every block is what was published; null where there is no such segment.
void check(Info info) {
  callback_body(info, [&] {
    require_right();
    Name name = name_from(info);
    info.GetReturnValue().SetNull();
    File file(open(name.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.open()) return;
    Header header;
    std::vector<uint32> sums;
    bool whole = read_header(file.fd(), name, &header, &sums) && blocks_are_whole(file.fd(), header, sums);
    info.GetReturnValue().Set(whole);
  });
}

void list(Info info) {
  callback_body(info, [&] {
    require_right();
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
    require_right();
    if (info.Length() < 1 || !info[0]->IsString()) throw_js("drop needs the key of a segment");
    std::string key = std_string(info[0]);
    int dropped = 0;
    each_file([&](const std::string& file) {
      Name name;
      if (!name_of(file, &name) || name.key != key) return;
      remove_segment(name.path());
      dropped++;
    });
    info.GetReturnValue().Set(dropped);
  });
}

// usable(): whether the running function has the right and there is a budget.
void usable(Info info) {
  callback_body(info, [&] { info.GetReturnValue().Set(segment_budget_mb > 0 && has_right()); });
}

void sweep_now(Info info) {
  callback_body(info, [&] {
    require_right();
    info.GetReturnValue().Set(sweep());
  });
}

}  // namespace

bool is_mapped(const void* address) {
  const char* at = static_cast<const char*>(address);
  for (int i = 0; i < n_ranges; i++) {
    if (at >= ranges[i].from && at < ranges[i].to) return true;
  }
  return false;
}

void install_segments(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  v8::Isolate* isolate = context->GetIsolate();
  v8::Local<v8::Object> segments = v8::Object::New(isolate);
  set_member(context, segments, "usable", usable, kPlv8Member);
  set_member(context, segments, "publish", publish, kPlv8Member);
  set_member(context, segments, "open", open_segment, kPlv8Member);
  set_member(context, segments, "check", check, kPlv8Member);
  set_member(context, segments, "list", list, kPlv8Member);
  set_member(context, segments, "drop", drop, kPlv8Member);
  set_member(context, segments, "sweep", sweep_now, kPlv8Member);
  plv8->DefineOwnProperty(context, js_string("segments"), segments, kPlv8Member).Check();
}

}  // namespace host
