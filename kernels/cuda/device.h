// What kernels are written in: CUDA where nvcc compiles them; elsewhere a twin (twin.h) that runs the threads
// of a block as fibers, with the documented semantics of every instruction used, so that kernels can be
// tested without a GPU.
//
// Packed pairs of binary16 numbers are uint32_t, the first in the low half. Names of PTX instructions stand
// beside the wrappers; "PTX ISA", NVIDIA, version 9.0, defines them.
#pragma once

#include <cstdint>

#include "kernels/cuda/args.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define INHOUSE_DEVICE static __device__ __forceinline__
#define INHOUSE_DEVICE_MEMBER __device__ __forceinline__
#define INHOUSE_UNROLL _Pragma("unroll")
#else
#include "kernels/cuda/twin.h"
#define INHOUSE_DEVICE [[maybe_unused]] static inline
#define INHOUSE_DEVICE_MEMBER inline
#define INHOUSE_UNROLL
#endif

namespace inhouse::kernels::cuda {

struct alignas(16) Words4 {
  uint32_t x[4];
};
struct alignas(8) Words2 {
  uint32_t x[2];
};

#ifdef __CUDACC__

INHOUSE_DEVICE int thread() {
  return int(threadIdx.x);
}
INHOUSE_DEVICE int block_threads() {
  return int(blockDim.x);
}
INHOUSE_DEVICE int block_x() {
  return int(blockIdx.x);
}
INHOUSE_DEVICE int block_y() {
  return int(blockIdx.y);
}
INHOUSE_DEVICE int grid_x() {
  return int(gridDim.x);
}
INHOUSE_DEVICE uint8_t* shared_memory() {
  extern __shared__ Words4 shared[];
  return reinterpret_cast<uint8_t*>(shared);
}
INHOUSE_DEVICE void sync_block() {
  __syncthreads();
}
INHOUSE_DEVICE void sync_warp() {
  __syncwarp();
}
INHOUSE_DEVICE float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
INHOUSE_DEVICE float exponential(float x) {
  return __expf(x);
}
INHOUSE_DEVICE float float_of_word(uint32_t bits) {
  return __uint_as_float(bits);
}

// binary32 to binary16, to nearest even.
INHOUSE_DEVICE uint32_t half_bits(float x) {
  return __half_as_ushort(__float2half_rn(x));
}
INHOUSE_DEVICE float half_value(uint32_t bits) {
  return __half2float(__ushort_as_half(uint16_t(bits)));
}
INHOUSE_DEVICE uint32_t half2_subtract(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("sub.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
INHOUSE_DEVICE uint32_t half2_multiply(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("mul.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
INHOUSE_DEVICE uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}

// Through the read-only path.
INHOUSE_DEVICE Words4 load_words4(const void* p) {
  const uint4 v = __ldg(static_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
}
INHOUSE_DEVICE Words2 load_words2(const void* p) {
  const uint2 v = __ldg(static_cast<const uint2*>(p));
  return {{v.x, v.y}};
}
INHOUSE_DEVICE uint32_t load_word(const void* p) {
  return __ldg(static_cast<const uint32_t*>(p));
}

// d += a b with a [16 rows, 16], b [16, 8 columns] of binary16 and sums in float32. With r = lane / 4 and
// q = lane % 4, a lane holds of a: (r, 2q), (r + 8, 2q), (r, 2q + 8), (r + 8, 2q + 8) and what follows each;
// of b: (2q, r), (2q + 8, r) and what follows each along the first dimension; of d: (r, 2q), (r, 2q + 1), (r
// + 8, 2q), (r + 8, 2q + 1).
INHOUSE_DEVICE void multiply_add_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int half = 0; half < 2; ++half)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

#else

INHOUSE_DEVICE int thread() {
  return twin::self().thread;
}
INHOUSE_DEVICE int block_threads() {
  return twin::self().block_threads;
}
INHOUSE_DEVICE int block_x() {
  return twin::self().block_x;
}
INHOUSE_DEVICE int block_y() {
  return twin::self().block_y;
}
INHOUSE_DEVICE int grid_x() {
  return twin::self().grid_x;
}
INHOUSE_DEVICE uint8_t* shared_memory() {
  return twin::self().shared;
}
INHOUSE_DEVICE void sync_block() {
  twin::sync_block();
}
INHOUSE_DEVICE void sync_warp() {
  twin::sync_warp();
}
INHOUSE_DEVICE float shuffle_xor(float value, int mask) {
  return twin::shuffle_xor(value, mask);
}
INHOUSE_DEVICE float exponential(float x) {
  return twin::exponential(x);
}
INHOUSE_DEVICE float float_of_word(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
INHOUSE_DEVICE uint32_t half_bits(float x) {
  return twin::half_bits(x);
}
INHOUSE_DEVICE float half_value(uint32_t bits) {
  return twin::half_value(bits);
}
INHOUSE_DEVICE uint32_t half2_subtract(uint32_t a, uint32_t b) {
  return half_bits(half_value(a & 0xffffu) - half_value(b & 0xffffu)) |
         half_bits(half_value(a >> 16) - half_value(b >> 16)) << 16;
}
INHOUSE_DEVICE uint32_t half2_multiply(uint32_t a, uint32_t b) {
  return half_bits(half_value(a & 0xffffu) * half_value(b & 0xffffu)) |
         half_bits(half_value(a >> 16) * half_value(b >> 16)) << 16;
}
INHOUSE_DEVICE uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t(b) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) out |= uint32_t(bytes >> 8 * (selector >> 4 * i & 7u) & 255u) << 8 * i;
  return out;
}
INHOUSE_DEVICE Words4 load_words4(const void* p) {
  return *static_cast<const Words4*>(p);
}
INHOUSE_DEVICE Words2 load_words2(const void* p) {
  return *static_cast<const Words2*>(p);
}
INHOUSE_DEVICE uint32_t load_word(const void* p) {
  return *static_cast<const uint32_t*>(p);
}
INHOUSE_DEVICE void multiply_add_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  twin::multiply_add_16x8x16(d, a, b);
}

#endif

INHOUSE_DEVICE int lane() {
  return thread() % kWarp;
}
INHOUSE_DEVICE int warp() {
  return thread() / kWarp;
}

INHOUSE_DEVICE uint32_t pack_halves(float low, float high) {
  return half_bits(low) | half_bits(high) << 16;
}

// Of all lanes of a warp, in an order that does not depend on the lane.
INHOUSE_DEVICE float warp_sum(float value) {
  INHOUSE_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
INHOUSE_DEVICE float larger(float a, float b) {
  return a > b ? a : b;
}
INHOUSE_DEVICE float warp_largest(float value) {
  INHOUSE_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = larger(value, shuffle_xor(value, mask));
  return value;
}

// Of all threads of a block, which is a whole number of warps; `room` has 32 numbers.
INHOUSE_DEVICE float block_sum(float value, float* room) {
  value = warp_sum(value);
  sync_block();
  if (lane() == 0) room[warp()] = value;
  sync_block();
  float sum = 0;
  for (int w = 0; w < block_threads() / kWarp; ++w) sum += room[w];
  return sum;
}
INHOUSE_DEVICE float block_largest(float value, float* room) {
  value = warp_largest(value);
  sync_block();
  if (lane() == 0) room[warp()] = value;
  sync_block();
  float largest = room[0];
  for (int w = 1; w < block_threads() / kWarp; ++w) largest = larger(largest, room[w]);
  return largest;
}

}  // namespace inhouse::kernels::cuda
