// Calls of Engine::embed at work. Each text is a sequence of the scheduler, beside those that are writing; it
// needs no place among them, only blocks while it is computed. A call's texts become sequences a few at a
// time, as many as fill a step, so that however many there are, a request that comes later need not wait for
// all of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <vector>

#include "native/engine/scheduler.h"

namespace inhouse {

struct EmbedCall {
  uint64_t id = 0;
  EmbedSpec spec;
  std::string scope;
  Clock::time_point submitted, started;
  size_t next = 0;                   // text that has no sequence yet
  size_t done = 0;                   // texts
  int32_t cached = 0, computed = 0;  // tokens
  // What the next event tells.
  std::vector<int32_t> texts;
  std::vector<float> vectors;
  std::optional<Error> error;
};

class Embeddings {
 public:
  // step_tokens: those of one step.
  Embeddings(Scheduler& scheduler, int32_t vocabulary, int32_t width, int32_t step_tokens)
      : scheduler_(scheduler), vocabulary_(vocabulary), width_(width), step_tokens_(step_tokens) {}

  void add(std::list<EmbedCall>& arrived) noexcept { calls_.splice(calls_.end(), arrived); }
  // Makes sequences of the next texts until those of their priority and higher ones fill a step.
  void feed(std::atomic<uint64_t>& next_id);
  // A step has carried tokens of a text: its call waits no more.
  void carried(const Sequence& sequence);
  // Adds the hidden states [n, width] of a text's next tokens; the text is done with its last one, and its
  // sequence gone.
  void pool(Sequence& sequence, std::span<const float> rows);
  // What goes wrong with one text ends its call, with the next `flush`.
  void fail(Sequence& sequence, Error error);
  // Adds events about texts that are done, and the last ones of calls that have ended.
  void flush(std::vector<Event>& events);
  // Ends a call, if there is such a one, and adds its last event.
  void end(uint64_t id, FinishReason reason, std::optional<Error> error, std::vector<Event>& events);
  // Ends all calls, whose sequences have left the scheduler already.
  void end_all(FinishReason reason, const std::optional<Error>& error, std::vector<Event>& events) noexcept;

  template <class F>
  void each(F f) const {
    for (const EmbedCall& call : calls_) f(call);
  }

 private:
  std::list<EmbedCall>::iterator next_call();
  void finish(std::list<EmbedCall>::iterator call, FinishReason reason, std::optional<Error> error,
              std::vector<Event>& events);

  Scheduler& scheduler_;
  int32_t vocabulary_, width_, step_tokens_;
  std::list<EmbedCall> calls_;
  std::vector<Sequence*> active_;
  SequenceList made_;
};

}  // namespace inhouse
