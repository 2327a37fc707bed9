// What the core needs of the operating system for files and memory. One implementation per system beside this
// header; nothing above this folder names a system call. Paths are UTF-8.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace inhouse::platform {

// Names a file's very content on this machine: a file that is replaced or written to gets another identity.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;
  int64_t modified_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

// A read-only shared view of a whole file. If the file shrinks while it is mapped, reads of the lost pages
// give zeros instead of ending the process, and `damaged` becomes true (where the system lets a mapped file
// shrink).
class MappedFile {
 public:
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();
  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  bool damaged() const;

 private:
  friend class File;
  MappedFile(const uint8_t* data, uint64_t size, int slot) : data_(data), size_(size), slot_(slot) {}
  const uint8_t* data_;
  uint64_t size_;
  int slot_;  // in the table of guarded ranges; -1 once moved from
};

// A regular file, open for reading. Thread-safe: reads carry their own position.
class File {
 public:
  // Errors: file_not_found, file_read (also for what is not a regular file: never blocks on a pipe or
  // device).
  static File open(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  uint64_t size() const { return identity_.size; }  // when it was opened
  const FileIdentity& identity() const { return identity_; }

  // Fills dst completely. Errors: file_changed where the file has become too short, file_read otherwise.
  void read(uint64_t offset, void* dst, uint64_t count) const;

  // Throws file_changed where the file has been written to since it was opened, by its size and time; takes
  // about a microsecond. A file that another has replaced under its name is unchanged.
  void check_unchanged() const;

  // Maps the file at its size when it was opened (> 0). Errors: file_changed, file_read, out_of_memory.
  MappedFile map() const;

 private:
  File(std::string path, intptr_t handle, const FileIdentity& identity)
      : path_(std::move(path)), handle_(handle), identity_(identity) {}
  std::string path_;
  intptr_t handle_;
  FileIdentity identity_;
};

uint64_t page_size();

// Keeps pages in memory. Error: memory_lock, saying which limit to raise.
void lock_memory(const void* data, uint64_t size);
void unlock_memory(const void* data, uint64_t size) noexcept;

// Gives memory that was freed back to the system, where the C library would keep it for later.
void trim_memory() noexcept;

// Memory that this process may use: the machine's, or less where a container limits it. Zero where unknown.
struct MemoryInfo {
  uint64_t total = 0;
  uint64_t available = 0;  // free or reclaimable at once (page cache counts as available)
};
MemoryInfo memory_info();

}  // namespace inhouse::platform
