// Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: 32 elements with one scale, and a minimum in the _1 types.
#include <cstring>

#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {
namespace {

int fifth_bit(const uint8_t* qh, int element) {
  return (qh[element / 8] >> (element % 8) & 1) << 4;
}

}  // namespace

void decode_q4_0(const void* blocks, float* dst, int64_t count) {
  const BlockQ4_0* block = static_cast<const BlockQ4_0*>(blocks);
  for (; count > 0; count -= 32, dst += 32, ++block) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * float(int(block->qs[i] & 15) - 8);
      dst[i + 16] = d * float(int(block->qs[i] >> 4) - 8);
    }
  }
}

void decode_q4_1(const void* blocks, float* dst, int64_t count) {
  const BlockQ4_1* block = static_cast<const BlockQ4_1*>(blocks);
  for (; count > 0; count -= 32, dst += 32, ++block) {
    const float d = half_to_float(block->d);
    const float m = half_to_float(block->m);
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * float(block->qs[i] & 15) + m;
      dst[i + 16] = d * float(block->qs[i] >> 4) + m;
    }
  }
}

void decode_q5_0(const void* blocks, float* dst, int64_t count) {
  const BlockQ5_0* block = static_cast<const BlockQ5_0*>(blocks);
  for (; count > 0; count -= 32, dst += 32, ++block) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * float(((block->qs[i] & 15) | fifth_bit(block->qh, i)) - 16);
      dst[i + 16] = d * float(((block->qs[i] >> 4) | fifth_bit(block->qh, i + 16)) - 16);
    }
  }
}

void decode_q5_1(const void* blocks, float* dst, int64_t count) {
  const BlockQ5_1* block = static_cast<const BlockQ5_1*>(blocks);
  for (; count > 0; count -= 32, dst += 32, ++block) {
    const float d = half_to_float(block->d);
    const float m = half_to_float(block->m);
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * float((block->qs[i] & 15) | fifth_bit(block->qh, i)) + m;
      dst[i + 16] = d * float((block->qs[i] >> 4) | fifth_bit(block->qh, i + 16)) + m;
    }
  }
}

void decode_q8_0(const void* blocks, float* dst, int64_t count) {
  const BlockQ8_0* block = static_cast<const BlockQ8_0*>(blocks);
  for (; count > 0; count -= 32, dst += 32, ++block) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 32; ++i) dst[i] = float(block->qs[i]) * d;
  }
}

void encode_q4_0(const float* src, void* blocks, int64_t count) {
  BlockQ4_0* block = static_cast<BlockQ4_0*>(blocks);
  for (; count > 0; count -= 32, src += 32, ++block) {
    // As in encode_q8_0; the value itself gives the scale its sign.
    uint32_t most = 0;
    float extreme = 0.0f;
    for (int i = 0; i < 32; ++i) {
      const uint32_t magnitude = bits_of_float(src[i]) & 0x7fffffffu;
      if (magnitude > most) most = magnitude, extreme = src[i];
    }
    if (most >= 0x7f800000u) {
      block->d = 0x7e00;
      std::memset(block->qs, 0x88, sizeof block->qs);
      continue;
    }
    const float d = extreme / -8.0f;
    const float inverse = float_of_bits(most) >= 0x1p-123f ? 1.0f / d : 0.0f;
    block->d = float_to_half(d);
    for (int i = 0; i < 16; ++i) {
      const int low = int(src[i] * inverse + 8.5f), high = int(src[i + 16] * inverse + 8.5f);
      block->qs[i] = uint8_t((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
    }
  }
}

void encode_q8_0(const float* src, void* blocks, int64_t count) {
  BlockQ8_0* block = static_cast<BlockQ8_0*>(blocks);
  for (; count > 0; count -= 32, src += 32, ++block) {
    // Magnitudes compare as their bit patterns do; NaN and infinity come out on top.
    uint32_t most = 0;
    for (int i = 0; i < 32; ++i) {
      const uint32_t magnitude = bits_of_float(src[i]) & 0x7fffffffu;
      if (magnitude > most) most = magnitude;
    }
    if (most >= 0x7f800000u) {
      block->d = 0x7e00;
      std::memset(block->qs, 0, sizeof block->qs);
      continue;
    }
    const float d = float_of_bits(most) / 127.0f;
    // A scale so small that its inverse overflows rounds to zero in binary16 anyway.
    const float inverse = d >= 0x1p-126f ? 1.0f / d : 0.0f;
    block->d = float_to_half(d);
    for (int i = 0; i < 32; ++i) {
      const float scaled = src[i] * inverse;
      const int whole = int(scaled);  // toward zero; |scaled| is at most 127 and a rounding
      const float rest = scaled - float(whole);
      block->qs[i] = int8_t(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
  }
}

}  // namespace inhouse::kernels
