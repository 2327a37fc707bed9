// Writing to and reading from blocks of the KV cache (layout.h).
#pragma once

#include "kernels/cuda/device.h"

namespace inhouse::kernels::cuda {

// The four pairs of a lane in 32 numbers: q < 4.
template <CudaCache TYPE>
INHOUSE_DEVICE Words4 load_pairs(const uint8_t* numbers, int q) {
  if constexpr (TYPE == CudaCache::f16) return load_words4(numbers + q * 16);
  const Words2 w = load_words2(numbers + q * 8);
  Words4 out;
  INHOUSE_UNROLL
  for (int i = 0; i < 4; ++i) {
    // Signed bytes, as 1024 + 128 + byte in binary16.
    const uint32_t biased = byte_permute(w.x[i / 2] ^ 0x80808080u, 0x64646464u, i % 2 ? 0x4342u : 0x4140u);
    out.x[i] = half2_subtract(biased, 0x64806480u);
  }
  return out;
}

// A warp rounds 32 dimensions at a time.
template <CudaCache TYPE, bool IS_V>
INHOUSE_DEVICE void store(const StoreArgs& a) {
  const int row = block_x(), head = block_y(), token = a.positions[row] % 32;
  const float* x = a.x + (int64_t(row) * a.kv_heads + head) * a.dims;
  uint8_t* block = a.cache + head * a.head_stride + a.blocks[row] * a.block_stride;
  for (int dim = warp() * 32 + lane(); dim < cells_of(a.dims) * 32; dim += kStoreThreads) {
    const float number = dim < a.dims ? x[dim] : 0.0f;
    const CachePlace place = IS_V ? v_place(TYPE, a.dims, dim, token) : k_place(TYPE, a.dims, dim, token);
    if constexpr (TYPE == CudaCache::f16) {
      *reinterpret_cast<uint16_t*>(block + place.number) = uint16_t(half_bits(number));
    } else {
      const float scale = warp_largest(fabsf(number)) / 127.0f;
      const float inverse = scale >= 1.1754944e-38f ? 1.0f / scale : 0.0f;
      const float wrong = warp_sum(number * 0.0f);  // NaN where a number is not finite
      const float code = wrong == 0 ? roundf(number * inverse) : 0.0f;
      *reinterpret_cast<int8_t*>(block + place.number) = int8_t(code);
      if (lane() == 0) *reinterpret_cast<uint16_t*>(block + place.scale) = uint16_t(half_bits(scale + wrong));
    }
  }
}

}  // namespace inhouse::kernels::cuda
