#include "kernels/cpu/simd_avx512.h"
//
#include "kernels/cpu/dot_maddubs.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_avx512;
constinit const Kernels kernels_avx512 = table("avx512", "AVX-512");
}  // namespace inhouse::kernels
