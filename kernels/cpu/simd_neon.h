// The vectors the kernel bodies are written in, for 64-bit ARM: 4 lanes. A dot_*.h goes with it.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/unroll.h"

namespace inhouse::kernels {
namespace {

using F = float32x4_t;  // kLanes floats
using I = int32x4_t;    // kLanes int32, or 4 * kLanes bytes
constexpr int kLanes = 4;
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
constexpr int kDenseRows = 6;  // of activations in a tile of floats

inline F load(const float* p) {
  return vld1q_f32(p);
}
inline void store(float* p, F v) {
  vst1q_f32(p, v);
}
inline F load_part(const float* p, int64_t n) {
  float v[4] = {};
  std::memcpy(v, p, size_t(n > 4 ? 4 : n) * 4);
  return vld1q_f32(v);
}
inline void store_part(float* p, F v, int64_t n) {
  float all[4];
  vst1q_f32(all, v);
  std::memcpy(p, all, size_t(n > 4 ? 4 : n) * 4);
}
inline F set1(float x) {
  return vdupq_n_f32(x);
}
inline F add(F a, F b) {
  return vaddq_f32(a, b);
}
inline F sub(F a, F b) {
  return vsubq_f32(a, b);
}
inline F mul(F a, F b) {
  return vmulq_f32(a, b);
}
inline F div(F a, F b) {
  return vdivq_f32(a, b);
}
inline F fma(F a, F b, F c) {
  return vfmaq_f32(c, a, b);
}
inline F fnma(F a, F b, F c) {
  return vfmsq_f32(c, a, b);
}
// Where one is NaN, the second.
inline F min(F a, F b) {
  return vbslq_f32(vcltq_f32(a, b), a, b);
}
inline F max(F a, F b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
inline F abs(F a) {
  return vabsq_f32(a);
}
// a < b ? x : y; NaN compares false.
inline F select_less(F a, F b, F x, F y) {
  return vbslq_f32(vcltq_f32(a, b), x, y);
}
inline bool any_not_finite(F a, F b) {
  const uint32x4_t most = vdupq_n_u32(0x7f7fffff);
  const uint32x4_t bad = vorrq_u32(vcgtq_u32(vreinterpretq_u32_f32(vabsq_f32(a)), most),
                                   vcgtq_u32(vreinterpretq_u32_f32(vabsq_f32(b)), most));
  return vmaxvq_u32(bad) != 0;
}
// The greatest lane of numbers without NaN.
inline float max_of(F a) {
  return vmaxvq_f32(a);
}
inline I to_int(F a) {
  return vcvtnq_s32_f32(a);
}  // to nearest, ties to even
inline int32_t sum_of(I a) {
  return vaddvq_s32(a);
}
inline F to_float(I a) {
  return vcvtq_f32_s32(a);
}
inline F scale_by_power(F a, I n) {
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), vshlq_n_s32(n, 23)));
}
inline void store_i8(int8_t* p, I a) {
  const int8x8_t bytes = vmovn_s16(vcombine_s16(vmovn_s32(a), vdup_n_s16(0)));
  const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  std::memcpy(p, &four, 4);
}

inline F load_f16(const uint16_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
inline F load_bf16(const uint16_t* p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
inline void store_f16(uint16_t* p, F v) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
inline int32_t load_four(const void* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return four;
}
inline I bytes_i8(const void* p) {
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(load_four(p))))));
}
inline I bytes_u8(const void* p) {
  const uint8x8_t bytes = vreinterpret_u8_s32(vdup_n_s32(load_four(p)));
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}

inline I load_bytes(const void* p) {
  return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p)));
}
inline void store_bytes(void* p, I v) {
  vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_s32(v));
}
inline I set1_i(int32_t x) {
  return vdupq_n_s32(x);
}
inline I set1_u8(uint8_t x) {
  return vreinterpretq_s32_u8(vdupq_n_u8(x));
}
inline I zero_i() {
  return vdupq_n_s32(0);
}
inline I add_i(I a, I b) {
  return vaddq_s32(a, b);
}
inline I bit_and(I a, I b) {
  return vandq_s32(a, b);
}
inline I bit_or(I a, I b) {
  return vorrq_s32(a, b);
}
inline I bit_xor(I a, I b) {
  return veorq_s32(a, b);
}
// Within bytes: no bits come in from a neighbour.
template <int n>
inline I shift_right(I a) {
  return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(a), n));
}
template <int n>
inline I shift_left(I a) {
  return vreinterpretq_s32_u8(vshlq_n_u8(vreinterpretq_u8_s32(a), n));
}
inline I shift_right_i32(I a, int n) {
  return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n)));
}
inline I load_table(const void* p) {
  return load_bytes(p);
}
inline I look_up(I table, I index) {
  return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(table), vreinterpretq_u8_s32(index)));
}

// Four activations (quad q of a row, at p) for all lanes. Sixteen are loaded at once and held: dot products
// take a lane of a register by its index, while a broadcast from memory is an instruction, and its address
// another.
using Quads = int32x4_t;
struct Quad {
  int32x4_t held;
  int lane;  // 0 to 3, a constant once loops are unrolled
};
inline Quad quad(Quads& held, const int8_t* p, int q) {
  if (q % 4 == 0) held = vreinterpretq_s32_s8(vld1q_s8(p));
  return {held, q % 4};
}
inline I broadcast(Quad x) {
  switch (x.lane) {
    case 0:
      return vdupq_laneq_s32(x.held, 0);
    case 1:
      return vdupq_laneq_s32(x.held, 1);
    case 2:
      return vdupq_laneq_s32(x.held, 2);
    default:
      return vdupq_laneq_s32(x.held, 3);
  }
}
#ifdef __ARM_FEATURE_MATMUL_INT8
inline I dot_bytes(I sum, I u8, I s8) {
  return vusdotq_s32(sum, vreinterpretq_u8_s32(u8), vreinterpretq_s8_s32(s8));
}
inline I dot_bytes(I sum, I u8, Quad x) {
  const uint8x16_t w = vreinterpretq_u8_s32(u8);
  const int8x16_t all = vreinterpretq_s8_s32(x.held);
  switch (x.lane) {
    case 0:
      return vusdotq_laneq_s32(sum, w, all, 0);
    case 1:
      return vusdotq_laneq_s32(sum, w, all, 1);
    case 2:
      return vusdotq_laneq_s32(sum, w, all, 2);
    default:
      return vusdotq_laneq_s32(sum, w, all, 3);
  }
}
#endif

// Keeps a probe's value from being computed away.
template <class V>
inline void keep(V& v) {
  __asm__ volatile("" : "+w"(v));
}
inline void prefetch(const void* p) {
  __builtin_prefetch(p);
}

}  // namespace
}  // namespace inhouse::kernels
