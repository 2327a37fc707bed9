#include "kernels/cpu/simd_baseline.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_baseline;
const Kernels kernels_baseline = table;
}  // namespace inhouse::kernels
