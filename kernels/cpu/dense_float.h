// How matrices of floats are multiplied: in float32, one value of K in a step. Include after a simd_*.h.
#pragma once

#include "kernels/kernels.h"

namespace inhouse::kernels {
namespace {

template <DenseType type>
struct DenseStep {
  using X = float;                          // an activation row's part of a step
  static constexpr int values = 1;          // of K in a step
  static constexpr int64_t most = 1 << 30;  // values of K that `take` takes at once
  const X* x;                               // [rows, x_stride]
  int64_t x_stride;

  // The activations of the next `count` values of K: rows (at most kDenseRows) that lie `stride` apart.
  template <int rows>
  inline void take(const float* from, int64_t stride, int64_t) {
    x = from;
    x_stride = stride;
  }
  static inline F load(const uint8_t* p) {
    if constexpr (type == DenseType::f32) return kernels::load(reinterpret_cast<const float*>(p));
    if constexpr (type == DenseType::f16) return load_f16(reinterpret_cast<const uint16_t*>(p));
    if constexpr (type == DenseType::bf16) return load_bf16(reinterpret_cast<const uint16_t*>(p));
  }
  static inline F add(F sum, F w, X number) { return fma(w, set1(number), sum); }
};

}  // namespace
}  // namespace inhouse::kernels
