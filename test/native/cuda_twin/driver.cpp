// A CUDA driver library whose device is the host: memory is the heap's, kernels run as twins
// (kernels/cuda/twin.h). In place of the real one it lets the whole CUDA backend be tested where there is no
// GPU.
//
// The environment variable INHOUSE_TWIN, or a call of inhouse_twin_configure, says what is wrong with the
// device: words with commas between them. devices=N (default 1), capability=NN (default 90), memory=BYTES
// (default 8 GiB), no_image, lost_after=N (launches, and from then on every call fails until the context is
// reset).
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <sstream>
#include <string>

#include "kernels/cuda/twin.h"
#include "native/ops/cuda/driver.h"
#include "test/native/cuda_twin/kernels.h"

using namespace inhouse::cuda;
namespace twin = inhouse::kernels::cuda::twin;

namespace {

constexpr Result kInvalid = 1, kNotFound = 500, kInvalidImage = 200, kLaunchFailed = 719;

struct State {
  std::recursive_mutex mutex;
  int devices = 1, capability = 90;
  size_t memory = size_t(8) << 30, used = 0;
  bool no_image = false, lost = false;
  long lost_after = -1;
  std::map<Address, size_t> allocations;

  State() {
    if (const char* wrong = std::getenv("INHOUSE_TWIN")) configure(wrong);
  }
  void configure(const char* text) {
    devices = 1;
    capability = 90;
    memory = size_t(8) << 30;
    no_image = false;
    lost_after = -1;
    std::stringstream words(text);
    for (std::string word; std::getline(words, word, ',');) {
      const size_t equals = word.find('=');
      const std::string name = word.substr(0, equals);
      const long long value = equals == std::string::npos ? 0 : std::atoll(word.c_str() + equals + 1);
      if (name == "devices") devices = int(value);
      if (name == "capability") capability = int(value);
      if (name == "memory") memory = size_t(value);
      if (name == "lost_after") lost_after = long(value);
      if (name == "no_image") no_image = true;
    }
  }
};
State& state() {
  static State all;
  return all;
}
Result usable() {
  return state().lost ? kLaunchFailed : 0;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
#define LOCKED const std::lock_guard lock(state().mutex)

EXPORT void inhouse_twin_configure(const char* text) {
  LOCKED;
  state().configure(text);
}

EXPORT Result cuInit(unsigned) {
  LOCKED;
  return state().devices > 0 ? 0 : kNoDevice;
}
EXPORT Result cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
EXPORT Result cuDeviceGetCount(int* count) {
  LOCKED;
  *count = state().devices;
  return 0;
}
EXPORT Result cuDeviceGet(DeviceHandle* device, int ordinal) {
  *device = ordinal;
  return 0;
}
EXPORT Result cuDeviceGetName(char* name, int size, DeviceHandle) {
  std::strncpy(name, "twin", size_t(size));
  return 0;
}
EXPORT Result cuDeviceGetAttribute(int* value, int attribute, DeviceHandle) {
  LOCKED;
  switch (attribute) {
    case kMultiprocessors:
      *value = 4;
      return 0;
    case kCapabilityMajor:
      *value = state().capability / 10;
      return 0;
    case kCapabilityMinor:
      *value = state().capability % 10;
      return 0;
    case kSharedBytesOptIn:
      *value = 227 << 10;
      return 0;
    default:
      return kInvalid;
  }
}
EXPORT Result cuDevicePrimaryCtxRetain(Context* context, DeviceHandle) {
  *context = reinterpret_cast<Context>(&state());
  return usable();
}
EXPORT Result cuDevicePrimaryCtxRelease_v2(DeviceHandle) {
  return 0;
}
EXPORT Result cuDevicePrimaryCtxReset_v2(DeviceHandle) {
  LOCKED;
  for (const auto& [address, bytes] : state().allocations) std::free(reinterpret_cast<void*>(address));
  state().allocations.clear();
  state().used = 0;
  state().lost = false;
  return 0;
}
EXPORT Result cuCtxSetCurrent(Context) {
  return 0;
}
EXPORT Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  LOCKED;
  *total = state().memory;
  *free = state().memory - std::min(state().memory, state().used);
  return usable();
}
EXPORT Result cuMemAlloc_v2(Address* address, size_t bytes) {
  LOCKED;
  if (state().lost) return kLaunchFailed;
  if (bytes > state().memory || state().used > state().memory - bytes) return kOutOfMemory;
  void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!memory) return kOutOfMemory;
  *address = reinterpret_cast<Address>(memory);
  state().allocations[*address] = bytes;
  state().used += bytes;
  return 0;
}
EXPORT Result cuMemFree_v2(Address address) {
  LOCKED;
  const auto known = state().allocations.find(address);
  if (known == state().allocations.end()) return kInvalid;
  state().used -= known->second;
  state().allocations.erase(known);
  std::free(reinterpret_cast<void*>(address));
  return 0;
}
EXPORT Result cuMemsetD8Async(Address address, unsigned char value, size_t bytes, Stream) {
  LOCKED;
  if (!state().lost) std::memset(reinterpret_cast<void*>(address), value, bytes);
  return usable();
}
EXPORT Result cuMemcpyHtoDAsync_v2(Address dst, const void* src, size_t bytes, Stream) {
  LOCKED;
  if (!state().lost) std::memcpy(reinterpret_cast<void*>(dst), src, bytes);
  return usable();
}
EXPORT Result cuMemcpyDtoHAsync_v2(void* dst, Address src, size_t bytes, Stream) {
  LOCKED;
  if (!state().lost) std::memcpy(dst, reinterpret_cast<const void*>(src), bytes);
  return usable();
}
EXPORT Result cuStreamCreate(Stream* stream, unsigned) {
  *stream = reinterpret_cast<Stream>(&state());
  return usable();
}
EXPORT Result cuStreamDestroy_v2(Stream) {
  return 0;
}
EXPORT Result cuStreamSynchronize(Stream) {
  LOCKED;
  return usable();
}
EXPORT Result cuModuleLoadData(Module* module, const void*) {
  LOCKED;
  *module = reinterpret_cast<Module>(&state());
  return state().no_image ? kInvalidImage : usable();
}
EXPORT Result cuModuleUnload(Module) {
  return 0;
}
EXPORT Result cuModuleGetFunction(Function* function, Module, const char* name) {
  const twin::Kernel* kernel = twin::find_kernel(name);
  *function = reinterpret_cast<Function>(const_cast<twin::Kernel*>(kernel));
  return kernel ? 0 : kNotFound;
}
EXPORT Result cuFuncSetAttribute(Function, int attribute, int value) {
  return attribute == kDynamicSharedBytes && value <= 227 << 10 ? 0 : kInvalid;
}
EXPORT Result cuLaunchKernel(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                             unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                             Stream, void** parameters, void**) {
  LOCKED;
  if (state().lost_after >= 0 && state().lost_after-- == 0) state().lost = true;
  if (state().lost) return kLaunchFailed;
  const auto* kernel = reinterpret_cast<const twin::Kernel*>(function);
  if (grid_x == 0 || grid_y == 0 || grid_y > 65535 || grid_z != 1 || int(block_x) != kernel->threads ||
      block_y != 1 || block_z != 1 || shared_bytes > (227u << 10))
    return kInvalid;
  try {
    // The real driver copies arguments when a kernel is launched.
    std::string args(static_cast<const char*>(parameters[0]), kernel->args_bytes);
    twin::run(kernel->body, args.data(), int(grid_x), int(grid_y), kernel->threads, shared_bytes);
  } catch (const std::exception&) {
    state().lost = true;
  }
  return usable();
}
EXPORT Result cuGetErrorName(Result result, const char** name) {
  *name = result == kLaunchFailed   ? "CUDA_ERROR_LAUNCH_FAILED"
          : result == kInvalidImage ? "CUDA_ERROR_INVALID_IMAGE"
          : result == kOutOfMemory  ? "CUDA_ERROR_OUT_OF_MEMORY"
          : result == kNotFound     ? "CUDA_ERROR_NOT_FOUND"
                                    : "CUDA_ERROR_INVALID_VALUE";
  return 0;
}
EXPORT Result cuGetErrorString(Result, const char** text) {
  *text = "of the twin";
  return 0;
}
