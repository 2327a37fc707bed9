#include "kernels/cpu/simd_neon.h"
//
#include "kernels/cpu/dot_neondot.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_neondot;
constinit const Kernels kernels_neondot = table("neondot", "NEON dot product");
}  // namespace inhouse::kernels
