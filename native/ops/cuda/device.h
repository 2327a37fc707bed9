// One GPU: its memory, the image of kernels, and a stream that runs them in order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "native/ops/backend.h"
#include "native/ops/cuda/driver.h"

namespace inhouse::cuda {

class Memory;

// A kernel of the image, looked up when it is first launched.
struct Kernel {
  std::string name;
  Function function = nullptr;
};

// Where a call of the driver fails because the GPU is lost or has faulted, that and every later call throws
// device_lost, and nothing of it is touched any more; a device made after that starts anew.
class Device : public std::enable_shared_from_this<Device> {
 public:
  // Errors: device_unavailable, file_not_found, file_read.
  static std::shared_ptr<Device> open(const CudaOptions& options);
  ~Device();

  const std::string& name() const { return name_; }  // "NVIDIA H100 80GB HBM3"
  int capability() const { return capability_; }     // 90 of 9.0
  int multiprocessors() const { return multiprocessors_; }
  // Names the context that addresses belong to.
  const std::string& identity() const { return identity_; }

  uint64_t free_bytes();
  // Zeroed. Errors: out_of_memory naming `what`.
  Memory allocate(uint64_t bytes, const std::string& what);
  // `src` may be changed once this returns.
  void copy_in(Address dst, const void* src, uint64_t bytes);
  // Waits for all work.
  void copy_out(void* dst, Address src, uint64_t bytes);
  void launch(Kernel& kernel, int64_t grid_x, int64_t grid_y, int threads, uint32_t shared_bytes,
              const void* args);
  void synchronize();

 private:
  friend class Memory;
  struct ContextState;
  static ContextState& state_of(const Driver* driver, int32_t ordinal);
  Device() = default;
  bool lost() const;
  void enter();  // throws where the device is lost; makes its context the thread's
  void check(Result result, const char* what);

  const Driver* driver_ = nullptr;
  ContextState* state_ = nullptr;
  DeviceHandle handle_ = 0;
  Context context_ = nullptr;
  Stream stream_ = nullptr;
  Module module_ = nullptr;
  std::string name_, identity_;
  int capability_ = 0, multiprocessors_ = 0, shared_bytes_ = 0;
  uint64_t generation_ = 0;
};

// Memory of a device, freed with this.
class Memory {
 public:
  Memory() = default;
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Memory();
  Address address() const { return address_; }
  uint64_t bytes() const { return bytes_; }
  template <class T>
  T* as(uint64_t byte_offset = 0) const {
    return reinterpret_cast<T*>(address_ + byte_offset);
  }

 private:
  friend class Device;
  std::shared_ptr<Device> device_;
  Address address_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace inhouse::cuda
