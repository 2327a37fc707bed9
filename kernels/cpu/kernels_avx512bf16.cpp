#include "kernels/cpu/simd_avx512.h"
//
#include "kernels/cpu/dot_u8s8.h"
//
#include "kernels/cpu/dense_bf16.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_avx512bf16;
constinit const Kernels kernels_avx512bf16 = table("avx512bf16", "AVX-512 VNNI BF16");
}  // namespace inhouse::kernels
