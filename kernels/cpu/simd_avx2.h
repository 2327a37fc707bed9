// The vectors the kernel bodies are written in, for AVX2 with FMA: 8 lanes. A dot_*.h goes with it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/unroll.h"

namespace inhouse::kernels {
namespace {

using F = __m256;   // kLanes floats
using I = __m256i;  // kLanes int32, or 4 * kLanes bytes
constexpr int kLanes = 8;
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
constexpr int kDenseRows = 2;  // of activations in a tile of floats

inline F load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline void store(float* p, F v) {
  _mm256_storeu_ps(p, v);
}
inline I first(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int32_t(n > 8 ? 8 : n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F load_part(const float* p, int64_t n) {
  return _mm256_maskload_ps(p, first(n));
}
inline void store_part(float* p, F v, int64_t n) {
  _mm256_maskstore_ps(p, first(n), v);
}
inline F set1(float x) {
  return _mm256_set1_ps(x);
}
inline F add(F a, F b) {
  return _mm256_add_ps(a, b);
}
inline F sub(F a, F b) {
  return _mm256_sub_ps(a, b);
}
inline F mul(F a, F b) {
  return _mm256_mul_ps(a, b);
}
inline F div(F a, F b) {
  return _mm256_div_ps(a, b);
}
inline F fma(F a, F b, F c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline F fnma(F a, F b, F c) {
  return _mm256_fnmadd_ps(a, b, c);
}
// Where one is NaN, the second.
inline F min(F a, F b) {
  return _mm256_min_ps(a, b);
}
inline F max(F a, F b) {
  return _mm256_max_ps(a, b);
}
inline F abs(F a) {
  return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}
// a < b ? x : y; NaN compares false.
inline F select_less(F a, F b, F x, F y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline bool any_not_finite(F a, F b) {
  const F zero = _mm256_setzero_ps();
  const F zero_or_nan = _mm256_add_ps(_mm256_mul_ps(a, zero), _mm256_mul_ps(b, zero));
  return _mm256_movemask_ps(_mm256_cmp_ps(zero_or_nan, zero_or_nan, _CMP_UNORD_Q)) != 0;
}
// The greatest lane of numbers without NaN.
inline float max_of(F a) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
inline I to_int(F a) {
  return _mm256_cvtps_epi32(a);
}  // to nearest, ties to even
inline int32_t sum_of(I a) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
inline F to_float(I a) {
  return _mm256_cvtepi32_ps(a);
}
inline F scale_by_power(F a, I n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(n, 23)));
}
inline void store_i8(int8_t* p, I a) {
  const I low_bytes =
      _mm256_shuffle_epi8(a, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0,
                                              4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  const __m128i both =
      _mm_unpacklo_epi32(_mm256_castsi256_si128(low_bytes), _mm256_extracti128_si256(low_bytes, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), both);
}

inline F load_f16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F load_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
inline void store_f16(uint16_t* p, F v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline I bytes_i8(const void* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
inline I bytes_u8(const void* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}

inline I load_bytes(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void store_bytes(void* p, I v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}
inline I set1_i(int32_t x) {
  return _mm256_set1_epi32(x);
}
inline I set1_u8(uint8_t x) {
  return _mm256_set1_epi8(char(x));
}
inline I add_i(I a, I b) {
  return _mm256_add_epi32(a, b);
}
inline I bit_and(I a, I b) {
  return _mm256_and_si256(a, b);
}
inline I bit_or(I a, I b) {
  return _mm256_or_si256(a, b);
}
inline I bit_xor(I a, I b) {
  return _mm256_xor_si256(a, b);
}
template <int n>
inline I shift_right(I a) {
  return _mm256_srli_epi16(a, n);
}
template <int n>
inline I shift_left(I a) {
  return _mm256_slli_epi16(a, n);
}
inline I shift_right_i32(I a, int n) {
  return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n));
}
inline I load_table(const void* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline I look_up(I table, I index) {
  return _mm256_shuffle_epi8(table, index);
}

// The steps of a dot product without VNNI.
inline I mul_pairs(I u8, I s8) {
  return _mm256_maddubs_epi16(u8, s8);
}
inline I add_pairs(I s16) {
  return _mm256_madd_epi16(s16, _mm256_set1_epi16(1));
}
inline I add_i16(I a, I b) {
  return _mm256_add_epi16(a, b);
}
inline I zero_i() {
  return _mm256_setzero_si256();
}
inline I abs_i8(I a) {
  return _mm256_abs_epi8(a);
}
// x with the signs of s; where s is 0, anything.
inline I sign_i8(I x, I s) {
  return _mm256_sign_epi8(x, s);
}
#ifdef __AVXVNNI__
inline I dot_bytes(I sum, I u8, I s8) {
  return _mm256_dpbusd_avx_epi32(sum, u8, s8);
}
#endif

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
  __asm__ volatile("" : "+x"(v));
}
inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

}  // namespace
}  // namespace inhouse::kernels
