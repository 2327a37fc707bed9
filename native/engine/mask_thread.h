// A thread beside the engine's that finds out what constraints allow while the forward pass runs.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "native/engine/sequence.h"

namespace inhouse {

class MaskThread {
 public:
  MaskThread() = default;
  ~MaskThread();

  // Has the masks of the sequences, which have a constraint each, filled beside what its scope does, and
  // waits for them at its end, also where something is thrown: nobody may lose a sequence before. Where no
  // thread can be had, they are filled at once. What went wrong stands in Sequence::mask_error.
  class Filling {
   public:
    Filling(MaskThread& thread, std::span<Sequence* const> sequences, int32_t vocabulary) : thread_(thread) {
      thread.start(sequences, vocabulary);
    }
    ~Filling() { thread_.wait(); }
    Filling(const Filling&) = delete;
    Filling& operator=(const Filling&) = delete;

   private:
    MaskThread& thread_;
  };
  // Fills a sequence's mask at once.
  static void fill(Sequence& sequence, int32_t vocabulary) noexcept;

 private:
  void start(std::span<Sequence* const> sequences, int32_t vocabulary);
  void wait();
  void loop() noexcept;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Sequence*> work_;  // being filled
  int32_t vocabulary_ = 0;
  bool busy_ = false, stop_ = false;
  std::thread thread_;  // from the first constraint on
};

}  // namespace inhouse
