// TQ1_0 and TQ2_0: -1, 0 and 1 times one scale.
#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {
namespace {

// Bytes hold base-3 digits as a fraction of 256: multiplied by 3^k modulo 256, the digit k stands in front.
float* put_digits(float* dst, float d, const uint8_t* bytes, int width, int digits) {
  uint8_t power = 1;
  for (int k = 0; k < digits; ++k, power = uint8_t(power * 3)) {
    for (int i = 0; i < width; ++i) {
      const uint8_t fraction = uint8_t(bytes[i] * power);
      *dst++ = d * float((fraction * 3 >> 8) - 1);
    }
  }
  return dst;
}

}  // namespace

void decode_tq1_0(const void* blocks, float* dst, int64_t count) {
  const BlockTQ1_0* block = static_cast<const BlockTQ1_0*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    dst = put_digits(dst, d, block->qs, 32, 5);
    dst = put_digits(dst, d, block->qs + 32, 16, 5);
    dst = put_digits(dst, d, block->qh, 4, 4);
  }
}

void decode_tq2_0(const void* blocks, float* dst, int64_t count) {
  const BlockTQ2_0* block = static_cast<const BlockTQ2_0*>(blocks);
  for (; count > 0; count -= 256, dst += 256, ++block) {
    const float d = half_to_float(block->d);
    for (int e = 0; e < 256; ++e) {
      const int q = block->qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
      dst[e] = d * float(q - 1);
    }
  }
}

}  // namespace inhouse::kernels
