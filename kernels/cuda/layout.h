// How weight matrices stand in a GPU's memory: in the order in which the lanes of a warp need them as the
// first operand of a 16x8x16 matrix instruction.
//
// Sixteen rows make a panel; a panel is a sequence of units of 64 K values (zeros fill the last one), then a
// tail. A unit has two cells of 32 K values, a cell two steps of 16. Of a step, lane l = 4 r + q has four
// pairs of codes: 0: (row r, K 2q and 2q + 1), 1: (r + 8, 2q …), 2: (r, 2q + 8 …), 3: (r + 8, 2q + 8 …). The
// 16 pairs of a unit are numbered 8 cell + 4 step + pair; codes of fewer than 8 bits stand in bit planes:
//   4-bit plane, 16 bytes a lane: word w has pairs 4w … 4w + 3, the first code of pair i at bit 4i, its
//   second
//                                 at bit 16 + 4i
//   2-bit plane, 8 bytes a lane:  word w has pairs 8w … 8w + 7 in the same manner, at bits 2i and 16 + 2i
//   1-bit plane, 4 bytes a lane:  at bits i and 16 + i
//   8 bits, 32 bytes a lane:      word w has pairs 2w and 2w + 1, a byte each; words 0 … 3 of all lanes come
//                                 before words 4 … 7
//   binary16, 64 bytes a lane:    word w is pair w, four words of all lanes at a time
// 5 = 4 + 1 and 6 = 4 + 2 and 3 = 2 + 1 bits, low plane first. Behind the codes of a unit stand its scales:
// for each r < 8 those of rows r and r + 8, a scale for each group, then the minimums in the same order. The
// tail of two-level formats has for every 256 K values and each r: d of row r, d of row r + 8, then dmin of
// both; that of binary16 matrices has a float32 scale for each of the 16 rows.
//
// Activations stand in the order of the second operand: of each cell of 32 K values, 16 bytes for each q: K
// 2q, 2q + 1, 2q + 8, 2q + 9, then the same of the second step.
#pragma once

#include "kernels/packed.h"

namespace inhouse::kernels::cuda {

inline constexpr int kUnit = 64;  // K values

// Behind the packed formats, which keep their numbers: matrices of binary16 numbers, alone or as the sum of
// two (float32 in 22 bits). BF16 and float32 rows are scaled by a power of two, so that nothing of them is
// lost.
inline constexpr int kHalf = kFormats;
inline constexpr int kHalfPair = kFormats + 1;
inline constexpr int kCudaFormats = kFormats + 2;

constexpr bool is_half(int format) {
  return format >= kHalf;
}

struct Layout {
  int bits;   // of a code; 16 of binary16 numbers
  int parts;  // matrices that add up: 1 or 2
  int group;  // K values that share a scale
  bool two_level, minimum, nibbles;

  constexpr int groups() const { return kUnit / group; }
  constexpr int code_bytes() const { return bits * 128 * parts; }
  // Of the scales of rows r and r + 8.
  constexpr int scale_bytes() const {
    if (bits == 16) return 0;
    const int one = groups() * 2 * (two_level ? 1 : 2);
    return minimum && !nibbles ? 2 * one : one;
  }
  constexpr int unit_bytes() const { return code_bytes() + 8 * scale_bytes(); }
  // Of d and dmin of rows r and r + 8.
  constexpr int deep_bytes() const { return two_level ? (minimum ? 8 : 4) : 0; }
};

constexpr Layout layout_of(int format) {
  if (is_half(format)) return {16, format == kHalfPair ? 2 : 1, kUnit, false, false, false};
  const PackedFormat f = packed_formats[format];
  return {f.bits, 1, f.group, f.two_level, f.minimum, f.nibbles};
}

constexpr int64_t units_of(int64_t cols) {
  return (cols + kUnit - 1) / kUnit;
}
constexpr int64_t tail_bytes(int format, int64_t cols) {
  return is_half(format) ? 64 : (cols + 255) / 256 * 8 * layout_of(format).deep_bytes();
}
constexpr int64_t cuda_panel_bytes(int format, int64_t cols) {
  return (units_of(cols) * layout_of(format).unit_bytes() + tail_bytes(format, cols) + 15) / 16 * 16;
}

// Where the pair of codes at K value k (of a cell: 0 … 31, even) of a row stands: its lane and its number.
struct PairPlace {
  int lane, pair;
};
constexpr PairPlace pair_place(int row, int k) {
  const int within = k % 16;
  return {row % 8 * 4 + within % 8 / 2, k / 16 * 4 + within / 8 * 2 + row / 8};
}

// Where K value k of a row of activations stands among its cell's 32 numbers.
constexpr int activation_place(int k) {
  const int within = k % 16;
  return within % 8 / 2 * 8 + k / 16 * 4 + within / 8 * 2 + within % 2;
}

// The KV cache of one layer and one KV head, in blocks of 32 tokens: K, then V, in the order of the second
// operand.
//
// K: for each cell of 32 dimensions and each token, its 32 numbers as activation_place orders them. V: for
// each dimension (filled up to a multiple of 32), the numbers of the 32 tokens, ordered so as well. f16:
// binary16 numbers. q8_0: bytes, then the binary16 scales: of K [cell][token], of V [cell][token as ordered].
enum class CudaCache : uint8_t { f16, q8_0, count };

constexpr int64_t cells_of(int64_t dims) {
  return (dims + 31) / 32;
}
constexpr int64_t cache_numbers(CudaCache type, int64_t dims) {
  return cells_of(dims) * 32 * 32 * (type == CudaCache::f16 ? 2 : 1);
}
constexpr int64_t cuda_cache_bytes(CudaCache type, int64_t dims) {
  return cache_numbers(type, dims) + (type == CudaCache::q8_0 ? cells_of(dims) * 64 : 0);
}

// Offset of the number of a dimension of a token, and of its scale.
struct CachePlace {
  int64_t number, scale;
};
constexpr CachePlace k_place(CudaCache type, int64_t dims, int dim, int token) {
  const int64_t number = (dim / 32 * 32 + token) * 32 + activation_place(dim % 32);
  return {type == CudaCache::f16 ? number * 2 : number,
          cache_numbers(type, dims) + (dim / 32 * 32 + token) * 2};
}
constexpr CachePlace v_place(CudaCache type, int64_t dims, int dim, int token) {
  const int place = activation_place(token);
  const int64_t number = int64_t(dim) * 32 + place;
  return {type == CudaCache::f16 ? number * 2 : number,
          cache_numbers(type, dims) + (dim / 32 * 32 + place) * 2};
}

}  // namespace inhouse::kernels::cuda
