// The KV cache of the CPU backend and attention over it.
#pragma once

#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "native/core/thread_pool.h"
#include "native/ops/backend.h"
#include "native/ops/cpu_memory.h"

namespace inhouse {

// A pool block holds, for each layer and KV head, 32 tokens of K and then of V (see kernels.h). Blocks of one
// layer and head stand side by side: attention reads those of a sequence as one stream.
class CpuKvPool final : public KvPool {
 public:
  CpuKvPool(const KvGroupSpec& wanted, int32_t count);
  uint8_t* k_block(int32_t layer, int32_t block, int32_t head) const {
    return memory_.data() + uint64_t((int64_t(layer) * spec.kv_heads + head) * blocks + block) * pair_bytes_;
  }
  uint8_t* v_block(int32_t layer, int32_t block, int32_t head) const {
    return k_block(layer, block, head) + k_bytes_;
  }
  void export_block(int32_t block, uint8_t* out) const override;
  void import_block(int32_t block, const uint8_t* in) override;
  kernels::CacheType k_type, v_type;

 private:
  uint64_t k_bytes_, pair_bytes_;
  CpuMemory memory_;
};

class CpuAttention {
 public:
  CpuAttention(const kernels::Kernels& kernels, int32_t threads) : kernels_(kernels), threads_(threads) {}
  void store(CpuKvPool& pool, int32_t layer, int32_t group, const float* k, const float* v,
             const Batch& batch);
  void run(const CpuKvPool& pool, int32_t layer, int32_t group, const float* q, const Batch& batch,
           const AttentionParams& params, float* out);

 private:
  // Consecutive queries of one sequence that one call of the kernel takes.
  struct Tile {
    int32_t row, count, position;
    const int32_t* table;
    int32_t first_part, parts;  // that the queries see
    int64_t states;             // before this tile, when parts are spread over threads
  };
  struct State;
  void part(const CpuKvPool& pool, int32_t layer, const float* q, const AttentionParams& params,
            const Tile& tile, int32_t kv_head, int32_t index, const State& state, float* scratch) const;

  const kernels::Kernels& kernels_;
  int32_t threads_;
  std::vector<Tile> tiles_;
  std::vector<float> memory_;
};

}  // namespace inhouse
