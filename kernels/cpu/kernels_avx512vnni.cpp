#include "kernels/cpu/simd_avx512.h"
//
#include "kernels/cpu/dot_u8s8.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_avx512vnni;
constinit const Kernels kernels_avx512vnni = table("avx512vnni", "AVX-512 VNNI");
}  // namespace inhouse::kernels
