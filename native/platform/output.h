// Files that are written as a whole: under another name beside their own, which they take once they are
// complete. What stood there before stays until then.
#pragma once

#include <cstdint>
#include <string>

namespace inhouse::platform {

class OutputFile {
 public:
  // Readable by its owner alone. Error: file_write.
  explicit OutputFile(const std::string& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();  // removes what was not committed

  // Error: file_write.
  void write(uint64_t offset, const void* data, uint64_t count);
  // Makes sure that the bytes are on the disk and gives the file its name. Nothing may be written after.
  // Error: file_write.
  void commit();

 private:
  std::string path_, temporary_;
  intptr_t handle_ = -1;
};

}  // namespace inhouse::platform
