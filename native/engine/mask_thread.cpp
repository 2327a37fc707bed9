#include "native/engine/mask_thread.h"

#include <system_error>

#include "native/platform/processors.h"

namespace inhouse {

MaskThread::~MaskThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MaskThread::start(std::span<Sequence* const> sequences, int32_t vocabulary) {
  if (sequences.empty()) return;
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { loop(); });
    } catch (const std::system_error&) {
      for (Sequence* sequence : sequences) fill(*sequence, vocabulary);
      return;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    work_.assign(sequences.begin(), sequences.end());
    vocabulary_ = vocabulary;
    busy_ = true;
  }
  changed_.notify_all();
}

void MaskThread::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !busy_; });
}

void MaskThread::loop() noexcept {
  name_this_thread("inhouse-mask");
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return busy_ || stop_; });
    if (stop_) return;
    lock.unlock();
    for (Sequence* sequence : work_) fill(*sequence, vocabulary_);
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

void MaskThread::fill(Sequence& sequence, int32_t vocabulary) noexcept {
  try {
    sequence.mask_error.reset();
    sequence.mask.assign((size_t(vocabulary) + 31) / 32, 0);
    sequence.spec.constraint->allow(sequence.mask);
  } catch (...) {
    sequence.mask_error = describe_current_exception();
  }
}

}  // namespace inhouse
