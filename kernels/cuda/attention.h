// Causal attention over the paged cache by 16x8x16 matrix instructions: one warp takes up to 16 (query, head)
// pairs that share a KV head.
//
// Keys are cut at fixed positions: a part is 128 tokens, a span 8 parts. A part starts a new online softmax
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018); the parts of a span are added
// in order, then the spans. Where a step has few queries, several warps share their keys part by part or span
// by span and `combine` adds what they found, in the same order: the bits are the same either way.
#pragma once

#include "kernels/cuda/cache.h"

namespace inhouse::kernels::cuda {

template <int DV>
struct AttentionState {
  float maximum[2], sum[2];  // of rows r and r + 8; sum: of this lane's keys until a part is done
  float out[DV / 8][4];
};
constexpr float kNothing = -__builtin_huge_valf();

// States are kept lane by lane: each lane reads what it wrote.
template <int DV>
INHOUSE_DEVICE void save_state(const AttentionState<DV>& s, float* at) {
  at += lane();
  INHOUSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    at[i * kWarp] = s.maximum[i];
    at[(2 + i) * kWarp] = s.sum[i];
  }
  INHOUSE_UNROLL
  for (int n = 0; n < DV / 8; ++n) {
    INHOUSE_UNROLL
    for (int j = 0; j < 4; ++j) at[(4 + n * 4 + j) * kWarp] = s.out[n][j];
  }
}
template <int DV>
INHOUSE_DEVICE void load_state(AttentionState<DV>& s, const float* at) {
  at += lane();
  INHOUSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    s.maximum[i] = at[i * kWarp];
    s.sum[i] = at[(2 + i) * kWarp];
  }
  INHOUSE_UNROLL
  for (int n = 0; n < DV / 8; ++n) {
    INHOUSE_UNROLL
    for (int j = 0; j < 4; ++j) s.out[n][j] = at[(4 + n * 4 + j) * kWarp];
  }
}

template <int DV>
INHOUSE_DEVICE float* state_at(const AttentionArgs& a, int64_t state) {
  return a.states + (state * head_tiles(a.heads, a.kv_heads) + block_y()) * state_floats(DV);
}

INHOUSE_DEVICE float shrink(float from, float to) {
  return from == to ? 1.0f : exponential(from - to);
}

// s = (what stands at `at`) + s, where that is of earlier keys.
template <int DV>
INHOUSE_DEVICE void add_to_earlier(AttentionState<DV>& s, const float* at) {
  at += lane();
  INHOUSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const float earlier = at[i * kWarp], maximum = larger(earlier, s.maximum[i]);
    const float f = shrink(earlier, maximum), g = shrink(s.maximum[i], maximum);
    s.maximum[i] = maximum;
    s.sum[i] = fmaf(s.sum[i], g, at[(2 + i) * kWarp] * f);
    INHOUSE_UNROLL
    for (int n = 0; n < DV / 8; ++n) {
      INHOUSE_UNROLL
      for (int j = 2 * i; j < 2 * i + 2; ++j)
        s.out[n][j] = fmaf(s.out[n][j], g, at[(4 + n * 4 + j) * kWarp] * f);
    }
  }
}

// Which heads and rows a warp has.
struct AttentionRows {
  AttentionTile tile;
  int kv_head, head, heads;  // head: the first one
  int pairs;
  INHOUSE_DEVICE_MEMBER int query(int pair) const { return pair / heads; }
  INHOUSE_DEVICE_MEMBER int64_t index(const AttentionArgs& a, int pair) const {
    return int64_t(tile.row + pair / heads) * a.heads + head + pair % heads;
  }
};
INHOUSE_DEVICE AttentionRows attention_rows(const AttentionArgs& a, const AttentionItem& item) {
  const int group = a.heads / a.kv_heads, chunks = (group + kPairs - 1) / kPairs;
  AttentionRows rows;
  rows.tile = a.tiles[item.tile];
  rows.kv_head = block_y() / chunks;
  const int first = block_y() % chunks * kPairs;
  rows.head = rows.kv_head * group + first;
  rows.heads = group - first < kPairs ? group - first : kPairs;
  rows.pairs = rows.tile.queries * rows.heads;
  return rows;
}

template <int DV>
INHOUSE_DEVICE void finish_attention(const AttentionArgs& a, const AttentionRows& rows,
                                     const AttentionState<DV>& s) {
  const int r = lane() / 4, q = lane() % 4;
  INHOUSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int pair = r + 8 * i;
    if (pair >= rows.pairs) continue;
    float* out = a.out + rows.index(a, pair) * a.head_dim_v;
    INHOUSE_UNROLL
    for (int n = 0; n < DV / 8; ++n) {
      INHOUSE_UNROLL
      for (int j = 0; j < 2; ++j) {
        const int dim = n * 8 + 2 * q + j;
        if (dim < a.head_dim_v) out[dim] = s.out[n][2 * i + j] / s.sum[i];
      }
    }
  }
}

// Adds piece `index` (a part, or a span where per_span is 1) of pieces first … last to what was found so far.
// `span` and `all` are room for a state each. In the end s is the sum.
template <int DV>
INHOUSE_DEVICE void fold(AttentionState<DV>& s, int index, int first, int last, int per_span, float* span,
                         float* all) {
  if (index > first && index % per_span != 0) add_to_earlier(s, span);
  if (index < last && (index + 1) % per_span != 0) {
    save_state(s, span);
    return;
  }
  if (index / per_span > first / per_span) add_to_earlier(s, all);
  if (index < last) save_state(s, all);
}

// The keys of one part.
template <CudaCache K_TYPE, CudaCache V_TYPE, int DV>
INHOUSE_DEVICE void attend_part(const AttentionArgs& a, const AttentionRows& rows, int part,
                                const Words4* q_shared, const float (&q_scale)[2], AttentionState<DV>& s) {
  const int r = lane() / 4, q = lane() % 4;
  const int last = rows.tile.position + rows.tile.queries - 1;
  const int64_t k_cells = cells_of(a.head_dim_k);
  INHOUSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    s.maximum[i] = kNothing;
    s.sum[i] = 0;
  }
  INHOUSE_UNROLL
  for (int n = 0; n < DV / 8; ++n) {
    INHOUSE_UNROLL
    for (int j = 0; j < 4; ++j) s.out[n][j] = 0;
  }
  for (int first = part * kPartTokens; first < (part + 1) * kPartTokens; first += 32) {
    if (first > last) break;
    if (a.window > 0 && first + 31 <= rows.tile.position - a.window) continue;
    const uint8_t* k =
        a.cache + rows.kv_head * a.head_stride + a.tables[rows.tile.table + first / 32] * a.block_stride;
    const uint8_t* v = k + a.v_offset;
    float scores[4][4] = {};
    for (int cell = 0; cell < k_cells; ++cell) {
      uint32_t query[2][4];
      INHOUSE_UNROLL
      for (int step = 0; step < 2; ++step) {
        const Words4 w = q_shared[(cell * 2 + step) * kWarp + lane()];
        INHOUSE_UNROLL
        for (int i = 0; i < 4; ++i) query[step][i] = w.x[i];
      }
      INHOUSE_UNROLL
      for (int t = 0; t < 4; ++t) {
        const int token = t * 8 + r;
        Words4 key = load_pairs<K_TYPE>(k + k_place(K_TYPE, a.head_dim_k, cell * 32, token).number, q);
        if constexpr (K_TYPE == CudaCache::q8_0) {
          const uint32_t scale =
              *reinterpret_cast<const uint16_t*>(k + k_place(K_TYPE, a.head_dim_k, cell * 32, token).scale);
          INHOUSE_UNROLL
          for (int i = 0; i < 4; ++i) key.x[i] = half2_multiply(key.x[i], scale | scale << 16);
        }
        INHOUSE_UNROLL
        for (int step = 0; step < 2; ++step) {
          const uint32_t second[2] = {key.x[2 * step], key.x[2 * step + 1]};
          multiply_add_16x8x16(scores[t], query[step], second);
        }
      }
    }
    float factor[2];
    INHOUSE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int pair = r + 8 * i, position = rows.tile.position + rows.query(pair);
      float maximum = s.maximum[i];
      INHOUSE_UNROLL
      for (int t = 0; t < 4; ++t) {
        INHOUSE_UNROLL
        for (int j = 2 * i; j < 2 * i + 2; ++j) {
          const int key = first + t * 8 + 2 * q + j % 2;
          float score = scores[t][j] * q_scale[i];
          if (a.softcap > 0) score = a.softcap * tanhf(score / a.softcap);
          const bool seen =
              pair < rows.pairs && key <= position && (a.window == 0 || key > position - a.window);
          scores[t][j] = seen ? score : kNothing;
          maximum = larger(maximum, scores[t][j]);
        }
      }
      maximum = larger(maximum, shuffle_xor(maximum, 1));
      maximum = larger(maximum, shuffle_xor(maximum, 2));
      factor[i] = shrink(s.maximum[i], maximum);
      s.maximum[i] = maximum;
      float sum = 0;
      INHOUSE_UNROLL
      for (int t = 0; t < 4; ++t) {
        INHOUSE_UNROLL
        for (int j = 2 * i; j < 2 * i + 2; ++j) {
          scores[t][j] = scores[t][j] == kNothing ? 0.0f : exponential(scores[t][j] - maximum);
          sum += scores[t][j];
        }
      }
      s.sum[i] = fmaf(s.sum[i], factor[i], sum);
    }
    uint32_t weights[2][4];
    INHOUSE_UNROLL
    for (int step = 0; step < 2; ++step) {
      INHOUSE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int t = 2 * step + i / 2, j = i % 2 * 2;
        weights[step][i] = pack_halves(scores[t][j], scores[t][j + 1]);
      }
    }
    INHOUSE_UNROLL
    for (int n = 0; n < DV / 8; ++n) {
      INHOUSE_UNROLL
      for (int j = 0; j < 4; ++j) s.out[n][j] *= factor[j / 2];
      if (n * 8 >= cells_of(a.head_dim_v) * 32) continue;
      Words4 values = load_pairs<V_TYPE>(v + v_place(V_TYPE, a.head_dim_v, n * 8 + r, 0).number, q);
      if constexpr (V_TYPE == CudaCache::q8_0) {
        const Words4 scales = load_words4(v + v_place(V_TYPE, a.head_dim_v, n * 8, 0).scale + q * 16);
        INHOUSE_UNROLL
        for (int i = 0; i < 4; ++i) values.x[i] = half2_multiply(values.x[i], scales.x[i]);
      }
      // Behind the last key stands what others left there, and nothing times NaN would be NaN.
      if (first + 31 > last) {
        INHOUSE_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int key = first + i / 2 * 16 + i % 2 * 8 + 2 * q;
          values.x[i] &= key > last ? 0u : key == last ? 0xffffu : 0xffffffffu;
        }
      }
      INHOUSE_UNROLL
      for (int step = 0; step < 2; ++step) {
        const uint32_t second[2] = {values.x[2 * step], values.x[2 * step + 1]};
        multiply_add_16x8x16(s.out[n], weights[step], second);
      }
    }
  }
  INHOUSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    s.sum[i] += shuffle_xor(s.sum[i], 1);
    s.sum[i] += shuffle_xor(s.sum[i], 2);
  }
}

template <CudaCache K_TYPE, CudaCache V_TYPE, int DV>
INHOUSE_DEVICE void attention(const AttentionArgs& a) {
  const AttentionItem item = a.items[block_x()];
  const AttentionRows rows = attention_rows(a, item);
  const int r = lane() / 4, q = lane() % 4;
  Words4* q_shared = reinterpret_cast<Words4*>(shared_memory());
  float* span = reinterpret_cast<float*>(q_shared + cells_of(a.head_dim_k) * 2 * kWarp);
  float* all = span + state_floats(DV);

  // The rows of Q as the first operand, each times a power of two that brings its largest number to 11 bits.
  const auto number = [&](int pair, int dim) {
    return pair < rows.pairs && dim < a.head_dim_k ? a.q[rows.index(a, pair) * a.head_dim_k + dim] : 0.0f;
  };
  float q_scale[2], inverse[2];
  INHOUSE_UNROLL
  for (int i = 0; i < 2; ++i) {
    float largest = 0;
    for (int dim = 2 * q; dim < a.head_dim_k; dim += 8)
      largest = larger(largest, larger(fabsf(number(r + 8 * i, dim)), fabsf(number(r + 8 * i, dim + 1))));
    largest = larger(largest, shuffle_xor(largest, 1));
    largest = larger(largest, shuffle_xor(largest, 2));
    int exponent = 0;
    if (largest > 0 && largest <= 3.4e38f) frexpf(largest, &exponent);
    exponent = exponent < -100 ? -100 : exponent;
    inverse[i] = ldexpf(1.0f, 11 - exponent);
    q_scale[i] = ldexpf(a.scale, exponent - 11);
  }
  for (int step = 0; step < cells_of(a.head_dim_k) * 2; ++step) {
    Words4 w;
    INHOUSE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int pair = r + i % 2 * 8, dim = step * 16 + i / 2 * 8 + 2 * q;
      w.x[i] = pack_halves(number(pair, dim) * inverse[i % 2], number(pair, dim + 1) * inverse[i % 2]);
    }
    q_shared[step * kWarp + lane()] = w;
  }

  AttentionState<DV> s;
  for (int part = item.begin; part < item.end; ++part) {
    attend_part<K_TYPE, V_TYPE, DV>(a, rows, part, q_shared, q_scale, s);
    fold(s, part, item.begin, item.end - 1, kSpanParts, span, all);
  }
  if (item.state < 0) {
    finish_attention(a, rows, s);
  } else {
    save_state(s, state_at<DV>(a, item.state));
  }
}

// Adds the states of tiles.
template <int DV>
INHOUSE_DEVICE void combine_attention(const AttentionArgs& a) {
  const AttentionItem item = a.items[block_x()];
  const AttentionRows rows = attention_rows(a, item);
  float* span = reinterpret_cast<float*>(shared_memory());
  float* all = span + state_floats(DV);
  AttentionState<DV> s;
  for (int piece = item.begin; piece < item.end; ++piece) {
    load_state(s, state_at<DV>(a, item.state + piece - item.begin));
    fold(s, piece, item.begin, item.end - 1, a.spans ? 1 : kSpanParts, span, all);
  }
  finish_attention(a, rows, s);
}

}  // namespace inhouse::kernels::cuda
