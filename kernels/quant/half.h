// Exact conversions between binary32 and the 16-bit formats, in plain integer arithmetic (the same bits on
// every instruction set), and the scales of the 4-bit float formats.
//
// In an anonymous namespace on purpose: each instruction set's translation unit gets its own copy.
#pragma once

#include <cstdint>
#include <cstring>

namespace inhouse::kernels {
namespace {

[[maybe_unused]] inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

[[maybe_unused]] inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// binary16 to binary32: exact for all values; infinities and NaN payloads are kept.
[[maybe_unused]] inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  const uint32_t rest = half & 0x7fffu;
  if (rest >= 0x7c00u) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  if (rest >= 0x0400u) return float_of_bits(sign | ((rest << 13) + 0x38000000u));
  // Subnormals count multiples of 2^-24, which binary32 holds as normal numbers.
  const float magnitude = float(rest) * 0x1p-24f;
  return float_of_bits(sign | bits_of_float(magnitude));
}

// binary32 to binary16: to nearest, ties to even; overflow to infinity, NaN to a quiet NaN.
[[maybe_unused]] inline uint16_t float_to_half(float value) {
  const uint32_t bits = bits_of_float(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return uint16_t(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
  if (rest >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // from 65520 on, the nearest is infinity
  if (rest >= 0x38800000u) {                                 // normal in binary16
    const uint32_t rebased = rest - 0x38000000u;
    return uint16_t(sign | (rebased + 0xfffu + (rebased >> 13 & 1u)) >> 13);
  }
  if (rest <= 0x33000000u) return uint16_t(sign);  // up to half of the smallest subnormal: zero
  const uint32_t shift = 126u - (rest >> 23);      // of the 24-bit significand, to multiples of 2^-24
  const uint32_t significand = (rest & 0x7fffffu) | 0x800000u;
  const uint32_t kept = significand >> shift;
  const uint32_t lost = significand & ((1u << shift) - 1u);
  const uint32_t half_way = 1u << (shift - 1u);
  return uint16_t(sign | (kept + (lost > half_way || (lost == half_way && (kept & 1u)))));
}

// bfloat16 is the upper half of binary32.
[[maybe_unused]] inline float bf16_to_float(uint16_t bf16) {
  return float_of_bits(uint32_t(bf16) << 16);
}

// To nearest, ties to even; NaN to a quiet NaN.
[[maybe_unused]] inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40u);
  return uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Half of the E8M0 scale 2^(e - 127), for use with fp4_values, which are doubled. Subnormal for e < 2.
[[maybe_unused]] inline float e8m0_half_to_float(uint8_t e) {
  return float_of_bits(e < 2 ? 0x00200000u << e : uint32_t(e - 1) << 23);
}

// Half of the unsigned E4M3 scale (bias 7; the NaN pattern 0x7f counts as 0), for use with fp4_values.
[[maybe_unused]] inline float ue4m3_half_to_float(uint8_t x) {
  if (x == 0 || x == 0x7f) return 0.0f;
  const uint32_t exponent = x >> 3 & 0xfu;
  const uint32_t mantissa = x & 7u;
  if (exponent == 0) return float(mantissa) * 0x1p-10f;
  return float_of_bits((exponent + 127u - 7u - 1u) << 23 | mantissa << 20);
}

}  // namespace
}  // namespace inhouse::kernels
