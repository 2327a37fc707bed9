// The kernels of the CUDA image on the host (twin.h).
#pragma once

#include <cstddef>

namespace inhouse::kernels::cuda::twin {

struct Kernel {
  const char* name;
  int threads;  // of a block
  size_t args_bytes;
  void (*body)(const void* args);
};

// Null where there is none of the name.
const Kernel* find_kernel(const char* name);

}  // namespace inhouse::kernels::cuda::twin
