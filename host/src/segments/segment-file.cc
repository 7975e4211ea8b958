// The format of a segment: one file, written and read.
#include "segments/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/utsname.h>

#include <algorithm>

extern "C" {
#include "port/pg_crc32c.h"
#include "utils/timestamp.h"
}

namespace host::segments {
namespace {

constexpr size_t kBlock = kHugePage;  // has one checksum, and is written in one go, which is what makes huge pages
constexpr uint32 kHeaderVersion = 2;
constexpr uint32 kEndianness = 0x01020304;
constexpr char kMagic[8] = {'H', 'A', 'R', 'T', 'S', 'E', 'G', '\0'};

// What has to be the same for a segment to be of use: the machine's kind and this extension's build.
std::string host_name() {
  utsname name;
  return std::string("hartonomous_v8 ") + HOST_VERSION + " " + (uname(&name) == 0 ? name.machine : "");
}

size_t pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
size_t blocks(size_t bytes) { return (bytes + kBlock - 1) / kBlock; }

void check_for_interrupts() {
  guarded([] { CHECK_FOR_INTERRUPTS(); });
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

// Those of the manifest, then those of the data.
size_t blocks_of(const Header& header) { return blocks(pages(header.manifest_bytes)) + blocks(header.data_bytes); }

uint32 checksum(const void* data, size_t bytes) {
  pg_crc32c crc;
  INIT_CRC32C(crc);
  COMP_CRC32C(crc, data, bytes);
  FIN_CRC32C(crc);
  return crc;
}

// Bytes in front of the manifest: the header and its checksums.
size_t front_of(const Header& header) { return pages(sizeof header + blocks_of(header) * sizeof(uint32)); }

// Where the data begins; between it and the manifest nothing is written.
uint64 data_at(const Header& header) { return blocks(front_of(header) + pages(header.manifest_bytes)) * kBlock; }

// Of the header without its own checksum, and of the checksums behind it.
uint32 header_checksum(Header header, const std::vector<uint32>& sums) {
  header.crc = 0;
  pg_crc32c crc;
  INIT_CRC32C(crc);
  COMP_CRC32C(crc, &header, sizeof header);
  COMP_CRC32C(crc, sums.data(), sums.size() * sizeof(uint32));
  FIN_CRC32C(crc);
  return crc;
}

}  // namespace

int open_regular(const std::string& path, int flags) {
  int fd = open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  struct stat about;
  if (fd < 0 || (fstat(fd, &about) == 0 && S_ISREG(about.st_mode))) return fd;
  close(fd);
  errno = EINVAL;
  return -1;
}

void throw_file_error(const char* what, const std::string& path) {
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

Header header_of(const Name& name, size_t manifest_bytes, uint64 data_bytes) {
  Header header = {};
  memcpy(header.magic, kMagic, sizeof kMagic);
  header.endianness = kEndianness;
  header.version = kHeaderVersion;
  header.layout = name.layout;
  header.database = MyDatabaseId;
  memcpy(header.key, name.key.data(), sizeof header.key);
  strlcpy(header.host, host_name().c_str(), sizeof header.host);
  header.manifest_bytes = manifest_bytes;
  header.data_bytes = data_bytes;
  header.published = static_cast<int64>(GetCurrentTimestamp() / 1000 + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000));
  header.data_at = data_at(header);
  return header;
}

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
  if (header->data_at != data_at(*header)) return false;
  if (static_cast<uint64>(about.st_size) != header->data_at + header->data_bytes) return false;
  if (!read_all(fd, sums->data(), sums->size() * sizeof(uint32), sizeof *header)) return false;
  return header_checksum(*header, *sums) == header->crc;
}

bool blocks_are_whole(int fd, const Header& header, const std::vector<uint32>& sums) {
  std::vector<char> block(kBlock);
  size_t n = 0;
  auto whole = [&](uint64 at, uint64 end) {
    for (; at < end; at += kBlock, n++) {
      size_t bytes = std::min<uint64>(kBlock, end - at);
      if (!read_all(fd, block.data(), bytes, static_cast<off_t>(at)) || checksum(block.data(), bytes) != sums[n]) return false;
      check_for_interrupts();
    }
    return true;
  };
  size_t front = front_of(header);
  return whole(front, front + pages(header.manifest_bytes)) && whole(header.data_at, header.data_at + header.data_bytes);
}

std::string read_manifest(int fd, const Header& header) {
  std::string text(header.manifest_bytes, '\0');
  if (!read_all(fd, text.data(), text.size(), static_cast<off_t>(front_of(header)))) throw_js("manifest of the segment could not be read");
  return text;
}

void write_contents(int fd, Header header, std::string manifest, const char* data, const std::string& path) {
  manifest.resize(pages(manifest.size()));
  std::vector<uint32> sums;
  auto put = [&](const char* from, size_t bytes, uint64 at) {
    if (lseek(fd, static_cast<off_t>(at), SEEK_SET) < 0) throw_file_error("seek in", path);
    for (size_t done = 0; done < bytes; done += kBlock) {
      size_t size = std::min(kBlock, bytes - done);
      sums.push_back(checksum(from + done, size));
      if (!write_all(fd, from + done, size)) throw_file_error("write", path);
      check_for_interrupts();
    }
  };
  put(manifest.data(), manifest.size(), front_of(header));
  put(data, header.data_bytes, header.data_at);
  if (ftruncate(fd, static_cast<off_t>(header.data_at + header.data_bytes)) != 0) throw_file_error("write", path);  // where there are no data
  header.crc = header_checksum(header, sums);
  std::vector<char> first(front_of(header));
  memcpy(first.data(), &header, sizeof header);
  memcpy(first.data() + sizeof header, sums.data(), sums.size() * sizeof(uint32));
  if (lseek(fd, 0, SEEK_SET) < 0 || !write_all(fd, first.data(), first.size())) throw_file_error("write", path);
}

}  // namespace host::segments
