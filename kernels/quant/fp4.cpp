// MXFP4 and NVFP4: E2M1 elements with an 8-bit float scale.
#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {

void decode_mxfp4(const void* blocks, float* dst, int64_t count) {
  const BlockMXFP4* block = static_cast<const BlockMXFP4*>(blocks);
  for (; count > 0; count -= 32, dst += 32, ++block) {
    const float d = e8m0_half_to_float(block->e);
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * float(fp4_values[block->qs[i] & 15]);
      dst[i + 16] = d * float(fp4_values[block->qs[i] >> 4]);
    }
  }
}

void decode_nvfp4(const void* blocks, float* dst, int64_t count) {
  const BlockNVFP4* block = static_cast<const BlockNVFP4*>(blocks);
  for (; count > 0; count -= 64, ++block) {
    for (int j = 0; j < 4; ++j, dst += 16) {
      const float d = ue4m3_half_to_float(block->d[j]);
      for (int i = 0; i < 8; ++i) {
        dst[i] = d * float(fp4_values[block->qs[j * 8 + i] & 15]);
        dst[i + 8] = d * float(fp4_values[block->qs[j * 8 + i] >> 4]);
      }
    }
  }
}

}  // namespace inhouse::kernels
