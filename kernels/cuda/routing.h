// Mixture of experts: which experts each row gets, the rows sorted by expert, and the sum of their results,
// as native/ops/routing.h has it.
#pragma once

#include "kernels/cuda/device.h"

namespace inhouse::kernels::cuda {

// A thread for each row.
INHOUSE_DEVICE void choose_experts(const ChooseArgs& a) {
  const int row = block_x() * kRoutingThreads + thread();
  if (row >= a.rows) return;
  const float* logits = a.logits + int64_t(row) * a.count;
  int32_t* best = a.experts + int64_t(row) * a.used;
  float* weights = a.weights + int64_t(row) * a.used;
  for (int e = 0; e < a.count; ++e) {
    // Only a higher logit moves ahead of an earlier one; NaN moves nothing, so every choice stays an expert.
    int k = e < a.used ? e : a.used;
    for (; k > 0 && logits[e] > logits[best[k - 1]]; --k)
      if (k < a.used) best[k] = best[k - 1];
    if (k < a.used) best[k] = e;
  }
  const float top = logits[best[0]];
  float sum = 0;
  for (int k = 0; k < a.used; ++k) {
    weights[k] = exponential(logits[best[k]] - top);
    sum += weights[k];
  }
  if (!a.normalize) {
    sum = 0;
    for (int e = 0; e < a.count; ++e) sum += exponential(logits[e] - top);
  }
  for (int k = 0; k < a.used; ++k) weights[k] *= a.scale / sum;
}

// A thread for each expert at a time.
INHOUSE_DEVICE void sort_by_expert(const SortArgs& a) {
  int32_t* rows = reinterpret_cast<int32_t*>(shared_memory());
  int32_t* first = rows + a.count;
  for (int e = thread(); e < a.count; e += block_threads()) {
    rows[e] = 0;
    for (int i = 0; i < a.choices; ++i) rows[e] += a.experts[i] == e;
  }
  sync_block();
  if (thread() == 0) {
    int place = 0, tiles = 0;
    for (int e = 0; e < a.count; ++e) {
      first[e] = place;
      for (int row = 0; row < rows[e]; row += a.tile_rows) {
        const int left = rows[e] - row;
        a.tiles[tiles++] = {e, place + row, place + row + (left < a.tile_rows ? left : a.tile_rows)};
      }
      place += rows[e];
    }
    for (; tiles < a.most_tiles; ++tiles) a.tiles[tiles] = {0, 0, 0};
  }
  sync_block();
  for (int e = thread(); e < a.count; e += block_threads()) {
    int place = first[e];
    for (int i = 0; i < a.choices; ++i) {
      if (a.experts[i] != e) continue;
      a.places[i] = place;
      a.sources[place++] = i / a.used;
    }
  }
}

INHOUSE_DEVICE void combine_experts(const CombineArgs& a) {
  const int32_t* places = a.places + int64_t(block_x()) * a.used;
  const float* weights = a.weights + int64_t(block_x()) * a.used;
  for (int64_t c = thread(); c < a.width; c += block_threads()) {
    float sum = 0;
    for (int k = 0; k < a.used; ++k) sum += weights[k] * a.parts[places[k] * a.width + c];
    a.out[block_x() * a.width + c] = sum;
  }
}

}  // namespace inhouse::kernels::cuda
