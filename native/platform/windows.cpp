// Files and memory on Windows.
#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <algorithm>
#include <utility>

#include "native/core/error.h"
#include "native/platform/platform.h"

namespace inhouse::platform {
namespace {

std::string reason(DWORD error) {
  return "Windows error " + std::to_string(error);
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

FileIdentity identity_of(const BY_HANDLE_FILE_INFORMATION& info) {
  const auto join = [](DWORD high, DWORD low) { return uint64_t(high) << 32 | low; };
  return {info.dwVolumeSerialNumber, join(info.nFileIndexHigh, info.nFileIndexLow),
          join(info.nFileSizeHigh, info.nFileSizeLow),
          int64_t(join(info.ftLastWriteTime.dwHighDateTime, info.ftLastWriteTime.dwLowDateTime) * 100)};
}

}  // namespace

File File::open(const std::string& path) {
  const std::wstring name = path.size() > 32767 ? std::wstring() : wide(path);
  if (name.empty() || name.find(L'\0') != std::wstring::npos) {
    throw Error(Code::file_not_found, "a file path must be a non-empty UTF-8 text without NUL characters");
  }
  HANDLE handle =
      CreateFileW(name.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                  OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (handle == INVALID_HANDLE_VALUE) {
    const DWORD error = GetLastError();
    if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND || error == ERROR_INVALID_NAME) {
      throw Error(Code::file_not_found, path + ": no such file");
    }
    const DWORD attributes = GetFileAttributesW(name.c_str());
    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY)) {
      throw Error(Code::file_read, path + ": is a directory; expected a regular file");
    }
    throw Error(Code::file_read, path + ": cannot be opened: " + reason(error));
  }
  File file(path, reinterpret_cast<intptr_t>(handle), {});
  BY_HANDLE_FILE_INFORMATION info;
  if (GetFileType(handle) != FILE_TYPE_DISK || !GetFileInformationByHandle(handle, &info)) {
    throw Error(Code::file_read, path + ": is a pipe or device; expected a regular file");
  }
  file.identity_ = identity_of(info);
  return file;
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), handle_(std::exchange(other.handle_, -1)), identity_(other.identity_) {}

File::~File() {
  if (handle_ != -1) CloseHandle(handle_of(handle_));
}

void File::read(uint64_t offset, void* dst, uint64_t count) const {
  uint8_t* out = static_cast<uint8_t*>(dst);
  while (count > 0) {
    OVERLAPPED at = {};
    at.Offset = DWORD(offset);
    at.OffsetHigh = DWORD(offset >> 32);
    DWORD got = 0;
    const BOOL done =
        ReadFile(handle_of(handle_), out, DWORD(std::min<uint64_t>(count, 1u << 30)), &got, &at);
    if (!done && GetLastError() != ERROR_HANDLE_EOF) {
      throw Error(Code::file_read, path_ + ": reading at byte " + std::to_string(offset) +
                                       " failed: " + reason(GetLastError()));
    }
    if (got == 0) {
      throw Error(Code::file_changed, path_ + ": ends at byte " + std::to_string(offset) + " now, but had " +
                                          std::to_string(size()) + " bytes when it was opened");
    }
    out += got;
    offset += got;
    count -= got;
  }
}

void File::check_unchanged() const {
  BY_HANDLE_FILE_INFORMATION info;
  if (GetFileInformationByHandle(handle_of(handle_), &info) && identity_of(info) == identity_) return;
  throw Error(Code::file_changed, path_ + ": was written to after it was opened; load it again");
}

// Windows refuses to shrink a file that is mapped, so there is nothing to guard.
MappedFile File::map() const {
  HANDLE mapping = CreateFileMappingW(handle_of(handle_), nullptr, PAGE_READONLY, DWORD(size() >> 32),
                                      DWORD(size()), nullptr);
  const void* data = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, SIZE_T(size())) : nullptr;
  const DWORD error = GetLastError();
  if (mapping) CloseHandle(mapping);  // the view keeps it alive
  if (!data) {
    const bool memory = error == ERROR_NOT_ENOUGH_MEMORY || error == ERROR_COMMITMENT_LIMIT;
    throw Error(memory ? Code::out_of_memory : Code::file_read,
                path_ + ": cannot be mapped: " + reason(error));
  }
  return MappedFile(static_cast<const uint8_t*>(data), size(), 0);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(other.data_), size_(other.size_), slot_(std::exchange(other.slot_, -1)) {}

MappedFile::~MappedFile() {
  if (slot_ >= 0) UnmapViewOfFile(data_);
}

bool MappedFile::damaged() const {
  return false;
}

uint64_t page_size() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

void lock_memory(const void* data, uint64_t size) {
  if (size == 0) return;
  // The default working set admits a few pages only; it is raised by what is to be locked.
  SIZE_T low = 0, high = 0;
  if (GetProcessWorkingSetSize(GetCurrentProcess(), &low, &high)) {
    SetProcessWorkingSetSize(GetCurrentProcess(), low + SIZE_T(size), high + SIZE_T(size));
  }
  if (VirtualLock(const_cast<void*>(data), SIZE_T(size))) return;
  throw Error(Code::memory_lock, "lockMemory: the system refused to lock " + std::to_string(size) +
                                     " bytes: " + reason(GetLastError()) + "; free memory or turn it off");
}

void unlock_memory(const void* data, uint64_t size) noexcept {
  if (size != 0) VirtualUnlock(const_cast<void*>(data), SIZE_T(size));
}

void trim_memory() noexcept {}

MemoryInfo memory_info() {
  MEMORYSTATUSEX status = {};
  status.dwLength = sizeof status;
  if (!GlobalMemoryStatusEx(&status)) return {};
  return {status.ullTotalPhys, status.ullAvailPhys};
}

}  // namespace inhouse::platform
#endif
