// Files on POSIX systems.
#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "native/core/error.h"
#include "native/platform/platform.h"

namespace inhouse::platform {
namespace {

[[noreturn]] void fail_open(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    throw Error(Code::file_not_found, path + ": no such file");
  }
  throw Error(Code::file_read, path + ": cannot be opened: " + std::generic_category().message(error));
}

void require_regular(const std::string& path, const struct stat& status) {
  const char* kind = S_ISREG(status.st_mode)    ? nullptr
                     : S_ISDIR(status.st_mode)  ? "a directory"
                     : S_ISFIFO(status.st_mode) ? "a pipe"
                     : S_ISSOCK(status.st_mode) ? "a socket"
                                                : "a device";
  if (kind) throw Error(Code::file_read, path + ": is " + kind + "; expected a regular file");
}

FileIdentity identity_of(const struct stat& status) {
#ifdef __APPLE__
  const struct timespec& time = status.st_mtimespec;
#else
  const struct timespec& time = status.st_mtim;
#endif
  return {uint64_t(status.st_dev), uint64_t(status.st_ino), uint64_t(status.st_size),
          int64_t(time.tv_sec) * 1'000'000'000 + int64_t(time.tv_nsec)};
}

}  // namespace

File File::open(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    throw Error(Code::file_not_found, "a file path must be a non-empty text without NUL characters");
  }
  // The kind is asked before opening, because opening a device can act on it, and after, because the path may
  // have changed meanwhile. O_NONBLOCK keeps the open itself from waiting for a pipe's other end.
  struct stat status;
  if (stat(path.c_str(), &status) != 0) fail_open(path, errno);
  require_regular(path, status);
  int fd;
  do {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_open(path, errno);
  File file(path, fd, {});
  if (fstat(fd, &status) != 0) fail_open(path, errno);
  require_regular(path, status);
  file.identity_ = identity_of(status);
  return file;
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), handle_(std::exchange(other.handle_, -1)), identity_(other.identity_) {}

File::~File() {
  if (handle_ >= 0) close(int(handle_));
}

void File::read(uint64_t offset, void* dst, uint64_t count) const {
  constexpr uint64_t max_chunk = uint64_t(1) << 30;  // systems cap one read at about 2 GiB
  uint8_t* out = static_cast<uint8_t*>(dst);
  while (count > 0) {
    const ssize_t got = pread(int(handle_), out, size_t(std::min(count, max_chunk)), off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw Error(Code::file_read, path_ + ": reading at byte " + std::to_string(offset) +
                                       " failed: " + std::generic_category().message(errno));
    }
    if (got == 0) {
      throw Error(Code::file_changed, path_ + ": ends at byte " + std::to_string(offset) + " now, but had " +
                                          std::to_string(size()) + " bytes when it was opened");
    }
    out += got;
    offset += uint64_t(got);
    count -= uint64_t(got);
  }
}

void File::check_unchanged() const {
  struct stat status;
  if (fstat(int(handle_), &status) == 0 && identity_of(status) == identity_) return;
  throw Error(Code::file_changed, path_ + ": was written to after it was opened; load it again");
}

uint64_t page_size() {
  static const uint64_t size = uint64_t(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace inhouse::platform
#endif
