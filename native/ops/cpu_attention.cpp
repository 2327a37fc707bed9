#include "native/ops/cpu_attention.h"

#include <algorithm>
#include <limits>

#include "kernels/cache_rows.h"

namespace inhouse {

using kernels::CacheType;

namespace {

// A context is cut into parts of this many blocks at fixed absolute positions; each part starts a softmax of
// its own, and parts are merged in order. So the result is the same whether threads share the parts of one
// token or one thread runs through all parts of a prompt's tile.
constexpr int32_t kPartBlocks = 16;
// Fewer multiply-adds than this stay on the calling thread.
constexpr int64_t kInlineWork = 1 << 17;

CacheType cache_type(KvType type) {
  switch (type) {
    case KvType::f32:
      return CacheType::f32;
    case KvType::f16:
      return CacheType::f16;
    case KvType::q8_0:
      return CacheType::q8_0;
    case KvType::q4_0:
      break;
  }
  return CacheType::q4_0;
}

}  // namespace

CpuKvPool::CpuKvPool(const KvGroupSpec& wanted, int32_t count)
    : k_type(cache_type(wanted.type_k)), v_type(cache_type(wanted.type_v)) {
  spec = wanted;
  blocks = count;
  k_bytes_ = uint64_t(kernels::cache_block_bytes(k_type, spec.head_dim_k));
  pair_bytes_ = k_bytes_ + uint64_t(kernels::cache_block_bytes(v_type, spec.head_dim_v));
  const uint64_t units = uint64_t(count) * uint64_t(spec.layers) * uint64_t(spec.kv_heads);
  if (units > std::numeric_limits<int64_t>::max() / pair_bytes_)
    throw Error(Code::out_of_memory, "the KV cache would not fit any memory; use a smaller context");
  bytes = units * pair_bytes_;
  memory_ = CpuMemory(bytes, false, "KV cache");
}

void CpuKvPool::export_block(int32_t block, uint8_t* out) const {
  const int64_t k_row = kernels::cache_row_bytes(k_type, spec.head_dim_k);
  const int64_t v_row = kernels::cache_row_bytes(v_type, spec.head_dim_v);
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    for (int32_t token = 0; token < kKvBlockTokens; ++token)
      for (int32_t h = 0; h < spec.kv_heads; ++h, out += k_row)
        kernels::read_k_row(k_type, k_block(layer, block, h), spec.head_dim_k, token, out);
    for (int32_t token = 0; token < kKvBlockTokens; ++token)
      for (int32_t h = 0; h < spec.kv_heads; ++h, out += v_row)
        kernels::read_v_row(v_type, v_block(layer, block, h), spec.head_dim_v, token, out);
  }
}

void CpuKvPool::import_block(int32_t block, const uint8_t* in) {
  const int64_t k_row = kernels::cache_row_bytes(k_type, spec.head_dim_k);
  const int64_t v_row = kernels::cache_row_bytes(v_type, spec.head_dim_v);
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    for (int32_t token = 0; token < kKvBlockTokens; ++token)
      for (int32_t h = 0; h < spec.kv_heads; ++h, in += k_row)
        kernels::write_k_row(k_type, in, spec.head_dim_k, token, k_block(layer, block, h));
    for (int32_t token = 0; token < kKvBlockTokens; ++token)
      for (int32_t h = 0; h < spec.kv_heads; ++h, in += v_row)
        kernels::write_v_row(v_type, in, spec.head_dim_v, token, v_block(layer, block, h));
  }
}

void CpuAttention::store(CpuKvPool& pool, int32_t layer, int32_t group, const float* k, const float* v,
                         const Batch& batch) {
  const KvGroupSpec& spec = pool.spec;
  const auto store_k = kernels_.store_k[int(pool.k_type)];
  const auto store_v = kernels_.store_v[int(pool.v_type)];
  const auto some = [&](const SequenceSlice& slice, int32_t begin, int32_t end) {
    for (int32_t h = 0; h < spec.kv_heads; ++h) {
      for (int32_t i = begin; i < end; ++i) {
        const int32_t position = slice.position + i, token = position % kKvBlockTokens;
        const int32_t block = slice.tables[group][position / kKvBlockTokens];
        if (block < 0) continue;
        const int64_t row = int64_t(slice.row + i) * spec.kv_heads + h;
        store_k(k + row * spec.head_dim_k, spec.head_dim_k, token, pool.k_block(layer, block, h));
        store_v(v + row * spec.head_dim_v, spec.head_dim_v, token, pool.v_block(layer, block, h));
      }
    }
  };
  const int64_t row_work = int64_t(spec.kv_heads) * (spec.head_dim_k + spec.head_dim_v);
  for (const SequenceSlice& slice : batch.slices) {
    if (slice.count * row_work < (1 << 15)) {
      some(slice, 0, slice.count);
      continue;
    }
    // Whole cache blocks per chunk: two threads never write into the same lines.
    const int32_t first = slice.position / kKvBlockTokens;
    const int32_t last = (slice.position + slice.count - 1) / kKvBlockTokens;
    ThreadPool::shared().run(threads_, last - first + 1, [&](int64_t chunk, int32_t) {
      const int32_t from = (first + int32_t(chunk)) * kKvBlockTokens - slice.position;
      some(slice, std::max(0, from), std::min(slice.count, from + kKvBlockTokens));
    });
  }
}

struct CpuAttention::State {
  float* maximum;
  float* sum;
  float* out;
  static State at(float* memory, int64_t pairs) { return {memory, memory + pairs, memory + 2 * pairs}; }
};

// Runs one part of a tile's context for the query heads of `kv_head`, from `head` on.
void CpuAttention::part(const CpuKvPool& pool, int32_t layer, const float* q, const AttentionParams& params,
                        const Tile& tile, int32_t unit, int32_t index, const State& state,
                        float* scratch) const {
  const KvGroupSpec& spec = pool.spec;
  const int32_t shared = params.heads / spec.kv_heads;
  const int32_t heads_at_once = std::min(shared, kernels::kAttentionQueries);
  const int32_t splits = (shared + heads_at_once - 1) / heads_at_once;
  const int32_t kv_head = unit / splits, head = kv_head * shared + unit % splits * heads_at_once;
  const int32_t heads = std::min(heads_at_once, (kv_head + 1) * shared - head);
  const int32_t lowest = spec.window > 0 ? std::max(0, tile.position - spec.window + 1) : 0;
  const int32_t begin = std::max(index * kPartBlocks, lowest / kKvBlockTokens);
  const int32_t end =
      std::min((index + 1) * kPartBlocks, (tile.position + tile.count - 1) / kKvBlockTokens + 1);
  const uint8_t* k_blocks[kPartBlocks];
  const uint8_t* v_blocks[kPartBlocks];
  for (int32_t b = begin; b < end; ++b) {
    const int32_t block = tile.table[b];
    k_blocks[b - begin] = block < 0 ? nullptr : pool.k_block(layer, block, kv_head);
    v_blocks[b - begin] = block < 0 ? nullptr : pool.v_block(layer, block, kv_head);
  }
  kernels::AttentionArgs args{};
  args.q_stride = int64_t(params.heads) * spec.head_dim_k;
  args.q = q + tile.row * args.q_stride + int64_t(head) * spec.head_dim_k;
  args.queries = tile.count;
  args.heads = heads;
  args.position = tile.position;
  args.window = spec.window;
  args.head_dim_k = spec.head_dim_k;
  args.head_dim_v = spec.head_dim_v;
  args.scale = params.scale;
  args.softcap = params.softcap;
  args.k_blocks = k_blocks;
  args.v_blocks = v_blocks;
  args.block_begin = begin;
  args.block_end = std::max(begin, end);
  args.maximum = state.maximum;
  args.sum = state.sum;
  args.out = state.out;
  args.scratch = scratch;
  kernels_.attention[int(pool.k_type)][int(pool.v_type)](args);
}

void CpuAttention::run(const CpuKvPool& pool, int32_t layer, int32_t group, const float* q,
                       const Batch& batch, const AttentionParams& params, float* out) {
  const KvGroupSpec& spec = pool.spec;
  const int32_t shared = params.heads / spec.kv_heads;
  const int32_t heads_at_once = std::min(shared, kernels::kAttentionQueries);
  const int32_t splits = (shared + heads_at_once - 1) / heads_at_once;
  const int32_t units = spec.kv_heads * splits;
  const int32_t tile_rows = std::max(1, kernels::kAttentionQueries / heads_at_once);
  const int64_t pairs = int64_t(tile_rows) * heads_at_once;
  const int64_t state_floats = (pairs * (2 + kernels::cache_padded(spec.head_dim_v)) + 15) / 16 * 16;

  tiles_.clear();
  int64_t states = 0, work = 0;
  for (const SequenceSlice& slice : batch.slices) {
    for (int32_t i = 0; i < slice.count; i += tile_rows) {
      Tile tile{
          slice.row + i, std::min(tile_rows, slice.count - i), slice.position + i, slice.tables[group], 0, 0,
          states};
      const int32_t lowest = spec.window > 0 ? std::max(0, tile.position - spec.window + 1) : 0;
      const int32_t last = (tile.position + tile.count - 1) / (kPartBlocks * kKvBlockTokens);
      tile.first_part = lowest / (kPartBlocks * kKvBlockTokens);
      tile.parts = last - tile.first_part + 1;
      states += tile.parts;
      work += int64_t(tile.position + tile.count - lowest) * tile.count * params.heads *
              (spec.head_dim_k + spec.head_dim_v);
      tiles_.push_back(tile);
    }
  }
  const int32_t threads = work < kInlineWork ? 1 : threads_;
  const int64_t tiles = int64_t(tiles_.size()), whole_items = tiles * units;
  const int64_t out_stride = int64_t(params.heads) * spec.head_dim_v;
  const auto finish = [&](const Tile& tile, int32_t unit, const State& total) {
    const int32_t kv_head = unit / splits, head = kv_head * shared + unit % splits * heads_at_once;
    const int32_t heads = std::min(heads_at_once, (kv_head + 1) * shared - head);
    kernels_.attention_finish(tile.count, heads, spec.head_dim_v, total.sum, total.out,
                              out + tile.row * out_stride + int64_t(head) * spec.head_dim_v, out_stride);
  };
  const auto merge = [&](const Tile& tile, const State& total, const State& more) {
    kernels_.attention_merge(int(tile.count) * heads_at_once, spec.head_dim_v, total.maximum, total.sum,
                             total.out, more.maximum, more.sum, more.out);
  };

  // Enough tiles to keep all threads busy: each runs through its parts. Else the parts are spread too.
  if (threads == 1 || whole_items >= 4 * threads || states == tiles) {
    const int64_t per_worker = 2 * state_floats + kernels::kAttentionScratchFloats;
    memory_.resize(size_t(per_worker * threads_));
    ThreadPool::shared().run(threads, whole_items, [&](int64_t item, int32_t worker) {
      // Later tiles see more keys: the long ones first.
      const Tile& tile = tiles_[size_t(tiles - 1 - item / units)];
      const int32_t unit = int32_t(item % units);
      float* mine = memory_.data() + per_worker * worker;
      const State total = State::at(mine, pairs), more = State::at(mine + state_floats, pairs);
      float* scratch = mine + 2 * state_floats;
      for (int32_t i = 0; i < tile.parts; ++i) {
        part(pool, layer, q, params, tile, unit, tile.first_part + i, i == 0 ? total : more, scratch);
        if (i > 0) merge(tile, total, more);
      }
      finish(tile, unit, total);
    });
    return;
  }
  const int64_t scratch_at = states * units * state_floats;
  memory_.resize(size_t(scratch_at + kernels::kAttentionScratchFloats * threads_));
  const auto state_of = [&](const Tile& tile, int32_t unit, int32_t i) {
    return State::at(memory_.data() + ((tile.states + i) * units + unit) * state_floats, pairs);
  };
  ThreadPool::shared().run(threads, states * units, [&](int64_t item, int32_t worker) {
    const int64_t state = item / units;
    const auto after = std::upper_bound(tiles_.begin(), tiles_.end(), state,
                                        [](int64_t s, const Tile& tile) { return s < tile.states; });
    const Tile& tile = *(after - 1);
    const int32_t unit = int32_t(item % units), i = int32_t(state - tile.states);
    part(pool, layer, q, params, tile, unit, tile.first_part + i, state_of(tile, unit, i),
         memory_.data() + scratch_at + kernels::kAttentionScratchFloats * worker);
  });
  for (const Tile& tile : tiles_) {
    for (int32_t unit = 0; unit < units; ++unit) {
      const State total = state_of(tile, unit, 0);
      for (int32_t i = 1; i < tile.parts; ++i) merge(tile, total, state_of(tile, unit, i));
      finish(tile, unit, total);
    }
  }
}

}  // namespace inhouse
