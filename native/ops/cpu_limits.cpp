#include "native/ops/cpu_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "native/core/thread_pool.h"
#include "native/ops/cpu_memory.h"

namespace inhouse {
namespace {

// The buffer that is read: 64 MiB for each thread within these bounds. The last caches of large servers hold
// more than 256 MiB together, but far less than this for each core. A single thread may still find a part of
// its 256 MiB in the cache of a server that shares as much among all cores.
constexpr int64_t kThreadBytes = 64 << 20, kLeastBytes = 256 << 20, kMostBytes = int64_t{2} << 30;
constexpr int64_t kChunk = 4 << 20;
constexpr int64_t kSlack = 64 << 10;  // for prefetches past the end
constexpr int64_t kRounds = 20000;    // a quarter of a millisecond or so

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of many rates: sweeps over all variants, at least two and for about `seconds`.
template <class Sweep>
void repeat(double seconds, Sweep&& sweep) {
  const double start = now();
  for (int done = 0; done < 2 || now() - start < seconds; ++done) sweep();
}

double read_limit(const kernels::Kernels& kernels, int32_t threads, ThreadPool& pool) {
  const int64_t bytes = beyond_caches(threads);
  const CpuMemory memory(bytes + kSlack, true, "the probe of read bandwidth");
  pool.run(threads, bytes / kChunk,
           [&](int64_t c, int32_t) { std::memset(memory.data() + c * kChunk, 1, kChunk); });
  double best = 0;
  repeat(0.4, [&] {
    for (const auto probe : kernels.probe_read) {
      for (const int64_t ahead : {0, 512, 1024, 2048, 4096, 8192}) {
        const double start = now();
        pool.run(threads, bytes / kChunk,
                 [&](int64_t c, int32_t) { probe(memory.data() + c * kChunk, kChunk, ahead); });
        best = std::max(best, double(bytes) / (now() - start));
      }
    }
  });
  return best;
}

double multiply_limit(int64_t (*const (&probes)[kernels::kMultiplyProbes])(int64_t), int32_t threads,
                      ThreadPool& pool) {
  double best = 0;
  repeat(0.2, [&] {
    for (const auto probe : probes) {
      std::atomic<int64_t> done{0};
      const double start = now();
      pool.run(threads, int64_t(threads) * 4, [&](int64_t, int32_t) { done += probe(kRounds); });
      best = std::max(best, double(done.load()) / (now() - start));
    }
  });
  return best;
}

}  // namespace

int64_t beyond_caches(int32_t threads) {
  return std::clamp(kThreadBytes * threads, kLeastBytes, kMostBytes);
}

CpuLimits measure_cpu_limits(const kernels::Kernels& kernels, int32_t threads) {
  ThreadPool& pool = ThreadPool::shared();
  struct Step {  // workers stay awake between passes
    ThreadPool& pool;
    Step(ThreadPool& p, int32_t threads) : pool(p) { pool.begin_step(threads); }
    ~Step() { pool.end_step(); }
  } step(pool, threads);
  CpuLimits limits;
  limits.read_bytes = read_limit(kernels, threads, pool);
  limits.dot_multiply_adds = multiply_limit(kernels.probe_dot, threads, pool);
  limits.float_multiply_adds = multiply_limit(kernels.probe_fma, threads, pool);
  limits.bf16_multiply_adds = kernels.probe_bf16[0] == kernels.probe_fma[0]
                                  ? limits.float_multiply_adds
                                  : multiply_limit(kernels.probe_bf16, threads, pool);
  return limits;
}

}  // namespace inhouse
