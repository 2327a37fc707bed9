#include "native/ops/cuda/device.h"

#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "native/core/error.h"
#include "native/platform/platform.h"

namespace inhouse::cuda {
namespace {

constexpr int kOldestCapability = 75;

std::vector<char> read_image(const std::string& path) {
  if (path.empty())
    throw Error(Code::device_unavailable,
                "device \"cuda\": this build has no CUDA kernels; use device \"cpu\"");
  try {
    const platform::File file = platform::File::open(path);
    std::vector<char> image(file.size() + 1);  // the driver takes text (PTX) as well, which ends in a zero
    file.read(0, image.data(), file.size());
    return image;
  } catch (const Error& error) {
    throw Error(Code::device_unavailable,
                "device \"cuda\": its kernels cannot be read: " + error.message() + "; use device \"cpu\"");
  }
}

}  // namespace

// Of a GPU's context in this process. One that was lost is reset before the next use; what belongs to an
// earlier generation is gone.
struct Device::ContextState {
  std::mutex mutex;
  bool lost = false;
  std::atomic<uint64_t> generation{1};
};

Device::ContextState& Device::state_of(const Driver* driver, int32_t ordinal) {
  static std::mutex mutex;
  static std::map<std::pair<const Driver*, int32_t>, ContextState> states;
  const std::lock_guard lock(mutex);
  return states[{driver, ordinal}];
}

bool Device::lost() const {
  return generation_ != state_->generation;
}

std::shared_ptr<Device> Device::open(const CudaOptions& options) {
  const Driver& driver = cuda::driver(options.driver, "cuda:" + std::to_string(options.device));
  std::shared_ptr<Device> device(new Device);
  const auto refuse = [&](const std::string& why) {
    return Error(Code::device_unavailable,
                 "device \"cuda:" + std::to_string(options.device) + "\": " + why + "; use device \"cpu\"");
  };
  const auto demand = [&](Result result, const char* what) {
    if (result == kOutOfMemory)
      throw Error(Code::out_of_memory, std::string(what) + ": the GPU's memory is full");
    if (result != 0) throw refuse(std::string(what) + " failed: " + driver.describe(result));
  };
  int count = 0;
  demand(driver.device_count(&count), "counting devices");
  if (options.device < 0 || options.device >= count)
    throw refuse("there " + std::string(count == 1 ? "is 1 NVIDIA GPU"
                                                   : "are " + std::to_string(count) + " NVIDIA GPUs"));
  const std::vector<char> image = read_image(options.image);
  demand(driver.device_get(&device->handle_, options.device), "finding the device");
  char name[256] = {};
  demand(driver.device_name(name, sizeof name - 1, device->handle_), "asking for its name");
  int major = 0, minor = 0;
  demand(driver.device_attribute(&major, kCapabilityMajor, device->handle_), "asking for its capability");
  demand(driver.device_attribute(&minor, kCapabilityMinor, device->handle_), "asking for its capability");
  demand(driver.device_attribute(&device->multiprocessors_, kMultiprocessors, device->handle_),
         "asking for its size");
  demand(driver.device_attribute(&device->shared_bytes_, kSharedBytesOptIn, device->handle_),
         "asking for its size");
  device->name_ = name;
  device->capability_ = major * 10 + minor;
  if (device->capability_ < kOldestCapability)
    throw refuse(device->name_ + " is of compute capability " + std::to_string(major) + "." +
                 std::to_string(minor) + "; 7.5 (Turing) or newer is needed");
  device->state_ = &state_of(&driver, options.device);
  {
    const std::lock_guard lock(device->state_->mutex);
    if (device->state_->lost) demand(driver.context_reset(device->handle_), "starting the device anew");
    device->state_->lost = false;
    device->generation_ = device->state_->generation;
    demand(driver.context_retain(&device->context_, device->handle_), "making a context");
    device->driver_ = &driver;  // from here on the destructor gives things back
  }
  demand(driver.context_set(device->context_), "entering the context");
  demand(driver.stream_create(&device->stream_, 1), "making a stream");
  int version = 0;
  driver.driver_version(&version);
  if (const Result result = driver.module_load(&device->module_, image.data()))
    throw refuse("the driver (for CUDA " + std::to_string(version / 1000) + "." +
                 std::to_string(version % 1000 / 10) + ") does not load the kernels for " + device->name_ +
                 ": " + driver.describe(result) + "; a newer driver may");
  device->identity_ = "cuda:" + std::to_string(options.device) + "#" + std::to_string(device->generation_);
  return device;
}

Device::~Device() {
  if (!driver_) return;
  if (!lost() && driver_->context_set(context_) == 0) {
    if (stream_) driver_->stream_synchronize(stream_);
    if (module_) driver_->module_unload(module_);
    if (stream_) driver_->stream_destroy(stream_);
    driver_->context_set(nullptr);
  }
  driver_->context_release(handle_);
}

void Device::enter() {
  if (lost()) throw Error(Code::device_lost, name_ + " was lost; load the model again");
  check(driver_->context_set(context_), "entering the context");
}

void Device::check(Result result, const char* what) {
  if (result == 0) return;
  if (result == kOutOfMemory)
    throw Error(Code::out_of_memory, std::string(what) + ": the memory of " + name_ + " is full");
  {
    const std::lock_guard lock(state_->mutex);
    if (!lost()) {
      state_->lost = true;
      ++state_->generation;
    }
  }
  throw Error(Code::device_lost, name_ + " was lost: " + what + " failed: " + driver_->describe(result) +
                                     "; load the model again");
}

uint64_t Device::free_bytes() {
  enter();
  size_t free = 0, total = 0;
  check(driver_->memory_info(&free, &total), "asking for free memory");
  return free;
}

Memory Device::allocate(uint64_t bytes, const std::string& what) {
  enter();
  Memory memory;
  const Result result = driver_->allocate(&memory.address_, size_t(bytes == 0 ? 16 : bytes));
  if (result == kOutOfMemory)
    throw Error(Code::out_of_memory,
                what + ": " + name_ + " has no " + std::to_string(bytes) + " bytes left");
  check(result, "an allocation");
  memory.device_ = shared_from_this();
  memory.bytes_ = bytes;
  check(driver_->set_bytes(memory.address_, 0, size_t(bytes == 0 ? 16 : bytes), stream_), "clearing memory");
  return memory;
}

void Device::copy_in(Address dst, const void* src, uint64_t bytes) {
  if (bytes == 0) return;
  enter();
  // From memory that is not pinned: the driver has read it when this returns.
  check(driver_->copy_in(dst, src, size_t(bytes), stream_), "a copy to the device");
}

void Device::copy_out(void* dst, Address src, uint64_t bytes) {
  enter();
  if (bytes > 0) check(driver_->copy_out(dst, src, size_t(bytes), stream_), "a copy from the device");
  check(driver_->stream_synchronize(stream_), "a kernel");
}

void Device::launch(Kernel& kernel, int64_t grid_x, int64_t grid_y, int threads, uint32_t shared_bytes,
                    const void* args) {
  if (grid_x <= 0 || grid_y <= 0) return;
  enter();
  if (!kernel.function) {
    check(driver_->module_function(&kernel.function, module_, kernel.name.c_str()), "finding a kernel");
    // More than 48 KiB of dynamic shared memory have to be asked for.
    if (shared_bytes > 0)
      check(driver_->function_set(kernel.function, kDynamicSharedBytes, shared_bytes_), "preparing a kernel");
  }
  void* parameters[] = {const_cast<void*>(args)};
  check(driver_->launch(kernel.function, unsigned(grid_x), unsigned(grid_y), 1, unsigned(threads), 1, 1,
                        shared_bytes, stream_, parameters, nullptr),
        "a launch");
}

void Device::synchronize() {
  enter();
  check(driver_->stream_synchronize(stream_), "a kernel");
}

Memory::~Memory() {
  if (!device_ || device_->lost()) return;
  if (device_->driver_->context_set(device_->context_) == 0) device_->driver_->release(address_);
}

}  // namespace inhouse::cuda
