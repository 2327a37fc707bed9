#include "kernels/cpu/simd_baseline.h"
//
#include "kernels/cpu/dot_u8s8.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_baseline;
constinit const Kernels kernels_baseline = table("baseline", "no vector extension");
}  // namespace inhouse::kernels
