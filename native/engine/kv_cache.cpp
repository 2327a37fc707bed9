#include "native/engine/kv_cache.h"

#include <algorithm>

#include "native/core/error.h"

namespace inhouse {
namespace {

int32_t blocks_for(int32_t tokens) {
  return (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
}

// Blocks of a group's pool.
int64_t pool_blocks(const KvGroup& group, int32_t sequences, int32_t context_length,
                    int32_t max_step_tokens) {
  int32_t per_sequence = blocks_for(context_length);
  if (group.window > 0 && group.window < context_length) {
    // One more at each end, where the window and the step begin or end inside a block.
    per_sequence = std::min(per_sequence, blocks_for(group.window) + blocks_for(max_step_tokens) + 2);
  }
  return int64_t(per_sequence) * sequences;
}

// Bytes of one head's vector in the cache, about: q8_0 has a 16-bit scale for every 32 numbers.
double vector_bytes(KvType type, int32_t dims) {
  if (type == KvType::q8_0) return dims + (dims + 31) / 32 * 2.0;
  return (type == KvType::f32 ? 4.0 : 2.0) * dims;
}

}  // namespace

uint64_t KvCache::bytes_for(const Model& model, KvType type_k, KvType type_v, int32_t sequences,
                            int32_t context_length, int32_t max_step_tokens) {
  const HyperParameters& h = model.hyper();
  const double token = vector_bytes(type_k, h.head_dim) + vector_bytes(type_v, h.head_dim_v);
  double bytes = 0;
  for (const KvGroup& group : h.kv_groups) {
    const double tokens =
        double(pool_blocks(group, sequences, context_length, max_step_tokens)) * kKvBlockTokens;
    bytes += tokens * group.layers * h.kv_heads * token;
  }
  return bytes < 1e18 ? uint64_t(bytes) : UINT64_MAX;
}

KvCache::KvCache(const Model& model, KvType type_k, KvType type_v, int32_t sequences, int32_t context_length,
                 int32_t max_step_tokens) {
  const HyperParameters& h = model.hyper();
  for (const KvGroup& group : h.kv_groups) {
    const int64_t blocks = pool_blocks(group, sequences, context_length, max_step_tokens);
    if (blocks > INT32_MAX) throw Error(Code::out_of_memory, "the KV cache would need too many blocks");
    const KvGroupSpec spec{group.layers, h.kv_heads, h.head_dim, h.head_dim_v, type_k, type_v, group.window};
    pools_.push_back(model.backend().make_kv_pool(spec, int32_t(blocks)));
    std::vector<int32_t> free(static_cast<size_t>(blocks));
    for (size_t i = 0; i < free.size(); ++i) free[i] = int32_t(free.size() - 1 - i);
    free_blocks_.push_back(std::move(free));
  }
}

uint64_t KvCache::bytes() const {
  uint64_t sum = 0;
  for (const auto& pool : pools_) sum += pool->bytes;
  return sum;
}

BlockTables KvCache::open() const {
  BlockTables sequence;
  sequence.blocks.resize(pools_.size());
  sequence.tables.resize(pools_.size());
  return sequence;
}

void KvCache::extend(BlockTables& sequence, int32_t next, int32_t tokens) {
  for (size_t g = 0; g < pools_.size(); ++g) {
    std::vector<int32_t>& table = sequence.blocks[g];
    std::vector<int32_t>& free = free_blocks_[g];
    const int32_t window = pools_[g]->spec.window;
    if (window > 0) {
      const int32_t first_seen = std::max(0, next + 1 - window) / kKvBlockTokens;
      for (int32_t b = std::min(first_seen, int32_t(table.size())) - 1; b >= 0 && table[size_t(b)] >= 0;
           --b) {
        free.push_back(table[size_t(b)]);
        table[size_t(b)] = -1;
      }
    }
    table.reserve(size_t(blocks_for(tokens)));
    while (int32_t(table.size()) < blocks_for(tokens)) {
      if (free.empty()) throw Error(Code::internal, "the KV cache ran out of blocks");
      table.push_back(free.back());
      free.pop_back();
    }
    sequence.tables[g] = table.data();
  }
}

void KvCache::close(BlockTables& sequence) {
  for (size_t g = 0; g < sequence.blocks.size(); ++g) {
    for (int32_t block : sequence.blocks[g]) {
      if (block >= 0) free_blocks_[g].push_back(block);
    }
  }
  sequence = BlockTables();
}

}  // namespace inhouse
