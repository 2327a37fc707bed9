// Threads of the binding: everything that may take long runs on one of them, never on the event loop or
// libuv's pool. A group belongs to one JavaScript environment; when that ends, or the process does, what runs
// is stopped and waited for, so that no thread of ours meets a half-destroyed process.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace inhouse::addon {

// Something that runs on and can be told to end. `stop` only says so and does not wait; it may be called from
// any thread, and more than once.
class Stoppable {
 public:
  virtual ~Stoppable() = default;
  virtual void stop() noexcept = 0;
};

class JobGroup : public std::enable_shared_from_this<JobGroup> {
 public:
  static std::shared_ptr<JobGroup> create();

  // Runs `work` on a thread of its own, and destroys it there. Where no thread can be had, it runs here and
  // now.
  void run(std::function<void()> work) noexcept;

  // Lets go of `object`, and then of what must outlive it. The last reference goes on a thread of its own, or
  // here and now where no thread can be had; one of several goes here and now. Should the others be let go of
  // in that very moment, this one turns out to be the last after all, and the caller frees the object: rare
  // (a load that fails while its engine ends), harmless, and as long as freeing takes.
  void retire(std::shared_ptr<void> object, std::shared_ptr<void> outlives = nullptr) noexcept;

  // To be stopped with the group; at once if that has happened already.
  void add(const std::shared_ptr<Stoppable>& stoppable);

  // Stops what was added and waits for all threads, ten seconds at most.
  void stop_and_wait() noexcept;

 private:
  void started() noexcept;
  void finished() noexcept;

  std::mutex mutex_;
  std::condition_variable idle_;
  int running_ = 0;
  bool stopped_ = false;
  std::vector<std::weak_ptr<Stoppable>> stoppables_;
};

}  // namespace inhouse::addon
