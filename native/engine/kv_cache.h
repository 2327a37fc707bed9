// The paged KV cache of one engine: a pool of blocks per group, and a block table per sequence and group.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "native/model/model.h"

namespace inhouse {

// One sequence's place in the cache.
struct BlockTables {
  std::vector<std::vector<int32_t>> blocks;  // [groups][position / 32]: pool block, -1 once given back
  std::vector<const int32_t*> tables;        // [groups], what a batch points to
};

class KvCache {
 public:
  // Room for `sequences` sequences of up to context_length tokens each, of which at most max_step_tokens are
  // added in one step: a sliding-window group needs no more than its window and one step per sequence.
  KvCache(const Model& model, KvType type_k, KvType type_v, int32_t sequences, int32_t context_length,
          int32_t max_step_tokens);

  // What a cache of these sizes reserves, in bytes; saturates.
  static uint64_t bytes_for(const Model& model, KvType type_k, KvType type_v, int32_t sequences,
                            int32_t context_length, int32_t max_step_tokens);

  std::span<const std::unique_ptr<KvPool>> pools() const { return pools_; }
  uint64_t bytes() const;

  BlockTables open() const;
  // Makes room for positions up to `tokens` - 1 and first gives back blocks that no position from `next` (the
  // first one still to be computed) on can see.
  void extend(BlockTables& sequence, int32_t next, int32_t tokens);
  void close(BlockTables& sequence);

 private:
  std::vector<std::unique_ptr<KvPool>> pools_;     // [groups]
  std::vector<std::vector<int32_t>> free_blocks_;  // [groups], most recently used last
};

}  // namespace inhouse
