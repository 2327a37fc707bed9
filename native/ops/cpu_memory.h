// Owned memory of the CPU backend.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "native/core/error.h"
#include "native/platform/platform.h"
#include "native/platform/reserve.h"

namespace inhouse {

// Zeroed pages, given back with their owner.
class CpuMemory {
 public:
  CpuMemory() = default;
  // Throws out_of_memory naming `what`.
  CpuMemory(uint64_t bytes, bool large_pages, const std::string& what) : bytes_(bytes) {
    if (bytes == 0) return;
    data_ = static_cast<uint8_t*>(platform::reserve_memory(bytes, large_pages));
    if (!data_)
      throw Error(Code::out_of_memory, what + ": the system has no " + std::to_string(bytes) + " bytes left");
  }
  CpuMemory(CpuMemory&& other) noexcept { *this = std::move(other); }
  CpuMemory& operator=(CpuMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(locked_, other.locked_);
    return *this;
  }
  ~CpuMemory() {
    if (locked_) platform::unlock_memory(data_, bytes_);
    platform::release_memory(data_, bytes_);
  }
  void lock() {
    platform::lock_memory(data_, bytes_);
    locked_ = true;
  }
  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  uint64_t bytes_ = 0;
  bool locked_ = false;
};

}  // namespace inhouse
