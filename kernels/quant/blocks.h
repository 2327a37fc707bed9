// The block layouts of the GGUF tensor types, as they stand in a file: little-endian, scales as binary16
// bits.
//
// Facts of the format only; how a block's bits become numbers is in the family's .cpp file beside this
// header.
#pragma once

#include <cstdint>

namespace inhouse::kernels {

// Element of rows that have no blocks: binary16 or bfloat16 bits.
using HalfBits = uint16_t;

// Legacy types, 32 elements. Nibbles: element i in the low half of qs[i], element i + 16 in the high half.
struct BlockQ4_0 {  // d * (q - 8)
  HalfBits d;
  uint8_t qs[16];
};
struct BlockQ4_1 {  // d * q + m
  HalfBits d;
  HalfBits m;
  uint8_t qs[16];
};
struct BlockQ5_0 {  // d * (q - 16); bit i of qh is the fifth bit of element i
  HalfBits d;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ5_1 {  // d * q + m
  HalfBits d;
  HalfBits m;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ8_0 {  // d * q
  HalfBits d;
  int8_t qs[32];
};

// K types, 256 elements in sub-blocks of 16 or 32, each with its own small scale.
struct BlockQ2_K {  // 16 x (scale in the low nibble, minimum in the high one): d * s * q - dmin * m
  uint8_t scales[16];
  uint8_t qs[64];
  HalfBits d;
  HalfBits dmin;
};
struct BlockQ3_K {  // 16 six-bit scales less 32; a clear bit in hmask takes 4 off
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  HalfBits d;
};
struct BlockQ4_K {  // 8 six-bit scales and minimums: d * s * q - dmin * m
  HalfBits d;
  HalfBits dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};
struct BlockQ5_K {
  HalfBits d;
  HalfBits dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
struct BlockQ6_K {  // 16 signed scales: d * s * (q - 32)
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  HalfBits d;
};

// Codebook types, 256 elements in groups of 8 (or 4) taken from a grid (kernels/quant/grids.h).
struct BlockIQ1_S {
  HalfBits d;
  uint8_t qs[32];
  uint16_t qh[8];
};
struct BlockIQ1_M {  // the binary16 scale is spread over the top nibbles of the four 16-bit words of `scales`
  uint8_t qs[32];
  uint8_t qh[16];
  uint8_t scales[8];
};
struct BlockIQ2_XXS {
  HalfBits d;
  uint16_t qs[32];
};
struct BlockIQ2_XS {
  HalfBits d;
  uint16_t qs[32];
  uint8_t scales[8];
};
struct BlockIQ2_S {
  HalfBits d;
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];
  uint8_t scales[8];
};
struct BlockIQ3_XXS {  // signs_scales: eight 32-bit words, four 7-bit sign indices and a 4-bit scale each
  HalfBits d;
  uint8_t qs[64];
  uint8_t signs_scales[32];
};
struct BlockIQ3_S {
  HalfBits d;
  uint8_t qs[64];
  uint8_t qh[8];
  uint8_t signs[32];
  uint8_t scales[4];
};

// Non-linear 4-bit types: a nibble indexes `iq4_values`.
struct BlockIQ4_NL {  // 32 elements, nibbles as in Q4_0
  HalfBits d;
  uint8_t qs[16];
};
struct BlockIQ4_XS {  // 256 elements, 8 six-bit scales less 32
  HalfBits d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};

// Ternary types, 256 elements: d * (q - 1).
struct BlockTQ1_0 {  // five (in qh: four) base-3 digits a byte, as a fixed-point fraction
  uint8_t qs[48];
  uint8_t qh[4];
  HalfBits d;
};
struct BlockTQ2_0 {
  uint8_t qs[64];
  HalfBits d;
};

// Four-bit floats: a nibble indexes `fp4_values` (twice the E2M1 value, so the scales are halved).
struct BlockMXFP4 {  // 32 elements, one E8M0 scale, nibbles as in Q4_0
  uint8_t e;
  uint8_t qs[16];
};
struct BlockNVFP4 {  // 64 elements in four groups of 16, one unsigned E4M3 scale each, nibbles 8 + 8 per
                     // group
  uint8_t d[4];
  uint8_t qs[32];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ1_S) == 50 && sizeof(BlockIQ1_M) == 56 && sizeof(BlockIQ2_XXS) == 66);
static_assert(sizeof(BlockIQ2_XS) == 74 && sizeof(BlockIQ2_S) == 82 && sizeof(BlockIQ3_XXS) == 98);
static_assert(sizeof(BlockIQ3_S) == 110 && sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);
static_assert(sizeof(BlockTQ1_0) == 54 && sizeof(BlockTQ2_0) == 66);
static_assert(sizeof(BlockMXFP4) == 17 && sizeof(BlockNVFP4) == 36);

// What the nibbles of IQ4_NL and IQ4_XS, and those of MXFP4 and NVFP4, stand for.
inline constexpr int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace inhouse::kernels
