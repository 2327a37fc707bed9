// Shared by the CUDA tests: where the device is, and numbers in its memory. INHOUSE_CUDA_IMAGE in the
// environment names an image of kernels and makes the tests run on a real GPU; without it they run on the
// host's twin.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "native/ops/cuda/device.h"
#include "native/platform/library.h"
#include "test/native/check.h"

namespace inhouse::test {

inline bool on_hardware() {
  return std::getenv("INHOUSE_CUDA_IMAGE") != nullptr;
}

inline CudaOptions cuda_device() {
  CudaOptions options;
  if (on_hardware()) {
    options.image = std::getenv("INHOUSE_CUDA_IMAGE");
  } else {
    options.image = options.driver = INHOUSE_CUDA_TWIN;
  }
  return options;
}

// Tells the twin what is wrong with it (cuda_twin/driver.cpp), until this ends.
class Wrong {
 public:
  explicit Wrong(const char* text) { configure(text); }
  ~Wrong() { configure(""); }

 private:
  static void configure(const char* text) {
    std::string why;
    void* library = platform::open_library(INHOUSE_CUDA_TWIN, &why);
    reinterpret_cast<void (*)(const char*)>(platform::library_function(library, "inhouse_twin_configure"))(
        text);
  }
};

// Numbers in the memory of a backend on the device.
class OnDevice {
 public:
  OnDevice(Backend& backend, const std::vector<float>& numbers) : backend_(backend), count_(numbers.size()) {
    at_ = backend.allocate(count_);
    backend.synchronize();  // it is cleared on a stream of the backend's
    static const std::shared_ptr<cuda::Device> device = cuda::Device::open(cuda_device());
    device->copy_in(reinterpret_cast<cuda::Address>(at_), numbers.data(), count_ * sizeof(float));
    device->synchronize();
  }
  OnDevice(Backend& backend, size_t count) : OnDevice(backend, std::vector<float>(count, -5.0f)) {}
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { backend_.release(at_); }
  operator float*() const { return at_; }
  std::vector<float> read() const {
    const std::span<const float> numbers = backend_.read(at_, count_);
    return {numbers.begin(), numbers.end()};
  }

 private:
  Backend& backend_;
  size_t count_;
  float* at_ = nullptr;
};

}  // namespace inhouse::test
