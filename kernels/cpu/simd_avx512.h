// The vectors the kernel bodies are written in, for AVX-512: 16 lanes. A dot_*.h goes with it.
#pragma once

// GCC 12 takes the deliberately undefined vectors of its own intrinsics for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/unroll.h"

namespace inhouse::kernels {
namespace {

using F = __m512;   // kLanes floats
using I = __m512i;  // kLanes int32, or 4 * kLanes bytes
constexpr int kLanes = 16;
// Activation rows and row vectors of a matrix-matrix tile: 2 x 6 float and 2 x 6 integer sums in 32
// registers.
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;
constexpr int kDenseRows = 6;  // of activations in a tile of floats

inline F load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void store(float* p, F v) {
  _mm512_storeu_ps(p, v);
}
inline __mmask16 first(int64_t n) {
  return n >= 16 ? __mmask16(0xffff) : __mmask16((1u << n) - 1u);
}
inline F load_part(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(first(n), p);
}
inline void store_part(float* p, F v, int64_t n) {
  _mm512_mask_storeu_ps(p, first(n), v);
}
inline F set1(float x) {
  return _mm512_set1_ps(x);
}
inline F add(F a, F b) {
  return _mm512_add_ps(a, b);
}
inline F sub(F a, F b) {
  return _mm512_sub_ps(a, b);
}
inline F mul(F a, F b) {
  return _mm512_mul_ps(a, b);
}
inline F div(F a, F b) {
  return _mm512_div_ps(a, b);
}
inline F fma(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline F fnma(F a, F b, F c) {
  return _mm512_fnmadd_ps(a, b, c);
}
// Where one is NaN, the second.
inline F min(F a, F b) {
  return _mm512_min_ps(a, b);
}
inline F max(F a, F b) {
  return _mm512_max_ps(a, b);
}
inline F abs(F a) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
}
// a < b ? x : y; NaN compares false.
inline F select_less(F a, F b, F x, F y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
inline bool any_not_finite(F a, F b) {
  return _kortestz_mask16_u8(_mm512_fpclass_ps_mask(a, 0x99), _mm512_fpclass_ps_mask(b, 0x99)) == 0;
}
// The greatest lane of numbers without NaN.
inline float max_of(F a) {
  return _mm512_reduce_max_ps(a);
}
inline I to_int(F a) {
  return _mm512_cvtps_epi32(a);
}  // to nearest, ties to even
inline int32_t sum_of(I a) {
  return _mm512_reduce_add_epi32(a);
}
inline F to_float(I a) {
  return _mm512_cvtepi32_ps(a);
}
inline F scale_by_power(F a, I n) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(n, 23)));
}
inline void store_i8(int8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}

inline F load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F load_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline void store_f16(uint16_t* p, F v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline I bytes_i8(const void* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline I bytes_u8(const void* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

inline I load_bytes(const void* p) {
  return _mm512_loadu_si512(p);
}
inline void store_bytes(void* p, I v) {
  _mm512_storeu_si512(p, v);
}
inline I set1_i(int32_t x) {
  return _mm512_set1_epi32(x);
}
inline I set1_u8(uint8_t x) {
  return _mm512_set1_epi8(char(x));
}
inline I add_i(I a, I b) {
  return _mm512_add_epi32(a, b);
}
inline I bit_and(I a, I b) {
  return _mm512_and_si512(a, b);
}
inline I bit_or(I a, I b) {
  return _mm512_or_si512(a, b);
}
inline I bit_xor(I a, I b) {
  return _mm512_xor_si512(a, b);
}
template <int n>
inline I shift_right(I a) {
  return _mm512_srli_epi16(a, n);
}
template <int n>
inline I shift_left(I a) {
  return _mm512_slli_epi16(a, n);
}
inline I shift_right_i32(I a, int n) {
  return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n));
}
inline I load_table(const void* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline I look_up(I table, I index) {
  return _mm512_shuffle_epi8(table, index);
}

// The steps of a dot product without VNNI.
inline I mul_pairs(I u8, I s8) {
  return _mm512_maddubs_epi16(u8, s8);
}
inline I add_pairs(I s16) {
  return _mm512_madd_epi16(s16, _mm512_set1_epi16(1));
}
inline I add_i16(I a, I b) {
  return _mm512_add_epi16(a, b);
}
inline I zero_i() {
  return _mm512_setzero_si512();
}
inline I abs_i8(I a) {
  return _mm512_abs_epi8(a);
}
// x with the signs of s; where s is 0, anything.
inline I sign_i8(I x, I s) {
  return _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(s), zero_i(), x);
}
#ifdef __AVX512VNNI__
inline I dot_bytes(I sum, I u8, I s8) {
  return _mm512_dpbusd_epi32(sum, u8, s8);
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
  __asm__ volatile("" : "+v"(v));
}
inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

}  // namespace
}  // namespace inhouse::kernels
