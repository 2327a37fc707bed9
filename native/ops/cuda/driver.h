// The functions of the CUDA driver library that are used, found at run time: nothing else of CUDA has to be
// on the machine. Types and values as "CUDA Driver API", NVIDIA, version 13.0, has them.
#pragma once

#include <cstdint>
#include <string>

namespace inhouse::cuda {

using Result = int;  // CUresult; 0: success
using DeviceHandle = int;
using Context = struct ContextTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Stream = struct StreamTag*;
using Address = unsigned long long;  // in the device's memory

inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kNoDevice = 100;

// CUdevice_attribute
inline constexpr int kMultiprocessors = 16;
inline constexpr int kCapabilityMajor = 75;
inline constexpr int kCapabilityMinor = 76;
inline constexpr int kSharedBytesOptIn = 97;
// CUfunction_attribute
inline constexpr int kDynamicSharedBytes = 8;

// FUNCTION(member, name in the library, parameters)
#define INHOUSE_CUDA_FUNCTIONS(FUNCTION)                                                                    \
  FUNCTION(init, "cuInit", (unsigned))                                                                      \
  FUNCTION(driver_version, "cuDriverGetVersion", (int*))                                                    \
  FUNCTION(device_count, "cuDeviceGetCount", (int*))                                                        \
  FUNCTION(device_get, "cuDeviceGet", (DeviceHandle*, int))                                                 \
  FUNCTION(device_name, "cuDeviceGetName", (char*, int, DeviceHandle))                                      \
  FUNCTION(device_attribute, "cuDeviceGetAttribute", (int*, int, DeviceHandle))                             \
  FUNCTION(context_retain, "cuDevicePrimaryCtxRetain", (Context*, DeviceHandle))                            \
  FUNCTION(context_release, "cuDevicePrimaryCtxRelease_v2", (DeviceHandle))                                 \
  FUNCTION(context_reset, "cuDevicePrimaryCtxReset_v2", (DeviceHandle))                                     \
  FUNCTION(context_set, "cuCtxSetCurrent", (Context))                                                       \
  FUNCTION(memory_info, "cuMemGetInfo_v2", (size_t*, size_t*))                                              \
  FUNCTION(allocate, "cuMemAlloc_v2", (Address*, size_t))                                                   \
  FUNCTION(release, "cuMemFree_v2", (Address))                                                              \
  FUNCTION(set_bytes, "cuMemsetD8Async", (Address, unsigned char, size_t, Stream))                          \
  FUNCTION(copy_in, "cuMemcpyHtoDAsync_v2", (Address, const void*, size_t, Stream))                         \
  FUNCTION(copy_out, "cuMemcpyDtoHAsync_v2", (void*, Address, size_t, Stream))                              \
  FUNCTION(stream_create, "cuStreamCreate", (Stream*, unsigned))                                            \
  FUNCTION(stream_destroy, "cuStreamDestroy_v2", (Stream))                                                  \
  FUNCTION(stream_synchronize, "cuStreamSynchronize", (Stream))                                             \
  FUNCTION(module_load, "cuModuleLoadData", (Module*, const void*))                                         \
  FUNCTION(module_unload, "cuModuleUnload", (Module))                                                       \
  FUNCTION(module_function, "cuModuleGetFunction", (Function*, Module, const char*))                        \
  FUNCTION(function_set, "cuFuncSetAttribute", (Function, int, int))                                        \
  FUNCTION(launch, "cuLaunchKernel",                                                                        \
           (Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**, \
            void**))                                                                                        \
  FUNCTION(error_name, "cuGetErrorName", (Result, const char**))                                            \
  FUNCTION(error_text, "cuGetErrorString", (Result, const char**))

struct Driver {
#define FUNCTION(member, name, parameters) Result(*member) parameters = nullptr;
  INHOUSE_CUDA_FUNCTIONS(FUNCTION)
#undef FUNCTION

  // "CUDA_ERROR_… (words)"
  std::string describe(Result result) const;
};

// `device` is what messages call it. The library at `path`, or where that is empty the system's, ready for
// use; loaded once. Error: device_unavailable, saying what is missing.
const Driver& driver(const std::string& path, const std::string& device);

}  // namespace inhouse::cuda
