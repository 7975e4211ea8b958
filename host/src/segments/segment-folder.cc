// The folder of segments: names, what is there, which blocks were checked, the budget.
#include "segments/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <functional>
#include <map>

extern "C" {
#include "utils/timestamp.h"
}

namespace host::segments {
namespace {

// Holds the time at which the server started that swept the folder last.
constexpr char kSwept[] = "swept";

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

std::string text_of(const std::string& path) {
  File file(open_regular(path, O_RDONLY));
  char text[64];
  ssize_t bytes = file.open() ? read(file.fd(), text, sizeof text) : 0;
  return std::string(text, bytes < 0 ? 0 : bytes);
}

void note(const std::string& path, const std::string& text) {
  File file(open_regular(path, O_WRONLY | O_CREAT | O_TRUNC));
  if (!file.open() || !write_all(file.fd(), text.data(), text.size())) unlink(path.c_str());
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

// Locked files by their paths, each for as long as this backend publishes what the path says.
std::map<std::string, int> elections;

}  // namespace

std::string Name::file() const {
  char number[16];
  snprintf(number, sizeof number, "_%08x", layout);
  return key + number;
}

std::string Name::path() const { return std::string(kFolder) + "/" + file(); }

bool is_hexadecimal(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

int sweep() {
  int removed = 0;
  each_file([&](const std::string& file) {
    std::string path = std::string(kFolder) + "/" + file;
    Name name;
    if (name_of(file, &name)) {
      File segment(open_regular(path, O_RDONLY));
      Header header;
      std::vector<uint32> sums;
      if (segment.open() && read_header(segment.fd(), name, &header, &sums)) return;
      remove_segment(path);
      removed++;
    } else if (file.size() > 8 && file.compare(file.size() - 8, 8, ".checked") == 0) {
      if (access(path.substr(0, path.size() - 8).c_str(), F_OK) != 0) unlink(path.c_str());
    } else if (file != kSwept) {
      // A writer holds a lock on its temporary file.
      File temporary(open_regular(path, O_RDWR));
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

std::vector<Listed> all_segments() {
  std::vector<Listed> list;
  each_file([&](const std::string& file) {
    Listed one;
    std::vector<uint32> sums;
    if (!name_of(file, &one.name)) return;
    File segment(open_regular(one.name.path(), O_RDONLY));
    if (!segment.open() || fstat(segment.fd(), &one.about) != 0) return;
    if (read_header(segment.fd(), one.name, &one.header, &sums)) list.push_back(one);
  });
  std::sort(list.begin(), list.end(), [](const Listed& a, const Listed& b) {
    return std::pair(a.about.st_mtim.tv_sec, a.about.st_mtim.tv_nsec) < std::pair(b.about.st_mtim.tv_sec, b.about.st_mtim.tv_nsec);
  });
  return list;
}

File open_whole(const Name& name, Header* header) {
  std::string path = name.path();
  File file(open_regular(path, O_RDONLY));
  if (!file.open()) return file;
  std::vector<uint32> sums;
  struct stat about;
  bool whole = fstat(file.fd(), &about) == 0 && read_header(file.fd(), name, header, &sums);
  if (whole && !is_checked(path, about)) {
    whole = blocks_are_whole(file.fd(), *header, sums);
    if (whole) note_checked(path, about);
  }
  if (whole) return file;
  remove_segment(path);
  return File(-1);
}

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

void write_segment(const Name& name, const Header& header, const std::string& manifest, const char* data) {
  if (mkdir(kFolder, 0700) != 0 && errno != EEXIST) throw_file_error("create", kFolder);
  sweep();
  std::string path = name.path(), temporary = path + "." + std::to_string(MyProcPid);
  File file(open_regular(temporary, O_RDWR | O_CREAT | O_TRUNC));
  if (!file.open()) throw_file_error("create", path);
  try {
    if (flock(file.fd(), LOCK_EX | LOCK_NB) != 0) throw_file_error("lock", path);
    write_contents(file.fd(), header, manifest, data, path);
    struct stat about;
    if (fstat(file.fd(), &about) != 0 || rename(temporary.c_str(), path.c_str()) != 0) throw_file_error("rename", path);
    note_checked(path, about);
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
}

int drop_segments(const std::string& key) {
  int dropped = 0;
  each_file([&](const std::string& file) {
    Name name;
    if (!name_of(file, &name) || name.key != key) return;
    remove_segment(name.path());
    dropped++;
  });
  return dropped;
}

bool elect_publisher(const Name& name) {
  std::string path = name.path() + ".publisher";
  if (elections.count(path) != 0) return true;
  if (mkdir(kFolder, 0700) != 0 && errno != EEXIST) throw_file_error("create", kFolder);
  File file(open_regular(path, O_RDWR | O_CREAT));
  if (!file.open() && (errno == ELOOP || errno == EINVAL)) {
    unlink(path.c_str());  // a link or a pipe; the next attempt makes the file
    return false;
  }
  if (!file.open()) throw_file_error("create", path);
  if (flock(file.fd(), LOCK_EX | LOCK_NB) != 0) return false;
  // Whoever had it before may have removed it between the two steps.
  struct stat held, named;
  if (fstat(file.fd(), &held) != 0 || stat(path.c_str(), &named) != 0 || held.st_ino != named.st_ino) return false;
  elections[path] = file.release();
  return true;
}

void release_elections() {
  for (const auto& [path, fd] : elections) {
    unlink(path.c_str());
    close(fd);
  }
  elections.clear();
}

}  // namespace host::segments
