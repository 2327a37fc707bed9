#include "native/engine/sequence.h"

#include <algorithm>

namespace inhouse {

Usage usage_of(const Sequence& sequence) {
  const Clock::time_point now = Clock::now();
  const bool started = sequence.started != Clock::time_point();
  const bool answered = sequence.first_token != Clock::time_point();
  Usage usage;
  usage.prompt_tokens = sequence.prompt_tokens;
  usage.cached_tokens = sequence.cached;
  usage.computed_prompt_tokens = std::min(sequence.most_computed, sequence.prompt_tokens) - sequence.cached;
  usage.completion_tokens = sequence.drawn;
  usage.dropped_tokens = sequence.dropped;
  usage.draft_tokens = sequence.guessed;
  usage.accepted_draft_tokens = sequence.held;
  usage.queue_ms = milliseconds(sequence.submitted, started ? sequence.started : now);
  if (started) usage.prompt_ms = milliseconds(sequence.started, answered ? sequence.first_token : now);
  if (answered) usage.decode_ms = milliseconds(sequence.first_token, now);
  return usage;
}

}  // namespace inhouse
