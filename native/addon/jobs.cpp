#include "native/addon/jobs.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

namespace inhouse::addon {
namespace {

// All groups of the process. Never destroyed: threads may outlive static destructors.
struct Groups {
  std::mutex mutex;
  std::vector<std::weak_ptr<JobGroup>> list;
};

Groups& groups() {
  static Groups* const instance = new Groups;
  return *instance;
}

// process.exit() does not run the main environment's cleanup hooks, so the groups end here at the latest:
// before the static destructors of everything that was loaded earlier than the first group.
void stop_all_groups() {
  std::vector<std::weak_ptr<JobGroup>> list;
  {
    std::lock_guard lock(groups().mutex);
    list = groups().list;
  }
  for (const auto& entry : list)
    if (auto group = entry.lock()) group->stop_and_wait();
}

template <class T>
void drop_expired(std::vector<std::weak_ptr<T>>& list) {
  list.erase(std::remove_if(list.begin(), list.end(), [](const auto& entry) { return entry.expired(); }),
             list.end());
}

}  // namespace

std::shared_ptr<JobGroup> JobGroup::create() {
  static const int registered = std::atexit(stop_all_groups);
  (void)registered;
  auto group = std::make_shared<JobGroup>();
  std::lock_guard lock(groups().mutex);
  drop_expired(groups().list);
  groups().list.push_back(group);
  return group;
}

void JobGroup::run(std::function<void()> work) noexcept {
  started();
  auto shared = std::shared_ptr<std::function<void()>>();
  try {
    shared = std::make_shared<std::function<void()>>(std::move(work));
    std::thread([self = shared_from_this(), shared]() mutable {
      try {
        (*shared)();
      } catch (...) {  // jobs report their own failures; nothing may leave a thread
      }
      *shared = nullptr;  // what it captured is destroyed here, not by the thread that started it
      self->finished();
    }).detach();
    return;
  } catch (...) {
  }
  try {
    if (shared)
      (*shared)();
    else
      work();
  } catch (...) {
  }
  finished();
}

void JobGroup::retire(std::shared_ptr<void> object, std::shared_ptr<void> outlives) noexcept {
  struct Parcel {
    std::shared_ptr<void> object, outlives;
    void open() noexcept {
      object.reset();
      outlives.reset();
    }
  };
  if (!object) return;
  // Where others hold it too, this reference goes at once: on a thread that starts late it might become the
  // last one, and whoever ends the engine and waits for that (dispose) would find the weights still there.
  // The count may fall between the two lines, see jobs.h; no shared_ptr lets go "unless last".
  if (object.use_count() > 1) {
    object.reset();
    return;
  }
  started();
  auto parcel = std::shared_ptr<Parcel>();
  try {
    parcel = std::make_shared<Parcel>();
    parcel->object = std::move(object);
    parcel->outlives = std::move(outlives);
    std::thread([self = shared_from_this(), parcel] {
      parcel->open();
      self->finished();
    }).detach();
    return;
  } catch (...) {
  }
  if (parcel) parcel->open();
  object.reset();
  outlives.reset();
  finished();
}

void JobGroup::started() noexcept {
  std::lock_guard lock(mutex_);
  ++running_;
}

void JobGroup::finished() noexcept {
  std::lock_guard lock(mutex_);
  if (--running_ == 0) idle_.notify_all();
}

void JobGroup::add(const std::shared_ptr<Stoppable>& stoppable) {
  {
    std::lock_guard lock(mutex_);
    if (!stopped_) {
      drop_expired(stoppables_);
      stoppables_.push_back(stoppable);
      return;
    }
  }
  stoppable->stop();
}

void JobGroup::stop_and_wait() noexcept {
  std::unique_lock lock(mutex_);
  stopped_ = true;
  auto list = std::move(stoppables_);
  stoppables_.clear();
  lock.unlock();
  for (const auto& entry : list)
    if (auto stoppable = entry.lock()) stoppable->stop();
  lock.lock();
  // A step of a large model on a slow machine takes seconds. Should it take longer than this, its thread is
  // left to itself: the library is never unloaded and the thread touches nothing of Node.
  idle_.wait_for(lock, std::chrono::seconds(10), [this] { return running_ == 0; });
}

}  // namespace inhouse::addon
