// What this machine can do at most, for one instruction set: the floors that benchmarks hold figures against.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace inhouse {

// All per second.
struct CpuLimits {
  double read_bytes;           // from memory, beyond all caches
  double dot_multiply_adds;    // of 8-bit integers
  double float_multiply_adds;  // of float32
  double bf16_multiply_adds;   // of BF16 weights: as of float32 where the kernels have nothing faster
};

// How much memory has to be read in turn so that no cache holds what comes next.
int64_t beyond_caches(int32_t threads);

// The best of every way to read and to multiply that the kernels' probes know, over about a second. It takes
// beyond_caches meanwhile (64 MiB per thread, 256 MiB at least and 2 GiB at most), and keeps `threads`
// threads of the pool busy. Errors: out_of_memory.
CpuLimits measure_cpu_limits(const kernels::Kernels& kernels, int32_t threads);

}  // namespace inhouse
