// The bytecode of the owner's large functions, which is to say of the bundle, in a file for other backends.
//
// Bytecode decides what runs as the owner, and V8 believes what it is given. So a file is written and read for functions of
// the role hartonomous_v8.segment_role alone, which run as it, in its own isolate, and holds what V8 made there of their source.
// It lies in the data directory, in a folder that is the server's user's, into which nobody else may write, as the tables and
// the configuration do: who can put a file there has the server already. The source is in it and compared byte by byte, a
// CRC-32C finds damage, V8 compares its version and flags. What is not as it should be is as good as absent: the function is
// compiled, and the file written anew.
#include "segments/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include <algorithm>

extern "C" {
#include "port/pg_crc32c.h"
}

namespace host {
namespace {

// Base backups leave out whatever has the prefix pgsql_tmp. The name ends with the layout's number.
constexpr char kFolder[] = "pgsql_tmp_hartonomous_v8_code1";
constexpr size_t kLeastSource = 65536;           // bytes; what is smaller is compiled sooner than a file is read
constexpr off_t kMostBytes = off_t{64} << 20;    // of a file
constexpr size_t kMostFiles = 8;                 // for builds and flags that are in use side by side
constexpr char kMagic[8] = {'H', 'A', 'R', 'T', 'C', 'O', 'D', 'E'};

struct Header {
  char magic[8];
  uint64 code_bytes, name_bytes, source_bytes;  // of what follows, in this order: V8 wants its own aligned
  uint32 crc;                                   // of what follows
  uint32 unused;
};
static_assert(sizeof(Header) % 8 == 0);

uint32 checksum(const char* data, size_t bytes) {
  pg_crc32c crc;
  INIT_CRC32C(crc);
  COMP_CRC32C(crc, data, bytes);
  FIN_CRC32C(crc);
  return crc;
}

std::string path_of(const char* source, size_t bytes) {
  char name[64];
  snprintf(name, sizeof name, "%s/%08x%08x", kFolder, checksum(source, bytes), v8::ScriptCompiler::CachedDataVersionTag());
  return name;
}

bool only_ours(const struct stat& about) { return about.st_uid == geteuid() && (about.st_mode & (S_IWGRP | S_IWOTH)) == 0; }

bool folder_is_ours() {
  struct stat about;
  return lstat(kFolder, &about) == 0 && S_ISDIR(about.st_mode) && only_ours(about);
}

bool read_all(int fd, std::string* bytes) {
  size_t got = 0;
  while (got < bytes->size()) {
    ssize_t n = read(fd, &(*bytes)[got], bytes->size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    got += n;
  }
  return true;
}

// Leave room for one more file: those that were written longest ago go.
void remove_oldest() {
  DIR* folder = opendir(kFolder);
  if (folder == nullptr) return;
  std::vector<std::pair<time_t, std::string>> files;
  while (dirent* entry = readdir(folder)) {
    std::string path = std::string(kFolder) + "/" + entry->d_name;
    struct stat about;
    if (lstat(path.c_str(), &about) == 0 && !S_ISDIR(about.st_mode)) files.push_back({about.st_mtime, path});
  }
  closedir(folder);
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i + kMostFiles <= files.size(); i++) unlink(files[i].second.c_str());
}

void write_file(const std::string& path, const Header& header, const v8::ScriptCompiler::CachedData& code, const NewCode& of) {
  if (mkdir(kFolder, 0700) != 0 && errno != EEXIST) return;
  if (!folder_is_ours()) return;
  remove_oldest();
  std::string temporary = path + "." + std::to_string(MyProcPid);
  unlink(temporary.c_str());
  segments::File file(segments::open_regular(temporary, O_WRONLY | O_CREAT | O_EXCL));
  if (!file.open()) return;
  bool written = segments::write_all(file.fd(), &header, sizeof header) && segments::write_all(file.fd(), code.data, code.length) &&
                 segments::write_all(file.fd(), of.name.data(), of.name.size()) &&
                 segments::write_all(file.fd(), of.source.data(), of.source.size());
  if (!written || rename(temporary.c_str(), path.c_str()) != 0) unlink(temporary.c_str());
}

}  // namespace

bool code_is_shared(Oid owner, const char* source) {
  if (!extras_enabled || portable() || segment_budget_mb == 0 || strlen(source) < kLeastSource) return false;
  bool shared = false;
  guarded([&] {
    Oid role = segment_role == nullptr || segment_role[0] == '\0' ? InvalidOid : get_role_oid(segment_role, true);
    shared = OidIsValid(role) && role == owner && role == GetUserId();
  });
  return shared;
}

std::string shared_code(const std::string& name, const char* source) {
  size_t source_bytes = strlen(source);
  if (!folder_is_ours()) return {};
  segments::File file(segments::open_regular(path_of(source, source_bytes), O_RDONLY));
  struct stat about;
  if (!file.open() || fstat(file.fd(), &about) != 0 || !only_ours(about)) return {};
  if (about.st_size < static_cast<off_t>(sizeof(Header)) || about.st_size > kMostBytes) return {};
  std::string bytes(about.st_size, '\0');
  if (!read_all(file.fd(), &bytes)) return {};
  Header header;
  memcpy(&header, bytes.data(), sizeof header);
  size_t rest = bytes.size() - sizeof header;
  if (memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.name_bytes != name.size() || header.source_bytes != source_bytes ||
      header.code_bytes > rest || header.code_bytes + header.name_bytes + header.source_bytes != rest ||
      header.crc != checksum(bytes.data() + sizeof header, rest)) {
    return {};
  }
  const char* behind = bytes.data() + sizeof header + header.code_bytes;
  if (memcmp(behind, name.data(), name.size()) != 0 || memcmp(behind + name.size(), source, source_bytes) != 0) return {};
  bytes.resize(sizeof header + header.code_bytes);
  return bytes;
}

v8::ScriptCompiler::CachedData* cached_data(const std::string& bytes) {
  if (bytes.empty()) return nullptr;
  return new v8::ScriptCompiler::CachedData(reinterpret_cast<const uint8_t*>(bytes.data()) + sizeof(Header),
                                            static_cast<int>(bytes.size() - sizeof(Header)));
}

void share_new_code(Instance* instance) {
  v8::HandleScope handles(instance->isolate);
  for (auto i = instance->new_code.begin(); i != instance->new_code.end();) {
    auto found = instance->functions.find(i->function);
    bool known = found != instance->functions.end() && !found->second.function.IsEmpty();
    // More is compiled in later calls, of which two more are waited for by the one who writes.
    bool wanted = known && (++i->calls == 1 || i->calls == 4 || i->calls == 16);
    if (wanted) {
      v8::Local<v8::Function> function = found->second.function.Get(instance->isolate);
      std::unique_ptr<v8::ScriptCompiler::CachedData> code(v8::ScriptCompiler::CreateCodeCacheForFunction(function));
      if (code != nullptr && code->length > 0) {
        Header header = {};
        memcpy(header.magic, kMagic, sizeof kMagic);
        header.code_bytes = code->length;
        header.name_bytes = i->name.size();
        header.source_bytes = i->source.size();
        pg_crc32c crc;
        INIT_CRC32C(crc);
        COMP_CRC32C(crc, code->data, code->length);
        COMP_CRC32C(crc, i->name.data(), i->name.size());
        COMP_CRC32C(crc, i->source.data(), i->source.size());
        FIN_CRC32C(crc);
        header.crc = crc;
        write_file(path_of(i->source.data(), i->source.size()), header, *code, *i);
      }
    }
    i = !known || i->calls >= 16 ? instance->new_code.erase(i) : i + 1;
  }
}

}  // namespace host
