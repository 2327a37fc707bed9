// Q2_K to Q6_K: 256 elements in sub-blocks whose scales are small integers times one binary16 scale.
//
// In all of them the packed bits run in rows of 32 bytes: one row holds the same bit position of 32 elements
// in sequence, and the next bit position of the row belongs to the next 32 elements.
#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {
namespace {

// Element e of 2-bit fields: rows of 32 bytes, four fields each.
int two_bits(const uint8_t* rows, int e) {
  return rows[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
}

// Element e of 4-bit fields: rows of 32 bytes, two fields each.
int four_bits(const uint8_t* rows, int e) {
  return rows[e / 64 * 32 + e % 32] >> (e % 64 / 32 * 4) & 15;
}

// Element e of 1-bit fields: one row of 32 bytes, eight fields each.
int one_bit(const uint8_t* row, int e) {
  return row[e % 32] >> (e / 32) & 1;
}

// The six-bit scale and minimum of sub-block j in 12 bytes: four of each whole, the other four in two pieces.
void scale_and_min(const uint8_t* packed, int j, int* scale, int* min) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *min = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    *min = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
  }
}

}  // namespace

void decode_q2_k(const void* blocks, float* dst, int64_t count) {
  const BlockQ2_K* block = static_cast<const BlockQ2_K*>(blocks);
  for (; count > 0; count -= 256, dst += 256, ++block) {
    const float d = half_to_float(block->d);
    const float dmin = half_to_float(block->dmin);
    for (int e = 0; e < 256; ++e) {
      const int scale = block->scales[e / 16];
      const float dl = d * float(scale & 15);
      const float ml = dmin * float(scale >> 4);
      dst[e] = dl * float(two_bits(block->qs, e)) - ml;
    }
  }
}

void decode_q3_k(const void* blocks, float* dst, int64_t count) {
  const BlockQ3_K* block = static_cast<const BlockQ3_K*>(blocks);
  for (; count > 0; count -= 256, dst += 256, ++block) {
    const float d = half_to_float(block->d);
    for (int j = 0; j < 16; ++j) {
      const int low = block->scales[j % 8] >> (j / 8 * 4) & 15;
      const int high = block->scales[8 + j % 4] >> (j / 4 * 2) & 3;
      const float dl = d * float((low | high << 4) - 32);
      for (int e = j * 16; e < j * 16 + 16; ++e) {
        dst[e] = dl * float(two_bits(block->qs, e) - (one_bit(block->hmask, e) ? 0 : 4));
      }
    }
  }
}

void decode_q4_k(const void* blocks, float* dst, int64_t count) {
  const BlockQ4_K* block = static_cast<const BlockQ4_K*>(blocks);
  for (; count > 0; count -= 256, dst += 256, ++block) {
    for (int j = 0; j < 8; ++j) {
      int scale, min;
      scale_and_min(block->scales, j, &scale, &min);
      const float dl = half_to_float(block->d) * float(scale);
      const float ml = half_to_float(block->dmin) * float(min);
      for (int e = j * 32; e < j * 32 + 32; ++e) dst[e] = dl * float(four_bits(block->qs, e)) - ml;
    }
  }
}

void decode_q5_k(const void* blocks, float* dst, int64_t count) {
  const BlockQ5_K* block = static_cast<const BlockQ5_K*>(blocks);
  for (; count > 0; count -= 256, dst += 256, ++block) {
    for (int j = 0; j < 8; ++j) {
      int scale, min;
      scale_and_min(block->scales, j, &scale, &min);
      const float dl = half_to_float(block->d) * float(scale);
      const float ml = half_to_float(block->dmin) * float(min);
      for (int e = j * 32; e < j * 32 + 32; ++e) {
        dst[e] = dl * float(four_bits(block->qs, e) | one_bit(block->qh, e) << 4) - ml;
      }
    }
  }
}

void decode_q6_k(const void* blocks, float* dst, int64_t count) {
  const BlockQ6_K* block = static_cast<const BlockQ6_K*>(blocks);
  for (; count > 0; count -= 256, dst += 256, ++block) {
    const float d = half_to_float(block->d);
    for (int e = 0; e < 256; ++e) {
      // Here the low bits run in rows of 64 bytes.
      const int low = block->ql[e / 128 * 64 + e % 64] >> (e % 128 / 64 * 4) & 15;
      const float dl = d * float(block->scales[e / 16]);
      dst[e] = dl * float((low | two_bits(block->qh, e) << 4) - 32);
    }
  }
}

}  // namespace inhouse::kernels
