// Attention over the paged cache: the online softmax in blocks of 32 keys, for up to kAttentionQueries pairs
// of (query, head) that share a KV head. A pair's result does not depend on the other pairs of the call.

namespace inhouse::kernels {
namespace {

constexpr int kKeyVectors = 32 / kLanes;  // of a block's 32 keys, or of 32 dimensions
// Pairs that keep their sums in registers together.
constexpr int kPairTile = kLanes == 16 ? 6 : 2;

// Of 32 numbers side by side.
constexpr int cache_row_bytes(CacheType type) {
  return type == CacheType::f32 ? 128 : type == CacheType::f16 ? 64 : type == CacheType::q8_0 ? 32 : 16;
}
// Numbers v * kLanes and on of a row of 32.
template <CacheType type>
inline F load_cache(const uint8_t* row, int v) {
  if constexpr (type == CacheType::f32) return load(reinterpret_cast<const float*>(row) + v * kLanes);
  if constexpr (type == CacheType::f16) return load_f16(reinterpret_cast<const uint16_t*>(row) + v * kLanes);
  if constexpr (type == CacheType::q8_0) return to_float(bytes_i8(row + v * kLanes));
  if constexpr (type == CacheType::q4_0) {
    const I bytes = bytes_u8(row + v * kLanes % 16);
    const I codes = v * kLanes < 16 ? bit_and(bytes, set1_i(15)) : shift_right_i32(bytes, 4);
    return to_float(add_i(codes, set1_i(-8)));
  }
}

// Scores of `pairs` pairs against a block's 32 keys: scale * q·k, soft-capped. scores [pairs][32]
// Fetches the block `next` meanwhile, line by line; so do `value_tile` and `values`.
template <CacheType type, int pairs>
inline void score_tile(const float* const* q, const uint8_t* block, const uint8_t* next, int head_dim,
                       float scale, float cap, float* scores) {
  constexpr int row_bytes = cache_row_bytes(type);
  const auto* cache_scales = reinterpret_cast<const uint16_t*>(block + cache_numbers_bytes(type, head_dim));
  F total[pairs][kKeyVectors];
  INHOUSE_UNROLL
  for (int p = 0; p < pairs; ++p) {
    INHOUSE_UNROLL
    for (int v = 0; v < kKeyVectors; ++v) total[p][v] = set1(0.0f);
  }
  for (int d0 = 0; d0 < head_dim; d0 += 32) {
    const int d1 = d0 + 32 < head_dim ? d0 + 32 : head_dim;
    F sum[pairs][kKeyVectors];
    INHOUSE_UNROLL
    for (int p = 0; p < pairs; ++p) {
      INHOUSE_UNROLL
      for (int v = 0; v < kKeyVectors; ++v) sum[p][v] = set1(0.0f);
    }
    for (int d = d0; d < d1; ++d) {
      for (int byte = 0; byte < row_bytes; byte += 64) prefetch(next + d * row_bytes + byte);
      F k[kKeyVectors];
      INHOUSE_UNROLL
      for (int v = 0; v < kKeyVectors; ++v) k[v] = load_cache<type>(block + d * row_bytes, v);
      INHOUSE_UNROLL
      for (int p = 0; p < pairs; ++p) {
        INHOUSE_UNROLL
        for (int v = 0; v < kKeyVectors; ++v) sum[p][v] = fma(set1(q[p][d]), k[v], sum[p][v]);
      }
    }
    INHOUSE_UNROLL
    for (int v = 0; v < kKeyVectors; ++v) {
      const F s = cache_scaled(type) ? load_f16(cache_scales + d0 + v * kLanes) : set1(1.0f);
      INHOUSE_UNROLL
      for (int p = 0; p < pairs; ++p) total[p][v] = fma(sum[p][v], s, total[p][v]);
    }
  }
  INHOUSE_UNROLL
  for (int p = 0; p < pairs; ++p) {
    INHOUSE_UNROLL
    for (int v = 0; v < kKeyVectors; ++v) {
      F s = mul(total[p][v], set1(scale));
      if (cap != 0.0f) s = mul(tanh(mul(s, set1(1.0f / cap))), set1(cap));
      store(scores + p * 32 + v * kLanes, s);
    }
  }
}

// out[p] (+)= Σ over keys [from, to) of weights[p][key] * V[key], for `vectors` row vectors at dimension d.
template <CacheType type, int pairs, int vectors>
inline void value_tile(const float* weights, const uint8_t* block, const uint8_t* next, int head_dim, int d,
                       int from, int to, float* out, int64_t out_stride) {
  // Of q4_0, the 32 tokens of these dimensions stand side by side.
  constexpr int bytes = cache_row_bytes(type);
  const int64_t stride = type == CacheType::q4_0 ? bytes : cache_padded(head_dim) / 16 * (bytes / 2);
  const int64_t at = d / 32 * (type == CacheType::q4_0 ? 32 * bytes : bytes);
  float scaled[pairs * 32];
  if constexpr (cache_scaled(type)) {
    const auto* scales =
        reinterpret_cast<const uint16_t*>(block + cache_numbers_bytes(type, head_dim)) + d / 32 * 32;
    for (int v = 0; v < kKeyVectors; ++v) {
      const F s = load_f16(scales + v * kLanes);
      for (int p = 0; p < pairs; ++p)
        store(scaled + p * 32 + v * kLanes, mul(load(weights + p * 32 + v * kLanes), s));
    }
    weights = scaled;
  }
  F sum[pairs][vectors];
  INHOUSE_UNROLL
  for (int p = 0; p < pairs; ++p) {
    INHOUSE_UNROLL
    for (int v = 0; v < vectors; ++v) sum[p][v] = load(out + p * out_stride + d + v * kLanes);
  }
  for (int key = from; key < to; ++key) {
    for (int byte = 0; byte < vectors * bytes / kKeyVectors; byte += 64)
      prefetch(next + key * stride + at + byte);
    F value[vectors];
    INHOUSE_UNROLL
    for (int v = 0; v < vectors; ++v) value[v] = load_cache<type>(block + key * stride + at, v);
    INHOUSE_UNROLL
    for (int p = 0; p < pairs; ++p) {
      const F w = set1(weights[p * 32 + key]);
      INHOUSE_UNROLL
      for (int v = 0; v < vectors; ++v) sum[p][v] = fma(w, value[v], sum[p][v]);
    }
  }
  INHOUSE_UNROLL
  for (int p = 0; p < pairs; ++p) {
    INHOUSE_UNROLL
    for (int v = 0; v < vectors; ++v) store(out + p * out_stride + d + v * kLanes, sum[p][v]);
  }
}

template <CacheType type, int pairs>
inline void values(const float* weights, const uint8_t* block, const uint8_t* next, int head_dim, int from,
                   int to, float* out, int64_t out_stride) {
  if (from >= to) return;
  int d = 0;
  for (; d + 32 <= cache_padded(head_dim); d += 32)
    value_tile<type, pairs, kKeyVectors>(weights, block, next, head_dim, d, from, to, out, out_stride);
  if (d < cache_padded(head_dim))
    value_tile<type, pairs, kKeyVectors / 2>(weights, block, next, head_dim, d, from, to, out, out_stride);
}

// Keys of a block that a query sees: [from, to).
struct Span {
  int from, to;
};
inline Span visible(int32_t position, int32_t window, int32_t block) {
  const int64_t first = int64_t(block) * 32;
  const int64_t lowest = window > 0 ? int64_t(position) - window + 1 : 0;
  const int64_t from = lowest > first ? lowest - first : 0, to = position - first + 1;
  return {int(from < 32 ? from : 32), int(to < 0 ? 0 : to < 32 ? to : 32)};
}

// Turns a pair's scores into weights and updates its maximum and sum; returns the factor for its output so
// far.
inline float soften(float* scores, Span keys, float& maximum, float& sum) {
  const float none = -__builtin_inff();
  if (keys.from > 0 || keys.to < 32)
    for (int i = 0; i < 32; ++i)
      if (i < keys.from || i >= keys.to) scores[i] = none;
  F most = load(scores);
  for (int v = 1; v < kKeyVectors; ++v) most = max(most, load(scores + v * kLanes));
  // A NaN score makes its own weight NaN below, whatever the maximum.
  float greatest = max_of(most);
  greatest = greatest > maximum ? greatest : maximum;
  const float origin = greatest == none ? 0.0f : greatest;
  F lanes[kSumVectors];
  for (int v = 0; v < kKeyVectors; ++v) {
    const F w = exp(sub(load(scores + v * kLanes), set1(origin)));
    store(scores + v * kLanes, w);
    lanes[v % kSumVectors] = v < kSumVectors ? w : add(lanes[v % kSumVectors], w);
  }
  float factor = 1.0f;
  if (greatest > maximum) {
    float first[kLanes];
    store(first, exp(set1(maximum - origin)));
    factor = first[0];
  }
  sum = sum * factor + tree_sum(lanes);
  maximum = greatest;
  return factor;
}

// Calls work.operator()<count>(p) for tiles of at most kPairTile pairs of [begin, end).
template <class Work>
inline void each_tile(int begin, int end, Work&& work) {
  for (; begin + kPairTile <= end; begin += kPairTile) work.template operator()<kPairTile>(begin);
  switch (end - begin) {
    case 5:
      if constexpr (kPairTile > 5) return work.template operator()<5>(begin);
      break;
    case 4:
      if constexpr (kPairTile > 4) return work.template operator()<4>(begin);
      break;
    case 3:
      if constexpr (kPairTile > 3) return work.template operator()<3>(begin);
      break;
    case 2:
      if constexpr (kPairTile > 2) return work.template operator()<2>(begin);
      break;
    case 1:
      return work.template operator()<1>(begin);
  }
}

// Scores of pairs [first, last], and their sum over V once they are weights: functions of one type each, that
// the types' combinations share.
template <CacheType type>
__attribute__((noinline)) void score_block(const AttentionArgs& a, const float* const* q, int first, int last,
                                           const uint8_t* block, const uint8_t* next) {
  each_tile(first, last + 1, [&]<int count>(int p) {
    score_tile<type, count>(q + p, block, next, a.head_dim_k, a.scale, a.softcap, a.scratch + p * 32);
  });
}
template <CacheType type>
__attribute__((noinline)) void value_block(const AttentionArgs& a, const Span* keys, int first, int last,
                                           const uint8_t* block, const uint8_t* next) {
  const int64_t out_stride = cache_padded(a.head_dim_v);
  // Keys that only some pairs of a tile see are added pair by pair, before and after the common ones: a
  // masked key's V may be memory nobody wrote yet.
  each_tile(first, last + 1, [&]<int count>(int p) {
    const auto sum = [&]<int some>(int i, int from, int to) {
      values<type, some>(a.scratch + i * 32, block, next, a.head_dim_v, from, to, a.out + i * out_stride,
                         out_stride);
    };
    Span common{0, 32};
    for (int i = p; i < p + count; ++i) {
      common.from = keys[i].from > common.from ? keys[i].from : common.from;
      common.to = keys[i].to < common.to ? keys[i].to : common.to;
    }
    if (common.from >= common.to) common = {32, 32};
    for (int i = p; i < p + count; ++i)
      sum.template operator()<1>(i, keys[i].from, keys[i].to < common.from ? keys[i].to : common.from);
    sum.template operator()<count>(p, common.from, common.to);
    for (int i = p; i < p + count; ++i)
      sum.template operator()<1>(i, common.to > keys[i].from ? common.to : keys[i].from, keys[i].to);
  });
}

template <CacheType k_type, CacheType v_type>
void attention(const AttentionArgs& a) {
  const int pairs = a.queries * a.heads;
  const int64_t out_stride = cache_padded(a.head_dim_v);
  const float* q[kAttentionQueries];
  for (int p = 0; p < pairs; ++p) {
    q[p] = a.q + p / a.heads * a.q_stride + int64_t(p % a.heads) * a.head_dim_k;
    a.maximum[p] = -__builtin_inff();
    a.sum[p] = 0.0f;
  }
  __builtin_memset(a.out, 0, size_t(pairs * out_stride) * sizeof(float));
  float* scores = a.scratch;
  for (int32_t block = a.block_begin; block < a.block_end; ++block) {
    Span keys[kAttentionQueries];
    int first = pairs, last = -1;
    for (int p = 0; p < pairs; ++p) {
      keys[p] = visible(a.position + p / a.heads, a.window, block);
      if (keys[p].from >= keys[p].to) continue;
      if (first == pairs) first = p;
      last = p;
    }
    if (last < 0) continue;
    const int32_t at = block - a.block_begin;
    const uint8_t* k = a.k_blocks[at];
    const uint8_t* v = a.v_blocks[at];
    const int32_t ahead = block + 1 < a.block_end ? at + 1 : at;
    const uint8_t* next_k = a.k_blocks[ahead];
    const uint8_t* next_v = a.v_blocks[ahead];
    // Pairs that see nothing here stand before `first` or after `last`: visibility moves with the position.
    score_block<k_type>(a, q, first, last, k, next_k);
    for (int p = first; p <= last; ++p) {
      const float factor = soften(scores + p * 32, keys[p], a.maximum[p], a.sum[p]);
      if (factor == 1.0f) continue;
      float* out = a.out + p * out_stride;
      for (int64_t d = 0; d < out_stride; d += kLanes) store(out + d, mul(load(out + d), set1(factor)));
    }
    value_block<v_type>(a, keys, first, last, v, next_v);
  }
}

// Adds the state of later keys to that of earlier ones, pair by pair; the order of parts is the caller's.
void attention_merge(int pairs, int32_t head_dim_v, float* maximum, float* sum, float* out,
                     const float* part_maximum, const float* part_sum, const float* part_out) {
  const int64_t stride = cache_padded(head_dim_v);
  const float none = -__builtin_inff();
  for (int p = 0; p < pairs; ++p, out += stride, part_out += stride) {
    if (part_maximum[p] == none && part_sum[p] == 0.0f) continue;
    const float greatest = part_maximum[p] > maximum[p] ? part_maximum[p] : maximum[p];
    const float origin = greatest == none ? 0.0f : greatest;
    float lanes[kLanes];
    store(lanes, exp(set1(maximum[p] - origin)));
    const float old_factor = lanes[0];
    store(lanes, exp(set1(part_maximum[p] - origin)));
    const float part_factor = lanes[0];
    sum[p] = sum[p] * old_factor + part_sum[p] * part_factor;
    for (int64_t d = 0; d < stride; d += kLanes)
      store(out + d, fma(load(part_out + d), set1(part_factor), mul(load(out + d), set1(old_factor))));
    maximum[p] = greatest;
  }
}

// out[p] /= sum[p], unpadded: to [pairs][head_dim_v] at out_stride per query.
void attention_finish(int queries, int heads, int32_t head_dim_v, const float* sum, const float* state,
                      float* out, int64_t out_stride) {
  const int64_t stride = cache_padded(head_dim_v);
  for (int p = 0; p < queries * heads; ++p, state += stride) {
    const F inverse = set1(1.0f / sum[p]);
    float* to = out + p / heads * out_stride + int64_t(p % heads) * head_dim_v;
    int64_t d = 0;
    for (; d + kLanes <= head_dim_v; d += kLanes) store(to + d, mul(load(state + d), inverse));
    if (d < head_dim_v) store_part(to + d, mul(load(state + d), inverse), head_dim_v - d);
  }
}

// Numbers of one token and KV head rounded to the cache's type: number(i, bits), scale(group, bits).
template <class Number, class Scale>
inline void round_q8_0(const float* x, int32_t head_dim, Number number, Scale scale) {
  for (int32_t d0 = 0; d0 < head_dim; d0 += 32) {
    const int32_t n = head_dim - d0 < 32 ? head_dim - d0 : 32;
    float most = 0.0f;
    bool bad = false;
    for (int32_t i = 0; i < n; ++i) {
      const float a = __builtin_fabsf(x[d0 + i]);
      most = a > most ? a : most;
      bad |= !(a <= 3.4028234e38f);
    }
    // As Q8_0 is encoded everywhere: the scale rounds to binary16, its inverse does not; halves away from
    // zero.
    const float unit = most / 127.0f;
    const float inverse = unit >= 0x1p-126f ? 1.0f / unit : 0.0f;
    scale(d0 / 32, bad ? uint16_t(0x7e00) : float_to_half(unit));
    for (int32_t i = 0; i < n; ++i) {
      const float v = bad ? 0.0f : x[d0 + i] * inverse;
      const int whole = int(v);
      const float rest = v - float(whole);
      number(d0 + i, int8_t(whole + (rest >= 0.5f) - (rest <= -0.5f)));
    }
  }
}

// The same for q4_0, as Q4_0 is encoded everywhere; codes are 8 more than what they stand for.
template <class Code, class Scale>
inline void round_q4_0(const float* x, int32_t head_dim, Code code, Scale scale) {
  for (int32_t d0 = 0; d0 < head_dim; d0 += 32) {
    const int32_t n = head_dim - d0 < 32 ? head_dim - d0 : 32;
    float most = 0.0f, extreme = 0.0f;
    bool bad = false;
    for (int32_t i = 0; i < n; ++i) {
      const float a = __builtin_fabsf(x[d0 + i]);
      extreme = a > most ? x[d0 + i] : extreme;
      most = a > most ? a : most;
      bad |= !(a <= 3.4028234e38f);
    }
    const float unit = extreme / -8.0f;
    const float inverse = most >= 0x1p-123f ? 1.0f / unit : 0.0f;
    scale(d0 / 32, bad ? uint16_t(0x7e00) : float_to_half(unit));
    for (int32_t i = 0; i < n; ++i) {
      const int c = bad ? 8 : int(x[d0 + i] * inverse + 8.5f);
      code(d0 + i, uint8_t(c < 15 ? c : 15));
    }
  }
}
// Sets code i of 32, and leaves its neighbour.
inline void put_code(uint8_t* codes, int32_t i, uint8_t code) {
  uint8_t& byte = codes[i % 16];
  byte = uint8_t(i < 16 ? (byte & 0xf0) | code : (byte & 0x0f) | code << 4);
}

template <CacheType type>
void store_k(const float* k, int32_t head_dim, int32_t token, uint8_t* block) {
  if constexpr (type == CacheType::q8_0) {
    auto* numbers = reinterpret_cast<int8_t*>(block);
    auto* scales = reinterpret_cast<uint16_t*>(block + cache_numbers_bytes(type, head_dim));
    round_q8_0(
        k, head_dim, [&](int32_t d, int8_t n) { numbers[d * 32 + token] = n; },
        [&](int32_t g, uint16_t s) { scales[g * 32 + token] = s; });
  } else if constexpr (type == CacheType::q4_0) {
    auto* scales = reinterpret_cast<uint16_t*>(block + cache_numbers_bytes(type, head_dim));
    round_q4_0(
        k, head_dim, [&](int32_t d, uint8_t c) { put_code(block + d * 16, token, c); },
        [&](int32_t g, uint16_t s) { scales[g * 32 + token] = s; });
  } else if constexpr (type == CacheType::f16) {
    auto* numbers = reinterpret_cast<uint16_t*>(block);
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      uint16_t rounded[kLanes];
      const int32_t n = head_dim - d < kLanes ? head_dim - d : kLanes;
      store_f16(rounded, load_part(k + d, n));
      for (int32_t i = 0; i < n; ++i) numbers[(d + i) * 32 + token] = rounded[i];
    }
  } else {
    auto* numbers = reinterpret_cast<float*>(block);
    for (int32_t d = 0; d < head_dim; ++d) numbers[d * 32 + token] = k[d];
  }
}

template <CacheType type>
void store_v(const float* v, int32_t head_dim, int32_t token, uint8_t* block) {
  const int64_t row = token * cache_padded(head_dim);
  if constexpr (type == CacheType::q8_0) {
    auto* numbers = reinterpret_cast<int8_t*>(block) + row;
    auto* scales = reinterpret_cast<uint16_t*>(block + cache_numbers_bytes(type, head_dim));
    round_q8_0(
        v, head_dim, [&](int32_t d, int8_t n) { numbers[d] = n; },
        [&](int32_t g, uint16_t s) { scales[g * 32 + token] = s; });
  } else if constexpr (type == CacheType::q4_0) {
    auto* scales = reinterpret_cast<uint16_t*>(block + cache_numbers_bytes(type, head_dim));
    round_q4_0(
        v, head_dim, [&](int32_t d, uint8_t c) { put_code(block + (d / 32 * 32 + token) * 16, d % 32, c); },
        [&](int32_t g, uint16_t s) { scales[g * 32 + token] = s; });
  } else if constexpr (type == CacheType::f16) {
    auto* numbers = reinterpret_cast<uint16_t*>(block) + row;
    for (int32_t d = 0; d < head_dim; d += kLanes) store_f16(numbers + d, load_part(v + d, head_dim - d));
  } else {
    __builtin_memcpy(block + row * 4, v, size_t(head_dim) * 4);
  }
}

}  // namespace
}  // namespace inhouse::kernels
