#include "kernels/cpu/simd_avx2.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = table;
}  // namespace inhouse::kernels
