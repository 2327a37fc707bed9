#include "kernels/cpu/simd_avx2.h"
//
#include "kernels/cpu/dot_u8s8.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_avxvnni;
constinit const Kernels kernels_avxvnni = table("avxvnni", "AVX-VNNI");
}  // namespace inhouse::kernels
