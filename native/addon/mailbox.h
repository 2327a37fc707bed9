// The way from any thread to one environment's JavaScript thread. One thread-safe function per environment
// carries all of it: sources that have something to say queue up, and one call lets each of them speak. A
// source queues at most once until it has spoken and merges what it has meanwhile, so memory stays bounded
// when JavaScript is busy.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

namespace inhouse::addon {

class Source {
 public:
  virtual ~Source() = default;
  // On the JavaScript thread, in a handle scope.
  virtual void deliver(Napi::Env env) = 0;

 private:
  friend class Mailbox;
  std::shared_ptr<Source> next_;  // in the mailbox's queue
};

class Mailbox {
 public:
  // Does not keep the event loop alive until `hold` is called.
  static std::shared_ptr<Mailbox> create(Napi::Env env);

  // From any thread; not while the source is queued. Dropped silently once closed. Takes no memory of ours.
  void post(std::shared_ptr<Source> source) noexcept;

  // JavaScript thread only: the loop stays alive while holds outnumber releases.
  void hold(Napi::Env env);
  void release(Napi::Env env);

  // JavaScript thread, when the environment ends. Nothing is delivered afterwards.
  void close();

 private:
  void drain(Napi::Env env);
  std::shared_ptr<Source> take_all();  // the first; each holds the next

  std::mutex mutex_;
  napi_threadsafe_function function_ = nullptr;  // null once closed
  std::shared_ptr<Source> first_;
  Source* last_ = nullptr;
  bool scheduled_ = false;
  int holds_ = 0;
};

}  // namespace inhouse::addon
