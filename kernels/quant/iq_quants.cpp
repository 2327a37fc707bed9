// IQ1 to IQ4: groups of elements taken from a fixed grid, with signs and sub-block scales beside the index.
#include <cstring>

#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "kernels/quant/grids.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {
namespace {

uint32_t word_at(const void* bytes, int index) {
  uint32_t word;
  std::memcpy(&word, static_cast<const uint8_t*>(bytes) + index * 4, sizeof word);
  return word;
}

int nibble(const uint8_t* bytes, int index) {
  return bytes[index / 2] >> (index % 2 * 4) & 15;
}

// Four or eight grid values times a scale, negative where a bit of `signs` is set.
void put_signed(float* dst, float scale, const uint8_t* grid, int width, uint32_t signs) {
  for (int i = 0; i < width; ++i) dst[i] = scale * (signs >> i & 1 ? -float(grid[i]) : float(grid[i]));
}

}  // namespace

void decode_iq2_xxs(const void* blocks, float* dst, int64_t count) {
  const BlockIQ2_XXS* block = static_cast<const BlockIQ2_XXS*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    for (int j = 0; j < 8;
         ++j) {  // 32 elements: a word of four indices, a word of four sign indices and a scale
      const uint32_t indices = word_at(block->qs, j * 2);
      const uint32_t rest = word_at(block->qs, j * 2 + 1);
      const float scale = d * (0.5f + float(rest >> 28)) * 0.25f;
      for (int k = 0; k < 4; ++k, dst += 8) {
        put_signed(dst, scale, iq2_xxs_grid.at[indices >> k * 8 & 255], 8, iq_signs[rest >> k * 7 & 127]);
      }
    }
  }
}

void decode_iq2_xs(const void* blocks, float* dst, int64_t count) {
  const BlockIQ2_XS* block = static_cast<const BlockIQ2_XS*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    for (int k = 0; k < 32; ++k, dst += 8) {
      const float scale = d * (0.5f + float(nibble(block->scales, k / 2))) * 0.25f;
      put_signed(dst, scale, iq2_xs_grid.at[block->qs[k] & 511], 8, iq_signs[block->qs[k] >> 9]);
    }
  }
}

void decode_iq2_s(const void* blocks, float* dst, int64_t count) {
  const BlockIQ2_S* block = static_cast<const BlockIQ2_S*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    for (int k = 0; k < 32; ++k, dst += 8) {
      const float scale = d * (0.5f + float(nibble(block->scales, k / 2))) * 0.25f;
      const int index = block->qs[k] | (block->qh[k / 4] >> (k % 4 * 2) & 3) << 8;
      put_signed(dst, scale, iq2_s_grid.at[index], 8, block->signs[k]);
    }
  }
}

void decode_iq3_xxs(const void* blocks, float* dst, int64_t count) {
  const BlockIQ3_XXS* block = static_cast<const BlockIQ3_XXS*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    for (int k = 0; k < 64; ++k, dst += 4) {
      const uint32_t rest = word_at(block->signs_scales, k / 8);
      const float scale = d * (0.5f + float(rest >> 28)) * 0.5f;
      const uint32_t signs = iq_signs[rest >> (k % 8 / 2 * 7) & 127];
      put_signed(dst, scale, iq3_xxs_grid.at[block->qs[k]], 4, signs >> (k % 2 * 4));
    }
  }
}

void decode_iq3_s(const void* blocks, float* dst, int64_t count) {
  const BlockIQ3_S* block = static_cast<const BlockIQ3_S*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    for (int k = 0; k < 64; ++k, dst += 4) {
      const float scale = d * float(1 + 2 * nibble(block->scales, k / 8));
      const int index = block->qs[k] | (block->qh[k / 8] >> (k % 8) & 1) << 8;
      put_signed(dst, scale, iq3_s_grid.at[index], 4, block->signs[k / 2] >> (k % 2 * 4));
    }
  }
}

void decode_iq1_s(const void* blocks, float* dst, int64_t count) {
  const BlockIQ1_S* block = static_cast<const BlockIQ1_S*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    for (int k = 0; k < 32; ++k, dst += 8) {
      const int high = block->qh[k / 4];
      const float scale = d * float(2 * (high >> 12 & 7) + 1);
      const float delta = high & 0x8000 ? -0.125f : 0.125f;
      const int8_t* grid = iq1_grid.at[block->qs[k] | (high >> (k % 4 * 3) & 7) << 8];
      for (int i = 0; i < 8; ++i) dst[i] = scale * (float(grid[i]) + delta);
    }
  }
}

void decode_iq1_m(const void* blocks, float* dst, int64_t count) {
  const BlockIQ1_M* block = static_cast<const BlockIQ1_M*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const uint64_t packed = word_at(block->scales, 0) | uint64_t(word_at(block->scales, 1)) << 32;
    uint32_t half = 0;
    for (int i = 0; i < 4; ++i) half |= uint32_t(packed >> (i * 16 + 12) & 15) << (i * 4);
    const float d = half_to_float(uint16_t(half));
    for (int k = 0; k < 32; ++k, dst += 8) {  // 3-bit scales for 16 elements, four to a 16-bit word
      const float scale = d * float(2 * int(packed >> (k / 8 * 16 + k % 8 / 2 * 3) & 7) + 1);
      const int high = nibble(block->qh, k);
      const float delta = high & 8 ? -0.125f : 0.125f;
      const int8_t* grid = iq1_grid.at[block->qs[k] | (high & 7) << 8];
      for (int i = 0; i < 8; ++i) dst[i] = scale * (float(grid[i]) + delta);
    }
  }
}

void decode_iq4_nl(const void* blocks, float* dst, int64_t count) {
  const BlockIQ4_NL* block = static_cast<const BlockIQ4_NL*>(blocks);
  for (; count > 0; count -= 32, dst += 32, ++block) {
    const float d = half_to_float(block->d);
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * float(iq4_values[block->qs[i] & 15]);
      dst[i + 16] = d * float(iq4_values[block->qs[i] >> 4]);
    }
  }
}

void decode_iq4_xs(const void* blocks, float* dst, int64_t count) {
  const BlockIQ4_XS* block = static_cast<const BlockIQ4_XS*>(blocks);
  for (; count > 0; count -= 256, ++block) {
    const float d = half_to_float(block->d);
    for (int j = 0; j < 8; ++j, dst += 32) {
      const int scale = nibble(block->scales_l, j) | (block->scales_h >> (j * 2) & 3) << 4;
      const float dl = d * float(scale - 32);
      for (int i = 0; i < 16; ++i) {
        dst[i] = dl * float(iq4_values[block->qs[j * 16 + i] & 15]);
        dst[i + 16] = dl * float(iq4_values[block->qs[j * 16 + i] >> 4]);
      }
    }
  }
}

}  // namespace inhouse::kernels
