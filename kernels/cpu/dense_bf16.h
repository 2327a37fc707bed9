// BF16 matrices by the processor's dot product of BF16 pairs: activations are rounded to BF16, and two values
// of K make a step. Include after simd_avx512.h.
#pragma once

#include "kernels/cpu/dense_float.h"

namespace inhouse::kernels {
namespace {

template <>
struct DenseStep<DenseType::bf16> {
  using X = int32_t;  // two numbers
  static constexpr int values = 2;
  static constexpr int64_t most = 512;
  static constexpr int64_t x_stride = most / 2;
  alignas(64) X x[kDenseRows * x_stride];

  // Rounds to nearest, ties to even; NaN stays NaN, subnormal numbers become 0. An odd last number gets a 0
  // for company, as the panel's last row does.
  template <int rows>
  inline void take(const float* from, int64_t stride, int64_t count) {
    for (int t = 0; t < rows; ++t, from += stride) {
      for (int64_t k = 0; k < count; k += 32) {
        const F low = load_part(from + k, count - k);
        const F high = count - k > 16 ? load_part(from + k + 16, count - k - 16) : set1(0.0f);
        store_bytes(x + t * x_stride + k / 2, I(_mm512_cvtne2ps_pbh(high, low)));
      }
    }
  }
  // Two times 16 rows, as they stand in a panel, to 16 pairs.
  static inline I load(const uint8_t* p) {
    // clang-format off
    alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    // clang-format on
    return _mm512_permutexvar_epi16(load_bytes(order), load_bytes(p));
  }
  static inline F add(F sum, I w, X pair) {
    return _mm512_dpbf16_ps(sum, __m512bh(w), __m512bh(set1_i(pair)));
  }
};

}  // namespace
}  // namespace inhouse::kernels
