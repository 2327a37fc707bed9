// The CUDA image: every kernel of the list, named as there.
#include "kernels/cuda/list.h"

namespace inhouse::kernels::cuda {

#define KERNEL(name, Args, threads, ...)                                                                    \
  extern "C" __global__ void __launch_bounds__(threads) inhouse_##name(const __grid_constant__ Args args) { \
    __VA_ARGS__(args);                                                                                      \
  }
INHOUSE_CUDA_KERNELS(KERNEL)
#undef KERNEL

}  // namespace inhouse::kernels::cuda
