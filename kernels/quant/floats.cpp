// F32, F16 and BF16: elements of their own, no blocks.
#include <cstring>

#include "kernels/quant/decode.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {

void decode_f32(const void* blocks, float* dst, int64_t count) {
  std::memcpy(dst, blocks, size_t(count) * sizeof(float));
}

void decode_f16(const void* blocks, float* dst, int64_t count) {
  const uint16_t* src = static_cast<const uint16_t*>(blocks);
  for (int64_t i = 0; i < count; ++i) dst[i] = half_to_float(src[i]);
}

void decode_bf16(const void* blocks, float* dst, int64_t count) {
  const uint16_t* src = static_cast<const uint16_t*>(blocks);
  for (int64_t i = 0; i < count; ++i) dst[i] = bf16_to_float(src[i]);
}

}  // namespace inhouse::kernels
