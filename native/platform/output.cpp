// Files that are written as a whole.
#include "native/platform/output.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "native/core/error.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#endif

namespace inhouse::platform {
namespace {

constexpr uint64_t kLargestWrite = uint64_t(1) << 30;
constexpr int kAttempts = 100;

// Another name in each call, of any process.
std::string temporary_name(const std::string& path, int64_t process) {
  static std::atomic<uint32_t> count{0};
  const auto time = std::chrono::system_clock::now().time_since_epoch().count();
  return path + "." + std::to_string(process) + "-" + std::to_string(time % 1'000'000'000) + "-" +
         std::to_string(count++) + ".tmp";
}

[[noreturn]] void fail(const std::string& path, const char* what, const std::string& reason) {
  throw Error(Code::file_write, path + ": " + what + ": " + reason);
}

void check_path(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos)
    fail("the file", "cannot be written", "its path must be a non-empty text without NUL characters");
}

#ifdef _WIN32

std::string reason() {
  return "Windows error " + std::to_string(GetLastError());
}
std::wstring wide(const std::string& path) {
  const int length =
      MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), int(path.size()), nullptr, 0);
  std::wstring out(size_t(length), L'\0');
  if (length > 0) MultiByteToWideChar(CP_UTF8, 0, path.data(), int(path.size()), out.data(), length);
  return out;
}
HANDLE handle_of(intptr_t handle) {
  return reinterpret_cast<HANDLE>(handle);
}

}  // namespace

OutputFile::OutputFile(const std::string& path) : path_(path) {
  check_path(path);
  for (int i = 0; i < kAttempts; ++i) {
    temporary_ = temporary_name(path, int64_t(GetCurrentProcessId()));
    const HANDLE handle = CreateFileW(wide(temporary_).c_str(), GENERIC_WRITE, FILE_SHARE_DELETE, nullptr,
                                      CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr);
    if (handle != INVALID_HANDLE_VALUE) {
      handle_ = reinterpret_cast<intptr_t>(handle);
      return;
    }
    if (GetLastError() != ERROR_FILE_EXISTS) break;
  }
  fail(path, "cannot be written", reason());
}

OutputFile::~OutputFile() {
  if (handle_ != -1) CloseHandle(handle_of(handle_));
  if (!temporary_.empty()) DeleteFileW(wide(temporary_).c_str());
}

void OutputFile::write(uint64_t offset, const void* data, uint64_t count) {
  const auto* from = static_cast<const uint8_t*>(data);
  while (count > 0) {
    OVERLAPPED at = {};
    at.Offset = DWORD(offset);
    at.OffsetHigh = DWORD(offset >> 32);
    DWORD done = 0;
    if (!WriteFile(handle_of(handle_), from, DWORD(std::min(count, kLargestWrite)), &done, &at) || done == 0)
      fail(path_, "cannot be written", reason());
    from += done;
    offset += done;
    count -= done;
  }
}

void OutputFile::commit() {
  if (!FlushFileBuffers(handle_of(handle_))) fail(path_, "cannot be written", reason());
  CloseHandle(handle_of(handle_));
  handle_ = -1;
  if (!MoveFileExW(wide(temporary_).c_str(), wide(path_).c_str(),
                   MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
    fail(path_, "cannot be replaced", reason());
  temporary_.clear();
}

#else

std::string reason() {
  return std::generic_category().message(errno);
}

}  // namespace

OutputFile::OutputFile(const std::string& path) : path_(path) {
  check_path(path);
  for (int i = 0; i < kAttempts; ++i) {
    temporary_ = temporary_name(path, int64_t(getpid()));
    handle_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
    if (handle_ >= 0) return;
    if (errno != EEXIST && errno != EINTR) break;
  }
  fail(path, "cannot be written", reason());
}

OutputFile::~OutputFile() {
  if (handle_ >= 0) close(int(handle_));
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void OutputFile::write(uint64_t offset, const void* data, uint64_t count) {
  const auto* from = static_cast<const uint8_t*>(data);
  while (count > 0) {
    const ssize_t done = pwrite(int(handle_), from, size_t(std::min(count, kLargestWrite)), off_t(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail(path_, "cannot be written", reason());
    from += done;
    offset += uint64_t(done);
    count -= uint64_t(done);
  }
}

void OutputFile::commit() {
  if (fsync(int(handle_)) != 0) fail(path_, "cannot be written", reason());
  const int closed = close(int(handle_));
  handle_ = -1;
  if (closed != 0 && errno != EINTR) fail(path_, "cannot be written", reason());
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot be replaced", reason());
  temporary_.clear();
}

#endif

}  // namespace inhouse::platform
