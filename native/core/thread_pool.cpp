#include "native/core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>

#include "native/platform/processors.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace inhouse {
namespace {

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// How often a worker looks for the next job within a step before it parks: some tens of microseconds, longer
// than the scalar work between two parallel regions, shorter than what a waiting event loop would notice.
constexpr int kWorkerSpins = 4000;
// How long the caller spins for workers that finish their last chunk before it yields its processor to them.
constexpr int kCallerSpins = 20000;
constexpr int32_t kMaxThreads = 512;

// A job is open while its caller works on it. Workers enter an open job and leave it; the caller closes it
// when the chunks are handed out and waits only for those that entered. So a worker that is parked, late or
// (after a fork) not there at all costs parallelism but never a wait.
//
// state: job number in the upper 32 bits, then one bit `open`, then the count of workers inside.
constexpr uint64_t kOpen = 1ull << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr uint32_t number_of(uint64_t state) {
  return uint32_t(state >> 32);
}

class Pool final : public ThreadPool {
 public:
  void run(int32_t threads, int64_t chunks, FunctionRef<void(int64_t, int32_t)> task) override {
    threads = int32_t(std::min({int64_t(threads), int64_t(kMaxThreads), chunks}));
    if (threads <= 1) {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) task(chunk, 0);
      return;
    }
    std::lock_guard<std::mutex> turn(turn_);
    grow(threads - 1);
    task_ = &task;
    chunks_ = chunks;
    for (int32_t i = 0; i < threads; ++i)
      shares_[i].next.store(share_begin(i, threads, chunks), std::memory_order_relaxed);
    threads_.store(threads, std::memory_order_relaxed);
    const uint64_t number = uint64_t(uint32_t(number_of(state_.load(std::memory_order_relaxed)) + 1)) << 32;
    state_.store(number | kOpen, std::memory_order_seq_cst);
    wake();
    work(task, chunks, threads, 0);
    uint64_t state = state_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    for (int spins = 0; (state & kInside) != 0; ++spins) {
      if (spins < kCallerSpins) {
        relax();
      } else {
        std::this_thread::yield();
      }
      state = state_.load(std::memory_order_acquire);
    }
  }

  void begin_step(int32_t threads) override {
    int32_t most = step_threads_.load(std::memory_order_relaxed);
    while (most < threads && !step_threads_.compare_exchange_weak(most, threads)) {
    }
    steps_.fetch_add(1, std::memory_order_seq_cst);
    if (threads > 1) wake();
  }

  void end_step() override {
    // Another engine's step that begins just now may find its workers parked: slower, never wrong.
    if (steps_.fetch_sub(1, std::memory_order_seq_cst) == 1)
      step_threads_.store(0, std::memory_order_relaxed);
  }

 private:
  void wake() {
    wakes_.fetch_add(1, std::memory_order_seq_cst);
    if (parked_.load(std::memory_order_seq_cst) > 0) wakes_.notify_all();
  }

  // Starts workers up to `wanted`. Where the system refuses a thread, the pool stays smaller.
  void grow(int32_t wanted) {
    while (workers_ < wanted && !refused_) {
      try {
        std::thread([this, worker = workers_ + 1] { serve(worker); }).detach();
        ++workers_;
      } catch (const std::system_error&) {
        refused_ = true;
      }
    }
  }

  // Each worker goes through a range of its own, so that it reads memory in one stream, and then takes from
  // the ranges of those that are behind.
  static int64_t share_begin(int32_t worker, int32_t threads, int64_t chunks) {
    return chunks / threads * worker + std::min<int64_t>(worker, chunks % threads);
  }
  void work(FunctionRef<void(int64_t, int32_t)>& task, int64_t chunks, int32_t threads, int32_t worker) {
    for (int32_t i = 0; i < threads; ++i) {
      const int32_t owner = worker + i < threads ? worker + i : worker + i - threads;
      const int64_t end = share_begin(owner + 1, threads, chunks);
      for (;;) {
        const int64_t chunk = shares_[owner].next.fetch_add(1, std::memory_order_relaxed);
        if (chunk >= end) break;
        task(chunk, worker);
      }
    }
  }

  // Enters the open job, if there is one for this worker that it has not seen, and helps.
  void help(int32_t worker, uint32_t& seen) {
    uint64_t state = state_.load(std::memory_order_acquire);
    while ((state & kOpen) && number_of(state) != seen && worker < threads_.load(std::memory_order_relaxed)) {
      if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
      seen = number_of(state);
      work(*task_, chunks_, threads_.load(std::memory_order_relaxed), worker);
      state_.fetch_sub(1, std::memory_order_acq_rel);
      return;
    }
  }

  void serve(int32_t worker) {
    name_this_thread("inhouse-worker");
    uint32_t seen = 0;
    for (;;) {
      const uint32_t wakes = wakes_.load(std::memory_order_seq_cst);
      help(worker, seen);
      for (int spins = 0; spins < kWorkerSpins; ++spins) {
        if (steps_.load(std::memory_order_relaxed) == 0) break;
        if (worker >= step_threads_.load(std::memory_order_relaxed)) break;
        if (wakes_.load(std::memory_order_relaxed) != wakes) break;
        relax();
      }
      parked_.fetch_add(1, std::memory_order_seq_cst);
      // Returns at once where a job or step came after `wakes` was read.
      wakes_.wait(wakes, std::memory_order_seq_cst);
      parked_.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  std::mutex turn_;  // one job at a time; guards workers_, refused_
  int32_t workers_ = 0;
  bool refused_ = false;

  alignas(64) std::atomic<uint64_t> state_{0};
  FunctionRef<void(int64_t, int32_t)>* task_ = nullptr;
  int64_t chunks_ = 0;
  std::atomic<int32_t> threads_{0};
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
  };
  Share shares_[kMaxThreads];
  alignas(64) std::atomic<uint32_t> wakes_{0};
  std::atomic<int32_t> parked_{0};
  std::atomic<int32_t> steps_{0};
  std::atomic<int32_t> step_threads_{0};
};

}  // namespace

ThreadPool& ThreadPool::shared() {
  static Pool* pool = new Pool;
  return *pool;
}

int32_t ThreadPool::available() {
  static const int32_t count = usable_processors();
  return count;
}

}  // namespace inhouse
