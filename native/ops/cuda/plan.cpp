#include "native/ops/cuda/plan.h"

#include <algorithm>

namespace inhouse::cuda {

using namespace kernels::cuda;

CachePlan plan_cache(const Batch& batch, int32_t group) {
  CachePlan plan;
  plan.blocks.resize(size_t(batch.rows()));
  plan.positions.assign(batch.positions.begin(), batch.positions.end());
  for (const SequenceSlice& slice : batch.slices) {
    const int32_t* table = slice.tables[group];
    const int32_t blocks = (slice.position + slice.count + kKvBlockTokens - 1) / kKvBlockTokens;
    plan.table_of.push_back(int32_t(plan.tables.size()));
    plan.tables.insert(plan.tables.end(), table, table + blocks);
    for (int32_t i = 0; i < slice.count; ++i)
      plan.blocks[size_t(slice.row + i)] = table[(slice.position + i) / kKvBlockTokens];
  }
  return plan;
}

AttentionPlan plan_attention(const Batch& batch, const CachePlan& cache, const KvGroupSpec& spec,
                             int32_t heads, int32_t warps) {
  // A warp takes single parts up to this many, and whole spans beyond.
  constexpr int32_t kMostSingleParts = 32;
  AttentionPlan plan;
  const int32_t queries = tile_queries(heads, spec.kv_heads);
  for (size_t s = 0; s < batch.slices.size(); ++s) {
    const SequenceSlice& slice = batch.slices[s];
    for (int32_t i = 0; i < slice.count; i += queries)
      plan.tiles.push_back(
          {slice.row + i, std::min(queries, slice.count - i), slice.position + i, cache.table_of[s]});
  }
  struct Parts {
    int32_t begin, end;
  };
  const auto parts_of = [&](const AttentionTile& tile) {
    const int32_t first = spec.window > 0 ? std::max(0, tile.position - spec.window + 1) : 0;
    return Parts{first / kPartTokens, (tile.position + tile.queries - 1) / kPartTokens + 1};
  };
  int32_t most = 0;
  for (const AttentionTile& tile : plan.tiles) {
    const Parts parts = parts_of(tile);
    most = std::max(most, parts.end - parts.begin);
  }
  const bool share = int64_t(plan.tiles.size()) * head_tiles(heads, spec.kv_heads) < warps;
  plan.spans = most > kMostSingleParts;
  const int32_t piece = plan.spans ? kSpanParts : 1;
  for (int32_t t = 0; t < int32_t(plan.tiles.size()); ++t) {
    const Parts parts = parts_of(plan.tiles[size_t(t)]);
    const int32_t first = parts.begin / piece, end = (parts.end + piece - 1) / piece;
    if (!share || end - first == 1) {
      plan.items.push_back({t, parts.begin, parts.end, -1});
      continue;
    }
    plan.sums.push_back({t, first, end, plan.states});
    for (int32_t p = first; p < end; ++p)
      plan.items.push_back(
          {t, std::max(parts.begin, p * piece), std::min(parts.end, (p + 1) * piece), plan.states++});
  }
  return plan;
}

}  // namespace inhouse::cuda
