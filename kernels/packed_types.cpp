// How each integer GGUF type maps onto a packed format: one extractor and one table row per type.
#include <cstring>

#include "kernels/packed.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {
namespace {

// 16 bytes of nibbles: low halves are elements 0..15, high halves 16..31.
void nibbles_32(const uint8_t* qs, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = qs[i] & 15;
    codes[i + 16] = qs[i] >> 4;
  }
}

void fifth_bits_32(const uint8_t* qh, uint8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, qh, 4);
  for (int i = 0; i < 32; ++i) codes[i] |= uint8_t((bits >> i & 1u) << 4);
}

void extract_q4_0(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ4_0*>(src);
  out->d[0] = b.d;
  nibbles_32(b.qs, out->codes);
}
void extract_q4_1(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ4_1*>(src);
  out->d[0] = b.d;
  out->minimum[0] = b.m;
  nibbles_32(b.qs, out->codes);
}
void extract_q5_0(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ5_0*>(src);
  out->d[0] = b.d;
  nibbles_32(b.qs, out->codes);
  fifth_bits_32(b.qh, out->codes);
}
void extract_q5_1(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ5_1*>(src);
  out->d[0] = b.d;
  out->minimum[0] = b.m;
  nibbles_32(b.qs, out->codes);
  fifth_bits_32(b.qh, out->codes);
}
void extract_q8_0(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ8_0*>(src);
  out->d[0] = b.d;
  for (int i = 0; i < 32; ++i) out->codes[i] = uint8_t(b.qs[i] ^ 0x80);
}

// The 8 six-bit scales and minimums of Q4_K and Q5_K: the low six bits of the first 8 bytes are the first
// four of each; the others have four bits in the last 4 bytes and two in the tops of the first 8.
void scales_k(const uint8_t* s, RowBlock* out) {
  for (int g = 0; g < 4; ++g) {
    out->scales[g] = int8_t(s[g] & 63);
    out->minimums[g] = s[g + 4] & 63;
    out->scales[g + 4] = int8_t((s[g + 8] & 15) | (s[g] >> 6) << 4);
    out->minimums[g + 4] = uint8_t((s[g + 8] >> 4) | (s[g + 4] >> 6) << 4);
  }
}
void extract_q4_k(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ4_K*>(src);
  out->d[0] = b.d;
  out->minimum[0] = b.dmin;
  scales_k(b.scales, out);
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < 32; ++i) {
      out->codes[64 * c + i] = b.qs[32 * c + i] & 15;
      out->codes[64 * c + 32 + i] = b.qs[32 * c + i] >> 4;
    }
}
void extract_q5_k(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ5_K*>(src);
  out->d[0] = b.d;
  out->minimum[0] = b.dmin;
  scales_k(b.scales, out);
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < 32; ++i) {
      out->codes[64 * c + i] = uint8_t((b.qs[32 * c + i] & 15) | (b.qh[i] >> (2 * c) & 1) << 4);
      out->codes[64 * c + 32 + i] = uint8_t((b.qs[32 * c + i] >> 4) | (b.qh[i] >> (2 * c + 1) & 1) << 4);
    }
}
void extract_q6_k(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ6_K*>(src);
  out->d[0] = b.d;
  std::memcpy(out->scales, b.scales, 16);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* ql = b.ql + 64 * half;
    const uint8_t* qh = b.qh + 32 * half;
    uint8_t* codes = out->codes + 128 * half;
    for (int i = 0; i < 32; ++i) {
      codes[i] = uint8_t((ql[i] & 15) | (qh[i] & 3) << 4);
      codes[i + 32] = uint8_t((ql[i + 32] & 15) | (qh[i] >> 2 & 3) << 4);
      codes[i + 64] = uint8_t((ql[i] >> 4) | (qh[i] >> 4 & 3) << 4);
      codes[i + 96] = uint8_t((ql[i + 32] >> 4) | (qh[i] >> 6) << 4);
    }
  }
}

// Two-bit codes as in Q2_K and Q3_K: 32 bytes hold four runs of 32 elements, run j in bits 2j and 2j + 1.
void twos_256(const uint8_t* qs, uint8_t* codes) {
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 32; ++i) codes[128 * half + 32 * j + i] = qs[32 * half + i] >> (2 * j) & 3;
}
void extract_q2_k(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ2_K*>(src);
  out->d[0] = b.d;
  out->minimum[0] = b.dmin;
  for (int g = 0; g < 16; ++g) {
    out->scales[g] = int8_t(b.scales[g] & 15);
    out->minimums[g] = b.scales[g] >> 4;
  }
  twos_256(b.qs, out->codes);
}
void extract_q3_k(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockQ3_K*>(src);
  out->d[0] = b.d;
  for (int g = 0; g < 16; ++g) {
    const int low = g < 8 ? b.scales[g] & 15 : b.scales[g - 8] >> 4;
    const int high = b.scales[8 + g % 4] >> (g / 4 * 2) & 3;
    out->scales[g] = int8_t((low | high << 4) - 32);
  }
  twos_256(b.qs, out->codes);
  for (int run = 0; run < 8; ++run)
    for (int i = 0; i < 32; ++i) out->codes[32 * run + i] |= uint8_t((b.hmask[i] >> run & 1) << 2);
}

// Ternary digits: byte * 3^n modulo 256 is a fraction whose first base-3 digit is element n.
uint8_t ternary(uint8_t byte, int n) {
  static constexpr uint8_t powers[5] = {1, 3, 9, 27, 81};
  return uint8_t(uint8_t(byte * powers[n]) * 3 >> 8);
}
void ones(RowBlock* out) {
  std::memset(out->scales, 1, sizeof out->scales);
}
void extract_tq1_0(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockTQ1_0*>(src);
  out->d[0] = b.d;
  ones(out);
  uint8_t* codes = out->codes;
  for (int n = 0; n < 5; ++n)
    for (int i = 0; i < 32; ++i) *codes++ = ternary(b.qs[i], n);
  for (int n = 0; n < 5; ++n)
    for (int i = 32; i < 48; ++i) *codes++ = ternary(b.qs[i], n);
  for (int n = 0; n < 4; ++n)
    for (int i = 0; i < 4; ++i) *codes++ = ternary(b.qh[i], n);
}
void extract_tq2_0(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockTQ2_0*>(src);
  out->d[0] = b.d;
  ones(out);
  twos_256(b.qs, out->codes);
}

void extract_iq4_nl(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockIQ4_NL*>(src);
  out->d[0] = b.d;
  nibbles_32(b.qs, out->codes);
}
void extract_iq4_xs(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockIQ4_XS*>(src);
  out->d[0] = b.d;
  for (int g = 0; g < 8; ++g) {
    const int low = b.scales_l[g / 2] >> (g % 2 * 4) & 15;
    const int high = b.scales_h >> (2 * g) & 3;
    out->scales[g] = int8_t((low | high << 4) - 32);
    nibbles_32(b.qs + 16 * g, out->codes + 32 * g);
  }
}
void extract_mxfp4(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockMXFP4*>(src);
  out->d[0] = uint16_t(bits_of_float(e8m0_half_to_float(b.e)) >> 16);  // exact: at most one bit of fraction
  nibbles_32(b.qs, out->codes);
}
void extract_nvfp4(const void* src, RowBlock* out) {
  const auto& b = *static_cast<const BlockNVFP4*>(src);
  for (int g = 0; g < 4; ++g) {
    out->d[g] = float_to_half(ue4m3_half_to_float(b.d[g]));  // exact: three bits of fraction
    for (int i = 0; i < 8; ++i) {
      out->codes[16 * g + i] = b.qs[8 * g + i] & 15;
      out->codes[16 * g + 8 + i] = b.qs[8 * g + i] >> 4;
    }
  }
}

// Codebook types. Each element is one of at most 16 values times its group's scale, so that a nibble and a
// lookup hold it. The numbers come from the type's own decoder, run with d = 1, so that the grids need no
// second home.
constexpr int8_t iq1_values[16] = {-9, -7, -1, 1, 7, 9};  // 8 g + 1 and 8 g - 1 of g in -1, 0, 1
constexpr int8_t iq2_values[16] = {-43, -25, -8, 8, 25, 43};
constexpr int8_t iq3_xxs_values[16] = {-62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62};
constexpr int8_t iq3_s_values[16] = {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};

constexpr HalfBits half_one = 0x3c00;

// unit: a block whose d is 1. out->scales is filled in.
void codes_from_values(TypeId type, const void* unit, int group, float multiplier, const int8_t* values,
                       RowBlock* out) {
  float numbers[256];
  quant_type(uint32_t(type))->decode(unit, numbers, 256);
  uint8_t code_of[256] = {};
  for (int i = 16; i-- > 0;) code_of[uint8_t(values[i])] = uint8_t(i);
  for (int k = 0; k < 256; ++k) {
    const float value = numbers[k] / (multiplier * float(out->scales[k / group]));
    out->codes[k] = code_of[uint8_t(int8_t(value))];
  }
}
void extract_iq2_xxs(const void* src, RowBlock* out) {
  auto b = *static_cast<const BlockIQ2_XXS*>(src);
  out->d[0] = b.d;
  b.d = half_one;
  for (int g = 0; g < 8; ++g) out->scales[g] = int8_t(2 * (b.qs[4 * g + 3] >> 12) + 1);
  codes_from_values(TypeId::iq2_xxs, &b, 32, 0.125f, iq2_values, out);
}
// Scales as nibbles, one per 16 elements.
void scales_nibbles(const uint8_t* s, RowBlock* out) {
  for (int g = 0; g < 16; ++g) out->scales[g] = int8_t(2 * (s[g / 2] >> (g % 2 * 4) & 15) + 1);
}
void extract_iq2_xs(const void* src, RowBlock* out) {
  auto b = *static_cast<const BlockIQ2_XS*>(src);
  out->d[0] = b.d;
  b.d = half_one;
  scales_nibbles(b.scales, out);
  codes_from_values(TypeId::iq2_xs, &b, 16, 0.125f, iq2_values, out);
}
void extract_iq2_s(const void* src, RowBlock* out) {
  auto b = *static_cast<const BlockIQ2_S*>(src);
  out->d[0] = b.d;
  b.d = half_one;
  scales_nibbles(b.scales, out);
  codes_from_values(TypeId::iq2_s, &b, 16, 0.125f, iq2_values, out);
}
void extract_iq3_xxs(const void* src, RowBlock* out) {
  auto b = *static_cast<const BlockIQ3_XXS*>(src);
  out->d[0] = b.d;
  b.d = half_one;
  for (int g = 0; g < 8; ++g) out->scales[g] = int8_t(2 * (b.signs_scales[4 * g + 3] >> 4) + 1);
  codes_from_values(TypeId::iq3_xxs, &b, 32, 0.25f, iq3_xxs_values, out);
}
void extract_iq3_s(const void* src, RowBlock* out) {
  auto b = *static_cast<const BlockIQ3_S*>(src);
  out->d[0] = b.d;
  b.d = half_one;
  for (int g = 0; g < 8; ++g) out->scales[g] = int8_t(2 * (b.scales[g / 2] >> (g % 2 * 4) & 15) + 1);
  codes_from_values(TypeId::iq3_s, &b, 32, 1.0f, iq3_s_values, out);
}
void extract_iq1_s(const void* src, RowBlock* out) {
  auto b = *static_cast<const BlockIQ1_S*>(src);
  out->d[0] = b.d;
  b.d = half_one;
  for (int g = 0; g < 8; ++g) out->scales[g] = int8_t(2 * (b.qh[g] >> 12 & 7) + 1);
  codes_from_values(TypeId::iq1_s, &b, 32, 0.125f, iq1_values, out);
}
void extract_iq1_m(const void* src, RowBlock* out) {
  auto b = *static_cast<const BlockIQ1_M*>(src);
  uint16_t words[4];
  std::memcpy(words, b.scales, 8);
  uint32_t d = 0;
  for (int w = 0; w < 4; ++w) {
    d |= uint32_t(words[w] >> 12) << 4 * w;
    for (int g = 0; g < 4; ++g) out->scales[4 * w + g] = int8_t(2 * (words[w] >> 3 * g & 7) + 1);
    words[w] = uint16_t((words[w] & 0x0fffu) | (uint32_t(half_one) >> 4 * w & 15u) << 12);
  }
  out->d[0] = uint16_t(d);
  std::memcpy(b.scales, words, 8);
  codes_from_values(TypeId::iq1_m, &b, 16, 0.125f, iq1_values, out);
}

constexpr PackedType types[] = {
    {TypeId::q4_0, FormatId::flat4, 8, 1.0f, nullptr, extract_q4_0},
    {TypeId::q4_1, FormatId::flat4_min, 0, 1.0f, nullptr, extract_q4_1},
    {TypeId::q5_0, FormatId::flat5, 16, 1.0f, nullptr, extract_q5_0},
    {TypeId::q5_1, FormatId::flat5_min, 0, 1.0f, nullptr, extract_q5_1},
    {TypeId::q8_0, FormatId::flat8, 128, 1.0f, nullptr, extract_q8_0},
    {TypeId::q2_k, FormatId::deep2_min_16, 0, 1.0f, nullptr, extract_q2_k},
    {TypeId::q3_k, FormatId::deep3_16, 4, 1.0f, nullptr, extract_q3_k},
    {TypeId::q4_k, FormatId::deep4_min, 0, 1.0f, nullptr, extract_q4_k},
    {TypeId::q5_k, FormatId::deep5_min, 0, 1.0f, nullptr, extract_q5_k},
    {TypeId::q6_k, FormatId::deep6_16, 32, 1.0f, nullptr, extract_q6_k},
    {TypeId::iq2_xxs, FormatId::deep4_lookup, 128, 0.125f, iq2_values, extract_iq2_xxs},
    {TypeId::iq2_xs, FormatId::deep4_lookup_16, 128, 0.125f, iq2_values, extract_iq2_xs},
    {TypeId::iq3_xxs, FormatId::deep4_lookup, 128, 0.25f, iq3_xxs_values, extract_iq3_xxs},
    {TypeId::iq1_s, FormatId::deep4_lookup, 128, 0.125f, iq1_values, extract_iq1_s},
    {TypeId::iq4_nl, FormatId::flat4_lookup, 128, 1.0f, iq4_values, extract_iq4_nl},
    {TypeId::iq3_s, FormatId::deep4_lookup, 128, 1.0f, iq3_s_values, extract_iq3_s},
    {TypeId::iq2_s, FormatId::deep4_lookup_16, 128, 0.125f, iq2_values, extract_iq2_s},
    {TypeId::iq4_xs, FormatId::deep4_lookup, 128, 1.0f, iq4_values, extract_iq4_xs},
    {TypeId::iq1_m, FormatId::deep4_lookup_16, 128, 0.125f, iq1_values, extract_iq1_m},
    {TypeId::tq1_0, FormatId::deep2, 1, 1.0f, nullptr, extract_tq1_0},
    {TypeId::tq2_0, FormatId::deep2, 1, 1.0f, nullptr, extract_tq2_0},
    {TypeId::mxfp4, FormatId::flat4_lookup_bf16, 16, 1.0f, fp4_values, extract_mxfp4},
    {TypeId::nvfp4, FormatId::flat4_lookup_16, 16, 1.0f, fp4_values, extract_nvfp4},
};

}  // namespace

const PackedType* packed_type(TypeId type) {
  for (const PackedType& entry : types)
    if (entry.type == type) return &entry;
  return nullptr;
}

}  // namespace inhouse::kernels
