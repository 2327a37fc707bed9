#include "native/ops/cuda/driver.h"

#include <map>
#include <memory>
#include <mutex>

#include "native/core/error.h"
#include "native/platform/library.h"

namespace inhouse::cuda {
namespace {

#ifdef _WIN32
constexpr const char* kLibrary = "nvcuda.dll";
#else
constexpr const char* kLibrary = "libcuda.so.1";
#endif

std::unique_ptr<Driver> load(const std::string& path, const std::string& device) {
  const std::string name = path.empty() ? kLibrary : path;
  std::string why;
  void* library = platform::open_library(name, &why);
  if (!library)
    throw Error(Code::device_unavailable,
                "device \"" + device + "\": the NVIDIA driver's library " + name +
                    " cannot be loaded; install the driver, or use device \"cpu\" (" + why + ")");
  auto driver = std::make_unique<Driver>();
#define FUNCTION(member, symbol, parameters)                                                            \
  driver->member = reinterpret_cast<Result(*) parameters>(platform::library_function(library, symbol)); \
  if (!driver->member)                                                                                  \
    throw Error(Code::device_unavailable, "device \"" + device + "\": " + name + " has no " + symbol +  \
                                              "; update the NVIDIA driver, or use device \"cpu\"");
  INHOUSE_CUDA_FUNCTIONS(FUNCTION)
#undef FUNCTION
  if (const Result result = driver->init(0))
    throw Error(Code::device_unavailable,
                "device \"" + device + "\": " +
                    (result == kNoDevice ? "the driver finds no NVIDIA GPU"
                                         : "the driver does not start: " + driver->describe(result)) +
                    "; use device \"cpu\"");
  return driver;
}

}  // namespace

std::string Driver::describe(Result result) const {
  const char *name = nullptr, *words = nullptr;
  if (error_name(result, &name) != 0 || !name) return "error " + std::to_string(result);
  error_text(result, &words);
  return std::string(name) + (words ? std::string(" (") + words + ")" : "");
}

const Driver& driver(const std::string& path, const std::string& device) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<Driver>> drivers;
  const std::lock_guard lock(mutex);
  std::unique_ptr<Driver>& entry = drivers[path];
  if (!entry) entry = load(path, device);  // tried again where it failed
  return *entry;
}

}  // namespace inhouse::cuda
