// The host's twin of a CUDA device: runs the threads of a block as fibers, one after the other between points
// where they meet. Slow and exact; for tests, where it is implemented (test/native/cuda_twin).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace inhouse::kernels::cuda::twin {

struct Self {
  int thread, block_threads, block_x, block_y, grid_x;
  uint8_t* shared;
};

// Of the fiber that runs.
const Self& self();

// All threads of the block, or of the warp, meet here. Where some never come, the launch fails.
void sync_block();
void sync_warp();

float shuffle_xor(float value, int mask);
void multiply_add_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
float exponential(float x);
uint32_t half_bits(float x);
float half_value(uint32_t bits);

// Runs `body` with `args` once for each thread of the grid. Blocks run one after the other, with shared
// memory full of what is no number. Throws std::runtime_error where threads wait for others that have ended.
void run(void (*body)(const void* args), const void* args, int grid_x, int grid_y, int threads,
         uint32_t shared_bytes);

}  // namespace inhouse::kernels::cuda::twin
