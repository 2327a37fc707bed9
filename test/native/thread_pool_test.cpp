// The pool: every chunk once, on the threads asked for, from several callers, with and without steps.
#include "native/core/thread_pool.h"

#include <atomic>
#include <thread>
#include <vector>

#include "test/native/check.h"

using inhouse::ThreadPool;

TEST(every_chunk_runs_once) {
  ThreadPool& pool = ThreadPool::shared();
  CHECK(ThreadPool::available() >= 1);
  for (const int32_t threads : {1, 2, 3, 8}) {
    for (const int64_t chunks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> counts(size_t(chunks) + 1);
      std::atomic<bool> in_range{true};
      pool.run(threads, chunks, [&](int64_t chunk, int32_t worker) {
        counts[size_t(chunk)]++;
        if (worker < 0 || worker >= threads) in_range = false;
      });
      for (int64_t c = 0; c < chunks; ++c) CHECK_EQ(counts[size_t(c)].load(), 1);
      CHECK(in_range.load());
    }
  }
}

// Results written by workers are visible to the caller, and a worker number is one thread at a time.
TEST(regions_order_memory) {
  ThreadPool& pool = ThreadPool::shared();
  int64_t plain[64] = {};
  int64_t per_worker[4] = {};
  pool.begin_step(4);
  for (int round = 0; round < 3000; ++round)
    pool.run(4, 64, [&](int64_t chunk, int32_t worker) {
      plain[chunk] += chunk;
      per_worker[worker]++;
    });
  pool.end_step();
  for (int64_t c = 0; c < 64; ++c) CHECK_EQ(plain[c], 3000 * c);
  CHECK_EQ(per_worker[0] + per_worker[1] + per_worker[2] + per_worker[3], 64 * 3000);
}

TEST(callers_take_turns) {
  std::vector<std::thread> callers;
  std::atomic<int64_t> total{0};
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      ThreadPool& pool = ThreadPool::shared();
      for (int step = 0; step < 50; ++step) {
        pool.begin_step(2);
        for (int i = 0; i < 10; ++i) pool.run(2, 16, [&](int64_t, int32_t) { total++; });
        pool.end_step();
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK_EQ(total.load(), 3 * 50 * 10 * 16);
}
