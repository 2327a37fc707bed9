#include "test/native/cuda_twin/kernels.h"

#include <cstring>

#include "kernels/cuda/list.h"

namespace inhouse::kernels::cuda::twin {
namespace {

#define KERNEL(name, Args, threads, ...)    \
  {"inhouse_" #name, threads, sizeof(Args), \
   [](const void* args) { __VA_ARGS__(*static_cast<const Args*>(args)); }},
constexpr Kernel kernels[] = {INHOUSE_CUDA_KERNELS(KERNEL)};
#undef KERNEL

}  // namespace

const Kernel* find_kernel(const char* name) {
  for (const Kernel& kernel : kernels)
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  return nullptr;
}

}  // namespace inhouse::kernels::cuda::twin
