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

  // Begins to fill the masks of the sequences that have a constraint. Where no thread can be had, they are
  // filled at once.
  void start(std::span<Sequence* const> sequences, int32_t vocabulary);
  // Waits until all are filled; what went wrong stands in Sequence::mask_error.
  void wait();
  // Fills a sequence's mask at once.
  static void fill(Sequence& sequence, int32_t vocabulary) noexcept;

 private:
  void loop() noexcept;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Sequence*> work_;  // being filled
  int32_t vocabulary_ = 0;
  bool busy_ = false, stop_ = false;
  std::thread thread_;  // from the first constraint on
};

}  // namespace inhouse
