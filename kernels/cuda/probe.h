// What the device can do at most, for benchmarks: reads from memory, and matrix instructions.
#pragma once

#include "kernels/cuda/device.h"

namespace inhouse::kernels::cuda {

// All blocks read the data once, 64 bytes of each thread at a time.
INHOUSE_DEVICE void probe_read(const ProbeArgs& a) {
  constexpr int kLoads = 4;
  const int64_t words = a.bytes / 16, stride = int64_t(grid_x()) * kProbeThreads;
  uint32_t sum = 0;
  for (int64_t i = int64_t(block_x()) * kProbeThreads + thread(); i < words; i += kLoads * stride) {
    Words4 w[kLoads] = {};
    INHOUSE_UNROLL
    for (int j = 0; j < kLoads; ++j)
      if (i + j * stride < words) w[j] = load_words4(a.data + (i + j * stride) * 16);
    INHOUSE_UNROLL
    for (int j = 0; j < kLoads; ++j) sum += w[j].x[0] ^ w[j].x[1] ^ w[j].x[2] ^ w[j].x[3];
  }
  if (sum == 0x1234567u && a.rounds < 0) *a.out = sum;
}

// Products into kProbeSums sums that do not wait for each other.
INHOUSE_DEVICE void probe_multiply(const ProbeArgs& a) {
  float sums[kProbeSums][4] = {};
  const uint32_t seed = uint32_t(thread());
  const uint32_t first[4] = {seed, seed + 1, seed + 2, seed + 3}, second[2] = {seed + 4, seed + 5};
  for (int round = 0; round < a.rounds; ++round) {
    INHOUSE_UNROLL
    for (int i = 0; i < kProbeSums; ++i) multiply_add_16x8x16(sums[i], first, second);
  }
  float sum = 0;
  for (const auto& part : sums)
    for (const float number : part) sum += number;
  if (sum == 1.5f && a.rounds < 0) *a.out = 1;
}

}  // namespace inhouse::kernels::cuda
