// The packed layouts: how quantized weight matrices stand in memory for the CPU kernels.
//
// Sixteen rows make a panel. A panel is a sequence of blocks along K; a block holds 256 K values (types with
// two-level scales) or 64 (flat scales; the last one may be half padding with scale 0). A block holds its
// codes in steps of 32 K values, then its scales.
//
// A step has eight quads. Quad j is a vector of 64 bytes: byte 4 r + b is the code of row r at K = 4 j + b,
// so that each 32-bit lane of a dot-product instruction serves one row. Codes of fewer than 8 bits stand in
// bit planes:
//   4-bit plane, 4 vectors: vector i has quad i in the low and quad i + 4 in the high nibbles
//   2-bit plane, 2 vectors: vector i has quads i, i + 2, i + 4, i + 6 in bits 0-1, 2-3, 4-5, 6-7
//   1-bit plane, 1 vector:  bit j is quad j
// 5 = 4 + 1 and 6 = 4 + 2 and 3 = 2 + 1 bits, low plane first.
//
// A weight is scale * (code - zero_point) + minimum, with code passed through the lookup first where there is
// one.
#pragma once

#include <cstdint>

#include "kernels/quant/types.h"

namespace inhouse::kernels {

inline constexpr int kPanelRows = 16;
inline constexpr int kStep = 32;  // K values of a step
inline constexpr int kMaxBlockSteps = 8;

// What a kernel is compiled for.
struct PackedFormat {
  uint8_t bits;    // of a stored code: 2, 3, 4, 5, 6 or 8
  uint8_t group;   // K values that share a scale: 16 or 32
  bool two_level;  // scale = d (binary16, per 256) * multiplier * signed byte (per group); else binary16 per
                   // group
  bool minimum;    // a minimum per group, coded like the scale (two-level: minus dmin * byte)
  bool lookup;     // codes index 16 bytes
  bool full;       // bytes may exceed 127; the zero point is then 128
  bool bf16;       // flat scales are bfloat16
  bool nibbles;    // scale (low) and minimum (high) of a group share a byte

  constexpr int steps() const { return two_level ? 8 : 2; }
  constexpr int block_k() const { return steps() * kStep; }
  constexpr int groups() const { return block_k() / group; }
  constexpr int step_groups() const { return kStep / group; }
  constexpr int step_bytes() const { return bits * 64; }
  constexpr int code_bytes() const { return steps() * step_bytes(); }
  // Offsets from the start of a block. Two-level: d, dmin, scales, minimums; flat: scales, minimums.
  constexpr int d_offset() const { return code_bytes(); }
  constexpr int dmin_offset() const { return d_offset() + 32; }
  constexpr int scale_offset() const { return code_bytes() + (two_level ? (minimum ? 64 : 32) : 0); }
  constexpr int scale_bytes() const { return groups() * kPanelRows * (two_level ? 1 : 2); }
  constexpr int minimum_offset() const { return scale_offset() + (nibbles ? 0 : scale_bytes()); }
  constexpr int block_bytes() const {
    const int end = scale_offset() + scale_bytes() * (minimum && !nibbles ? 2 : 1);
    return (end + 63) / 64 * 64;  // vectors of codes never straddle cache lines
  }
};

// The formats kernels are compiled for; every integer GGUF type uses one.
enum class FormatId : uint8_t {
  flat8,
  flat4,
  flat4_min,
  flat5,
  flat5_min,
  deep4_min,
  deep5_min,
  deep6_16,
  deep3_16,
  deep2_min_16,
  deep2,
  flat4_lookup,
  flat4_lookup_bf16,
  flat4_lookup_16,
  deep4_lookup,
  deep4_lookup_16,
  count
};
inline constexpr int kFormats = int(FormatId::count);
inline constexpr PackedFormat packed_formats[kFormats] = {
    // bits group two_level minimum lookup full bf16 nibbles
    {8, 32, false, false, false, true, false, false},   // Q8_0
    {4, 32, false, false, false, false, false, false},  // Q4_0
    {4, 32, false, true, false, false, false, false},   // Q4_1
    {5, 32, false, false, false, false, false, false},  // Q5_0
    {5, 32, false, true, false, false, false, false},   // Q5_1
    {4, 32, true, true, false, false, false, false},    // Q4_K
    {5, 32, true, true, false, false, false, false},    // Q5_K
    {6, 16, true, false, false, false, false, false},   // Q6_K
    {3, 16, true, false, false, false, false, false},   // Q3_K
    {2, 16, true, true, false, false, false, true},     // Q2_K
    {2, 32, true, false, false, false, false, false},   // TQ1_0, TQ2_0
    {4, 32, false, false, true, true, false, false},    // IQ4_NL
    {4, 32, false, false, true, false, true, false},    // MXFP4
    {4, 16, false, false, true, false, false, false},   // NVFP4
    {4, 32, true, false, true, true, false, false},     // IQ4_XS, IQ1_S, IQ2_XXS, IQ3_XXS, IQ3_S
    {4, 16, true, false, true, true, false, false},     // IQ1_M, IQ2_XS, IQ2_S
};

// Up to 256 K values of one row, taken apart: what an extractor fills in.
struct RowBlock {
  uint8_t codes[256];
  uint16_t d[4];        // two-level: [0]; flat: one per group
  uint16_t minimum[4];  // two-level: [0] is dmin
  int8_t scales[16];    // two-level, per group
  uint8_t minimums[16];
};

// How a GGUF type maps onto a format.
struct PackedType {
  TypeId type;
  FormatId format;
  int16_t zero_point;
  float multiplier;      // two-level: a power of two
  const int8_t* values;  // lookup: the 16 numbers codes stand for; else null
  // Takes one file block apart.
  void (*extract)(const void* block, RowBlock* out);
  const PackedFormat& layout() const { return packed_formats[int(format)]; }
};

// Null for F32, F16 and BF16, which are no integer types.
const PackedType* packed_type(TypeId type);

// Bytes of a panel of `cols` K values.
int64_t packed_panel_bytes(const PackedFormat& format, int64_t cols);

// Block `index` of a row of `cols` K values, taken apart; what lies behind its end is zeros.
void read_row_block(const PackedType& type, const QuantType& file, const uint8_t* row, int64_t index,
                    int64_t cols, RowBlock* out);

// Packs one panel. rows: pointers to 16 rows of file blocks; null rows (padding) become zeros.
void pack_panel(const PackedType& type, const QuantType& file, const uint8_t* const* rows, int64_t cols,
                uint8_t* panel);

// The numbers row `lane` of a panel stands for, exactly as the type's own decoder gives them. dst [cols]
void decode_packed_row(const PackedType& type, const uint8_t* panel, int lane, int64_t cols, float* dst);

}  // namespace inhouse::kernels
