// The table of CPU kernels: one instance per instruction set, chosen once at start (see
// kernels/cpu/dispatch.cpp).
//
// Raw pointers, sizes and strides; float32 activations, row-major. Kernels allocate nothing, never fail, and
// run on the calling thread: whoever calls cuts the work into ranges. A result depends only on its own
// inputs, never on the range it was computed in, and has the same bits on every instruction set with fused
// multiply-adds; but products of BF16 matrices have bits of their own where the processor multiplies BF16
// pairs (avx512bf16).
#pragma once

#include <cstdint>

#include "kernels/packed.h"

namespace inhouse::kernels {

// A quantized matrix in its packed layout.
struct PackedMatrix {
  const uint8_t* panels;
  int64_t panel_bytes;
  int64_t blocks;  // per panel
  float multiplier;
  alignas(16) uint8_t lookup[16];  // code to byte; the byte stands for byte - zero_point
};

// Activations as 8-bit integers: x = scale * code, one scale per 32 values.
struct QuantizedRows {
  const int8_t* codes;  // [rows, stride], zero from the end of the row on
  const float* scales;  // [rows, stride / 32]
  // Per group of the weights' format: [rows, stride / group]. Formats with a zero point: -zero_point * sum of
  // the codes, as int32; formats with a minimum: the sum of the codes, as float.
  const void* extras;
  int64_t stride;  // a multiple of 256
};

// Where a product goes: out[row, column] = sum (+ bias[column]). With two planes, rows 2 r and 2 r + 1 of the
// activations add up to row r of the output.
struct ProductOut {
  float* out;
  int64_t stride;
  const float* bias;  // [columns] or null
  int64_t columns;
  int planes;  // 1 or 2
};

enum class DenseType : uint8_t { f32, f16, bf16, count };

// A matrix of floats, 16 rows interleaved: panel p holds, for each k, the 16 numbers of rows 16 p … 16 p
// + 15, and zeros up to a multiple of 64 bytes.
struct DenseMatrix {
  const uint8_t* panels;
  int64_t panel_bytes;
  int64_t cols;
};

int64_t dense_panel_bytes(DenseType type, int64_t cols);
// rows: 16 rows as they stand in the file; null ones (padding) become zeros.
void pack_dense_panel(DenseType type, const uint8_t* const* rows, int64_t cols, uint8_t* panel);
// dst [cols]
void decode_dense_row(DenseType type, const uint8_t* panel, int lane, int64_t cols, float* dst);

inline constexpr int kStripPanels = 2;  // panels that `many` unpacks at once
inline constexpr int kDensePanels = 4;  // panels that `dense` works on together
// Bytes of scratch that `many` needs.
constexpr int64_t many_scratch_bytes(int64_t rows, int64_t panels) {
  const int64_t strips = (panels + kStripPanels - 1) / kStripPanels;
  return int64_t(kStripPanels) * kPanelRows * (256 + 16 * 2 * 4 + strips * rows * 4) + 64;
}

// The cache of one layer and one KV head, in blocks of 32 tokens. A block of K is [head_dim, 32 tokens], so
// that lanes are tokens; a block of V is [32 tokens, head_dim], rows padded to 16 numbers. q8_0 adds binary16
// scales per 32 dimensions after the numbers: [ceil(head_dim / 32), 32 tokens]. q4_0 has the same scales; 32
// of its codes share 16 bytes, code i in the low half of byte i and code i + 16 in the high half: of K
// [head_dim][16], a dimension's 32 tokens; of V [ceil(head_dim / 32), 32 tokens][16], a token's 32
// dimensions.
enum class CacheType : uint8_t { f32, f16, q8_0, q4_0, count };
constexpr int64_t cache_padded(int64_t dims) {
  return (dims + 15) / 16 * 16;
}
// Of a block's numbers, before its scales.
constexpr int64_t cache_numbers_bytes(CacheType type, int64_t head_dim) {
  const int64_t numbers = cache_padded(head_dim) * 32;
  return type == CacheType::f32    ? numbers * 4
         : type == CacheType::f16  ? numbers * 2
         : type == CacheType::q8_0 ? numbers
                                   : (head_dim + 31) / 32 * 32 * 16;
}
constexpr bool cache_scaled(CacheType type) {
  return type == CacheType::q8_0 || type == CacheType::q4_0;
}
constexpr int64_t cache_block_bytes(CacheType type, int64_t head_dim) {
  const int64_t scales = cache_scaled(type) ? (head_dim + 31) / 32 * 32 * 2 : 0;
  return (cache_numbers_bytes(type, head_dim) + scales + 63) / 64 * 64;
}

// Queries of one sequence against a span of its cache, for one KV head: the online softmax over the keys of
// blocks [block_begin, block_end) that each query may see.
struct AttentionArgs {
  const float* q;  // query i, head h at q + i * q_stride + h * head_dim_k
  int64_t q_stride;
  int32_t queries;   // rows
  int32_t heads;     // query heads that share this KV head
  int32_t position;  // of the first query; query i sees positions (p + i - window, p + i]
  int32_t window;    // 0: all
  int32_t head_dim_k, head_dim_v;
  float scale, softcap;
  const uint8_t* const* k_blocks;  // [block_end - block_begin]; never read where no query sees the block
  const uint8_t* const* v_blocks;
  int32_t block_begin, block_end;
  // State per query and head, in order of (query, head): maximum, sum, and the weighted sum of V.
  float* maximum;  // [queries * heads]
  float* sum;      // [queries * heads]
  float* out;      // [queries * heads, cache_padded(head_dim_v)]
  float* scratch;  // [attention_scratch_floats]
};
inline constexpr int kAttentionQueries = 12;  // (query, head) pairs that a call takes at most
inline constexpr int64_t kAttentionScratchFloats = kAttentionQueries * 32;

inline constexpr int kReadProbes = 4;
inline constexpr int kMultiplyProbes = 5;

struct Kernels {
  const char* name;     // "avx512vnni", as CpuOptions names it
  const char* title;    // for people
  int full_zero_point;  // what the kernels take off full-range bytes themselves: 0 or 128

  // x [rows, cols] to planes * rows rows of codes [stride], scales [stride / 32] and sums of codes per 16
  // [stride / 16]. A row with a number that is not finite gets scale NaN there.
  void (*quantize)(const float* x, int64_t rows, int64_t cols, int64_t stride, int planes, int8_t* codes,
                   float* scales, int16_t* sums);
  // Up to few_rows activation rows (an even number) times panels [begin, end), straight from the packed form.
  int few_rows;
  void (*few[kFormats])(const PackedMatrix& w, const QuantizedRows& x, int rows, int64_t begin, int64_t end,
                        const ProductOut& out);
  // Any number of rows times panels [begin, end), which are unpacked once per 256 K values. Activations stay
  // in the second-level cache where 2,048 K values of all rows do.
  void (*many[kFormats])(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t begin,
                         int64_t end, const ProductOut& out, void* scratch);
  // x [rows, x_stride] times panels [begin, end) in float32; BF16 matrices on avx512bf16 with x rounded to
  // BF16.
  void (*dense[int(DenseType::count)])(const DenseMatrix& w, const float* x, int64_t x_stride, int64_t rows,
                                       int64_t begin, int64_t end, const ProductOut& out);

  void (*rms_norm)(const float* x, const float* gain, float eps, int64_t rows, int64_t cols, float* out);
  void (*rope)(float* x, const float* table, int64_t rows, int32_t heads, int32_t head_dim, int32_t dims,
               bool split);
  void (*silu)(const float* gate, const float* up, int64_t count, float* out);
  void (*gelu_tanh)(const float* gate, const float* up, int64_t count, float* out);
  void (*add)(float* x, const float* y, int64_t count);
  void (*add_scaled)(float* x, const float* y, float scale, int64_t count);  // x += scale * y
  void (*softcap)(float* x, int64_t count, float cap);

  // Stores one token's K (or V) of one KV head at place `token` of a block.
  void (*store_k[int(CacheType::count)])(const float* k, int32_t head_dim, int32_t token, uint8_t* block);
  void (*store_v[int(CacheType::count)])(const float* v, int32_t head_dim, int32_t token, uint8_t* block);
  // [type of K][type of V]. Starts a new state and runs it over the blocks given.
  void (*attention[int(CacheType::count)][int(CacheType::count)])(const AttentionArgs& args);
  // Adds the state of later keys (part) to that of earlier ones; a context's parts are merged in order.
  void (*attention_merge)(int pairs, int32_t head_dim_v, float* maximum, float* sum, float* out,
                          const float* part_maximum, const float* part_sum, const float* part_out);
  // out: query i, head h at out + i * out_stride + h * head_dim_v.
  void (*attention_finish)(int queries, int heads, int32_t head_dim_v, const float* sum, const float* state,
                           float* out, int64_t out_stride);

  // The machine's limits, for benchmarks, each in several forms of which the best counts: reads in 1 to 8
  // streams, fetched `ahead` bytes early; multiply-adds of 8-bit integers, of float32, and as products of
  // BF16 matrices do them, into 4 to 16 sums, which return how many were done.
  uint64_t (*probe_read[kReadProbes])(const uint8_t* data, int64_t bytes, int64_t ahead);
  int64_t (*probe_dot[kMultiplyProbes])(int64_t rounds);
  int64_t (*probe_fma[kMultiplyProbes])(int64_t rounds);
  int64_t (*probe_bf16[kMultiplyProbes])(int64_t rounds);  // probe_fma's where those are done in float32
};

// Implementations this build has, best first, with whether this machine can run each. [count]
struct Implementation {
  const Kernels* kernels;
  bool supported;
};
const Implementation* implementations(int* count);

// The named implementation, or with an empty name the best one here; null where unknown or missing.
const Kernels* find_kernels(const char* name);

}  // namespace inhouse::kernels
