#include "kernels/cpu/simd_avx2.h"
//
#include "kernels/cpu/dot_maddubs.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_avx2;
constinit const Kernels kernels_avx2 = table("avx2", "AVX2");
}  // namespace inhouse::kernels
