#include "kernels/cpu/simd_neon.h"
//
#include "kernels/cpu/dot_neon.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_neon;
constinit const Kernels kernels_neon = table("neon", "NEON");
}  // namespace inhouse::kernels
