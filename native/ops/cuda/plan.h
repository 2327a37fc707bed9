// What the kernels of the cache and of attention have to know of a step: where each row's K and V go, and
// which warp takes which queries and keys. Made once for each group of layers and step.
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/args.h"
#include "native/ops/backend.h"

namespace inhouse::cuda {

struct CachePlan {
  std::vector<int32_t> blocks;     // [rows]: of the pool
  std::vector<int32_t> positions;  // [rows]
  std::vector<int32_t> tables;     // of all slices, one after the other
  std::vector<int32_t> table_of;   // [slices]: where its table begins
};
CachePlan plan_cache(const Batch& batch, int32_t group);

struct AttentionPlan {
  std::vector<kernels::cuda::AttentionTile> tiles;
  std::vector<kernels::cuda::AttentionItem> items;
  std::vector<kernels::cuda::AttentionItem> sums;  // what `combine` adds up
  bool spans = false;
  int32_t states = 0;  // for each head tile
};

// warps: what the device can keep busy at once. Where there are fewer tiles than that, their keys are shared
// out.
AttentionPlan plan_attention(const Batch& batch, const CachePlan& cache, const KvGroupSpec& spec,
                             int32_t heads, int32_t warps);

}  // namespace inhouse::cuda
