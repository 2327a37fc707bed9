// What the CUDA kernels are called with: plain structures that the host fills in, and the sizes of launches.
// Pointers are to the device's memory. Each structure says what block_x and block_y of the grid are.
#pragma once

#include "kernels/cuda/layout.h"

namespace inhouse::kernels::cuda {

inline constexpr int kWarp = 32;

// What a matrix's numbers are made from besides its panels.
struct Codebook {
  float multiplier;  // of two-level scales
  int32_t zero_point;
  uint32_t lookup[4];  // 16 bytes: a code's number + 128
};

// ---- products (product.h)

inline constexpr int kProductWarps = 8;
inline constexpr int kProductThreads = kProductWarps * kWarp;
inline constexpr int kMostProducts = 3;

// Activations in the order of layout.h.
struct ActivationRows {
  const uint32_t* halves;  // [rows, units_of(cols) * 32]
  const float* scales;     // [rows]: what halves are to be multiplied with
  const float* sums;       // [rows, units_of(cols) * 4] of 16 halves each
};

// One weight and where its product goes.
struct Product {
  const uint8_t* panels;
  const float* bias;  // [rows] or null
  float* out;         // [x rows, rows]
  Codebook book;
  int32_t rows;
  int32_t panel_count;  // of one matrix
};

// Rows of activations [begin, end) that meet one matrix of the weights' stacks.
struct RowTile {
  int32_t matrix, begin, end;
};

// Kernels take NT times 8 rows at a time. block_x: panels of all products, product_panels(NT) at a time;
// block_y: tiles of rows.
struct ProductArgs {
  ActivationRows x;
  Product products[kMostProducts];  // of one format and one number of columns
  int32_t count;
  int32_t x_rows;
  int64_t cols;
  int64_t panel_bytes;
  // Of experts; null: all rows meet the first matrix. Those behind the last one are empty.
  const RowTile* tiles;
  // With tiles: the row of x of each row of the output; null: the same one.
  const int32_t* sources;
};
constexpr int product_panels(int nt) {
  return nt > 4 ? 2 : 1;
}
constexpr uint32_t product_shared_bytes(int nt) {
  return uint32_t(kProductWarps * kPanelRows * nt * 8 * 4);
}

// ---- rows (rows.h)

inline constexpr int kRowThreads = 256;
inline constexpr int kRopeTableThreads = 64;
inline constexpr uint32_t kRowSharedBytes = 32 * 4;

struct EmbedArgs {  // block_x: rows
  const uint8_t* panels;
  Codebook book;
  int64_t panel_bytes;
  int64_t cols;
  const int32_t* tokens;  // [rows]
  float scale;
  float* out;  // [rows, cols]
};
struct NormArgs {  // block_x: rows
  const float* x;  // [rows, cols]
  const float* gain;
  float epsilon;
  int64_t cols;
  float* out;
};
struct ConvertArgs {  // block_x: rows
  const float* x;     // [rows, cols]
  int64_t cols;
  uint32_t* halves;  // as ActivationRows has them
  float* scales;
  float* sums;
};
struct RopeTableArgs {       // block_x: rows
  const int32_t* positions;  // [rows]
  const float* frequencies;  // [half]
  int32_t half;
  float* table;  // [rows, 2 half]: cosines, then sines
};
struct RopeArgs {  // block_x: rows
  float* x;        // [rows, heads, head_dim]
  const float* table;
  int32_t heads, head_dim, half;
  bool split;  // rotates pairs (i, i + half), else (2i, 2i + 1)
};
struct ElementArgs {  // block_x: kRowThreads of `count` numbers
  float* out;
  const float* x;
  const float* y;
  int64_t count;
  float factor;
};
struct GatherArgs {  // block_x: rows of out
  const float* x;
  const int32_t* rows;
  int64_t width;
  float* out;
};

// ---- what the device can do at most (probe.h)

inline constexpr int kProbeThreads = 256;

struct ProbeArgs {
  const uint8_t* data;
  int64_t bytes;   // a multiple of 16
  int32_t rounds;  // of kProbeSums matrix instructions in each warp
  uint32_t* out;   // never written, so that the compiler does not know what is not needed
};
inline constexpr int kProbeSums = 8;

// ---- mixtures of experts (routing.h)

inline constexpr int kRoutingThreads = 256;

struct ChooseArgs {     // block_x: kRoutingThreads rows
  const float* logits;  // [rows, count]
  int32_t rows, count, used;
  bool normalize;
  float scale;
  int32_t* experts;  // [rows, used]: the highest logits first, of equal ones the lower index
  float* weights;    // [rows, used]
};
struct SortArgs {          // one block
  const int32_t* experts;  // [choices]
  int32_t choices, count, used;
  int32_t* places;   // [choices]: where each stands among all experts' rows
  int32_t* sources;  // [choices]: the row at each place
  RowTile* tiles;    // [most_tiles]: of each expert's rows, tile_rows at a time
  int32_t tile_rows, most_tiles;
};
constexpr uint32_t sort_shared_bytes(int32_t count) {
  return uint32_t(count) * 8;
}
// Each expert may end in a tile that is not full.
constexpr int32_t most_tiles(int32_t choices, int32_t count, int32_t tile_rows) {
  return choices / tile_rows + (choices < count ? choices : count);
}
struct CombineArgs {   // block_x: rows
  const float* parts;  // [choices, width], by place
  const int32_t* places;
  const float* weights;  // [rows, used]
  int32_t used;
  int64_t width;
  float* out;  // [rows, width]
};

// ---- the cache and attention (cache.h, attention.h)

inline constexpr int kStoreThreads = 128;

struct StoreArgs {  // block_x: rows; block_y: heads
  const float* x;   // [rows, kv_heads, dims]: K, or V
  int32_t dims, kv_heads;
  uint8_t* cache;         // of the layer, from K (or V) of block 0 on
  int64_t block_stride;   // bytes
  int64_t head_stride;    // bytes
  const int32_t* blocks;  // [rows]: of the pool
  const int32_t* positions;
};

// Keys are cut at fixed positions: a part is 128 tokens, a span 8 parts.
inline constexpr int kPartTokens = 128;
inline constexpr int kSpanParts = 8;
// (query, head) pairs of a warp at most; they share a KV head.
inline constexpr int kPairs = 16;

// Queries of one sequence.
struct AttentionTile {
  int32_t row, queries;  // of q
  int32_t position;      // of the first query
  int32_t table;         // where its block table begins
};

// What one warp does. attention: parts [begin, end) of a tile's keys; what it finds goes to a state, or where
// that is -1 to the output. combine: adds the states, from `state` on, of pieces [begin, end).
struct AttentionItem {
  int32_t tile, begin, end, state;
};

struct AttentionArgs {                          // block_x: items; block_y: head_tiles
  const uint8_t* cache;                         // of the layer
  int64_t block_stride, head_stride, v_offset;  // bytes
  const float* q;                               // [rows, heads, head_dim_k]
  int32_t heads, kv_heads, head_dim_k, head_dim_v, window;
  float scale, softcap;
  const AttentionTile* tiles;
  const AttentionItem* items;
  const int32_t* tables;
  bool spans;     // a piece is a span, not a part
  float* states;  // [state, head_tiles, state_floats]
  float* out;     // [rows, heads, head_dim_v]
};

// Heads that share a KV head are taken kPairs at a time.
constexpr int head_tiles(int heads, int kv_heads) {
  return kv_heads * ((heads / kv_heads + kPairs - 1) / kPairs);
}
// Queries of a tile at most.
constexpr int tile_queries(int heads, int kv_heads) {
  return heads / kv_heads < kPairs ? kPairs / (heads / kv_heads) : 1;
}
// Kernels are made for V of so many dimensions at most.
inline constexpr int kHeadDims[] = {32, 64, 96, 128, 192, 256};
constexpr int state_floats(int dv) {
  return (dv / 2 + 4) * kWarp;
}
// Of two states, and with attention those of Q.
constexpr uint32_t combine_shared_bytes(int dv) {
  return uint32_t(2 * state_floats(dv) * 4);
}
constexpr uint32_t attention_shared_bytes(int head_dim_k, int dv) {
  return uint32_t(cells_of(head_dim_k) * 1024) + combine_shared_bytes(dv);
}

}  // namespace inhouse::kernels::cuda
