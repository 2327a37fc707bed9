#include "kernels/cpu/simd_avx512vnni.h"
//
#include "kernels/cpu/table.inc.h"

namespace inhouse::kernels {
extern const Kernels kernels_avx512vnni;
const Kernels kernels_avx512vnni = table;
}  // namespace inhouse::kernels
