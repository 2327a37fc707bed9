// One engine as the binding holds it: it receives the engine's events on the engine's thread, merges those
// that JavaScript has not taken yet, and delivers them. It outlives its engine, which ends on a thread of its
// own.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "native/addon/jobs.h"
#include "native/addon/mailbox.h"
#include "native/engine/engine.h"

namespace inhouse::addon {

class Session final : public EventSink,
                      public Source,
                      public Stoppable,
                      public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Mailbox> mailbox, std::shared_ptr<JobGroup> jobs, uint64_t on_events,
          int32_t vocabulary)
      : mailbox_(std::move(mailbox)),
        jobs_(std::move(jobs)),
        on_events_(on_events),
        vocabulary_(vocabulary) {}
  ~Session() override { engine_.reset(); }  // before what its last events would touch

  // Blocking. Throws what Engine::create throws, or disposed if it was stopped meanwhile.
  void start(std::shared_ptr<Model> model, Vocabulary vocabulary, const EngineOptions& options);
  // The engine, or an Error disposed.
  std::shared_ptr<Engine> engine();
  // Its model, or an Error disposed.
  std::shared_ptr<const Model> model();
  // The engine for its last owner to destroy, which blocks until its step ends; null if it is gone already.
  std::shared_ptr<Engine> take_engine();
  void stop() noexcept override;

  void on_events(std::vector<Event>&& events) override;
  void deliver(Napi::Env env) override;

  // JavaScript thread: a request keeps the loop alive until its last event, or until the engine has ended.
  void opened(Napi::Env env, uint64_t request);
  void closed_all(Napi::Env env);
  // A paused request, which nobody reads, does not.
  void paused(Napi::Env env, uint64_t request);
  void resumed(Napi::Env env, uint64_t request);
  uint64_t events_callback() const { return on_events_; }

  // Rows [from, from + count) of a request's evaluate event, [count, vocabulary], until it is acknowledged.
  Napi::Value rows(Napi::Env env, uint64_t request, size_t from, size_t count);
  void drop_rows(uint64_t request);
  // Nobody wants rows of this request any more.
  void unwanted(uint64_t request);

  // JavaScript thread: the tokens whose text contains one of these, of which the last few answers are kept.
  const std::vector<int32_t>& tokens_containing(const std::vector<std::string>& breakers);

 private:
  void keep(Event&& event);  // with the lock
  void cancel(uint64_t request);
  void tell(Napi::Env env, std::vector<Event>& events, bool lost);
  Napi::Value details_value(Napi::Env env, Event& event);

  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<JobGroup> jobs_;
  const uint64_t on_events_;
  const int32_t vocabulary_;

  std::mutex mutex_;  // of what follows
  std::shared_ptr<Engine> engine_;
  std::weak_ptr<const Model> model_;  // the engine's
  bool stopped_ = false;
  bool posted_ = false;
  bool lost_ = false;  // events did not fit into memory, here or in JavaScript
  std::vector<Event> pending_;
  std::unordered_map<uint64_t, size_t> merged_;  // by request: its event among the pending ones

  // JavaScript thread only.
  void forget(Napi::Env env, uint64_t request);
  struct Open {
    bool holds = true;   // the loop
    bool wanted = true;  // its rows
  };
  std::unordered_map<uint64_t, Open> open_;
  std::unordered_map<uint64_t, std::vector<float>> rows_;
  std::vector<std::pair<std::vector<std::string>, std::vector<int32_t>>> breaker_tokens_;
};

}  // namespace inhouse::addon
