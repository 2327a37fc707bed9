#include "kernels/cpu/simd_neon.h"
//
#include "kernels/cpu/dot_u8s8.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_neoni8mm;
constinit const Kernels kernels_neoni8mm = table("neoni8mm", "NEON i8mm");
}  // namespace inhouse::kernels
