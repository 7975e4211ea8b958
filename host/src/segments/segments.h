// What the files of plv8.segments share.
//
// A segment is a file of the data directory: a header, CRC-32C of every block, a text that its maker wrote, and, from a
// multiple of 2 MiB on, bytes that go read-only over a page-aligned range of a WebAssembly memory. It is written under a temporary name and renamed, so it
// is there whole or not at all; one that is damaged or was made by another build is as good as absent. Nothing here is
// needed after a restart: whoever uses segments can make them again.
#pragma once

#include "host.h"

#include <sys/stat.h>
#include <unistd.h>

namespace host::segments {

// ---- segment-file.cc ------------------------------------------------------------------------------------------

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;  // a file system that writes in pages of this size may map them as such
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

// How a segment is named: by what the caller gives as key (64 hexadecimal digits) and layout.
struct Name {
  std::string key;
  uint32 layout;
  std::string file() const;  // within the folder
  std::string path() const;  // from the data directory
};

// Closes what it holds.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File(File&& other) : fd_(other.release()) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// A descriptor of a regular file; -1 where a link, a pipe or anything else lies in its place, which nothing waits for.
int open_regular(const std::string& path, int flags);
[[noreturn]] void throw_file_error(const char* what, const std::string& path);  // of errno
bool write_all(int fd, const void* data, size_t bytes);
// Without its checksums, for a segment of this database and build.
Header header_of(const Name& name, size_t manifest_bytes, uint64 data_bytes);
// The header of an open segment and its checksums; false where it is damaged or of another build.
bool read_header(int fd, const Name& name, Header* header, std::vector<uint32>* sums);
// Whether every block has the checksum that the header holds.
bool blocks_are_whole(int fd, const Header& header, const std::vector<uint32>& sums);
std::string read_manifest(int fd, const Header& header);
// Write a whole segment: the blocks and, with their checksums, the header. `path` is for messages.
void write_contents(int fd, Header header, std::string manifest, const char* data, const std::string& path);

// ---- segment-folder.cc ----------------------------------------------------------------------------------------

// Base backups, pg_rewind and pg_checksums leave out whatever has this prefix.
constexpr char kFolder[] = "pgsql_tmp_hartonomous_v8";

struct Listed {
  Name name;
  Header header;
  struct stat about;
};

bool is_hexadecimal(const std::string& text);
// All that are whole, the one that was mapped longest ago first.
std::vector<Listed> all_segments();
// An open segment all of whose blocks are as they were published; a file that is not open where there is none.
File open_whole(const Name& name, Header* header);
// Drop segments that were mapped longest ago until `bytes` more fit the budget; false where they never will. Whoever has
// one mapped keeps its pages.
bool make_room(uint64 bytes, const Name& wanted);
void write_segment(const Name& name, const Header& header, const std::string& manifest, const char* data);
int drop_segments(const std::string& key);  // how many there were
// Remove what nobody can use: temporary files whose writer is gone, segments that are damaged or of another build.
int sweep();
// Whether this backend publishes the segment: one at a time does, until its transaction ends.
bool elect_publisher(const Name& name);
void release_elections();
void sweep_once();  // in each start of the server

// ---- segment-mapping.cc ---------------------------------------------------------------------------------------

// The bytes of a WebAssembly memory from `offset` on, of which there are at least `bytes`.
char* range_of(v8::Local<v8::Value> memory, v8::Local<v8::Value> offset, uint64 bytes);
// How far behind an address the next one lies over which a segment can be mapped in huge pages.
size_t to_huge_page(const char* at);
// Put a segment's bytes in the place of those at `to`, for reading only.
void map_over(char* to, int fd, const Header& header);

}  // namespace host::segments
