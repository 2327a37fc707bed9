// The vectors the kernel bodies are written in, for any processor: 4 lanes of compiler vectors, no fused
// multiply-add. For machines without a better implementation; its results may differ from theirs in the last
// bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/quant/half.h"

// Sixteen vectors of four would unroll to megabytes of code.
#define INHOUSE_NO_UNROLL
#include "kernels/cpu/unroll.h"

namespace inhouse::kernels {
namespace {

typedef float F __attribute__((vector_size(16)));    // kLanes floats
typedef int32_t I __attribute__((vector_size(16)));  // kLanes int32, or 4 * kLanes bytes
typedef uint32_t U __attribute__((vector_size(16)));
typedef uint8_t B __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kTileRows = 2;
constexpr int kTileVectors = 2;
constexpr int kDenseRows = 2;  // of activations in a tile of floats

template <class T>
inline T load_as(const void* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline F load(const float* p) {
  return load_as<F>(p);
}
inline void store(float* p, F v) {
  std::memcpy(p, &v, sizeof v);
}
inline F load_part(const float* p, int64_t n) {
  F v = {};
  std::memcpy(&v, p, size_t(n > 4 ? 4 : n) * 4);
  return v;
}
inline void store_part(float* p, F v, int64_t n) {
  std::memcpy(p, &v, size_t(n > 4 ? 4 : n) * 4);
}
inline F set1(float x) {
  return F{x, x, x, x};
}
inline F add(F a, F b) {
  return a + b;
}
inline F sub(F a, F b) {
  return a - b;
}
inline F mul(F a, F b) {
  return a * b;
}
inline F div(F a, F b) {
  return a / b;
}
inline F fma(F a, F b, F c) {
  return a * b + c;
}
inline F fnma(F a, F b, F c) {
  return c - a * b;
}
inline F blend(I mask, F x, F y) {
  return F((I(x) & mask) | (I(y) & ~mask));
}
// Where one is NaN, the second.
inline F min(F a, F b) {
  return blend(a < b, a, b);
}
inline F max(F a, F b) {
  return blend(a > b, a, b);
}
inline F abs(F a) {
  return F(I(a) & 0x7fffffff);
}
// a < b ? x : y; NaN compares false.
inline F select_less(F a, F b, F x, F y) {
  return blend(a < b, x, y);
}
inline bool any_not_finite(F a, F b) {
  const I bad = ((I(a) & 0x7f800000) == 0x7f800000) | ((I(b) & 0x7f800000) == 0x7f800000);
  return (bad[0] | bad[1] | bad[2] | bad[3]) != 0;
}
// The greatest lane of numbers without NaN.
inline float max_of(F a) {
  float m = a[0];
  for (int i = 1; i < kLanes; ++i) m = a[i] > m ? a[i] : m;
  return m;
}
// To nearest, ties to even, for magnitudes below 2^22; 0 for others.
inline I to_int(F a) {
  const F magic = set1(12582912.0f);
  const F rounded = blend(abs(a) < set1(4194304.0f), a, set1(0.0f)) + magic;
  return I(rounded) - I(magic);
}
inline int32_t sum_of(I a) {
  return a[0] + a[1] + a[2] + a[3];
}
inline F to_float(I a) {
  return __builtin_convertvector(a, F);
}
inline F scale_by_power(F a, I n) {
  return F(U(a) + (U(n) << 23));
}
inline void store_i8(int8_t* p, I a) {
  for (int i = 0; i < kLanes; ++i) p[i] = int8_t(a[i]);
}

inline F load_f16(const uint16_t* p) {
  return F{half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])};
}
inline F load_bf16(const uint16_t* p) {
  return F{bf16_to_float(p[0]), bf16_to_float(p[1]), bf16_to_float(p[2]), bf16_to_float(p[3])};
}
inline void store_f16(uint16_t* p, F v) {
  for (int i = 0; i < kLanes; ++i) p[i] = float_to_half(v[i]);
}
inline I bytes_i8(const void* p) {
  const auto* b = static_cast<const int8_t*>(p);
  return I{b[0], b[1], b[2], b[3]};
}
inline I bytes_u8(const void* p) {
  const auto* b = static_cast<const uint8_t*>(p);
  return I{b[0], b[1], b[2], b[3]};
}

inline I load_bytes(const void* p) {
  return load_as<I>(p);
}
inline void store_bytes(void* p, I v) {
  std::memcpy(p, &v, sizeof v);
}
inline I set1_i(int32_t x) {
  return I{x, x, x, x};
}
inline I set1_u8(uint8_t x) {
  return set1_i(int32_t(x * 0x01010101u));
}
inline I add_i(I a, I b) {
  return a + b;
}
inline I bit_and(I a, I b) {
  return a & b;
}
inline I bit_or(I a, I b) {
  return a | b;
}
// The bits that a 32-bit shift brings in from a neighbour are masked off by every caller.
template <int n>
inline I shift_right(I a) {
  return I(U(a) >> n);
}
template <int n>
inline I shift_left(I a) {
  return I(U(a) << n);
}
inline I shift_right_i32(I a, int n) {
  return I(U(a) >> n);
}
inline I load_table(const void* p) {
  return load_as<I>(p);
}
inline I look_up(I table, I index) {
  const B t = B(table), x = B(index);
  B y;
  for (int i = 0; i < 16; ++i) y[i] = t[x[i] & 15];
  return I(y);
}

inline I dot_bytes(I sum, I u8, I s8) {
  const U w = U(u8), x = U(s8);
  return sum + I(w & 255u) * (I(x << 24) >> 24) + I(w >> 8 & 255u) * (I(x << 16) >> 24) +
         I(w >> 16 & 255u) * (I(x << 8) >> 24) + I(w >> 24) * (I(x) >> 24);
}

// Four activations (quad q of a row, at p) for all lanes: from memory, as part of the instruction that uses
// them.
struct Quads {};
inline I quad(Quads&, const int8_t* p, int) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return set1_i(four);
}

// Keeps a probe's value from being computed away.
template <class V>
inline void keep(V& v) {
  volatile auto first = v[0];
  v[0] = first;
}
inline void prefetch(const void*) {}

}  // namespace
}  // namespace inhouse::kernels
