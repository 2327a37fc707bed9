// A request as the engine works on it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "native/engine/engine.h"
#include "native/engine/kv_cache.h"
#include "native/engine/lookup.h"
#include "native/engine/stop_matcher.h"

namespace inhouse {

using Clock = std::chrono::steady_clock;

inline double milliseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// What a draft model knows of a sequence.
struct DraftState {
  BlockTables cache;
  int32_t computed = 0;          // tokens whose K and V are in its cache; of `size` and then of its guesses
  int32_t size = 0;              // of the sequence when it was guessed at
  std::vector<int32_t> guesses;  // at what follows
  std::vector<int32_t> classes;  // of their probabilities
};

struct EmbedCall;

// A text of which a vector is wanted, as its sequence keeps it.
struct PooledText {
  EmbedCall* call;
  int32_t index;
  int32_t rows = 0;         // of hidden states that the sum has
  std::vector<double> sum;  // [width], in the order of positions, so that no bit depends on chunks
};

// From submit to its last event. Its tokens are those of the prompt and then those drawn; computing them
// gives K and V for the cache, and the last one's logits the next token. So it makes no difference whether a
// sequence is in its prompt, writes, or is computed again after it was set aside.
struct Sequence {
  // Checks the sampling settings. Error: invalid_argument.
  Sequence(RequestSpec request, int32_t vocabulary)
      : spec(std::move(request)),
        tokens(std::move(spec.prompt)),
        prompt_tokens(int32_t(tokens.size())),
        sampler(spec.sampling, vocabulary, spec.top_logprobs),
        stop_matcher(spec.stop),
        submitted(Clock::now()) {
    if (spec.evaluate || spec.prompt_logprobs) logits_from = spec.logits_from;
  }

  uint64_t id = 0;
  RequestSpec spec;  // without its prompt:
  std::vector<int32_t> tokens;
  int32_t prompt_tokens;
  Sampler sampler;
  StopMatcher stop_matcher;
  std::unique_ptr<PooledText> text;  // of a call of `embed`, else null
  std::string scope;                 // of the prefixes it shares
  int32_t max_tokens = 0;            // resolved: what the context leaves room for
  int32_t drawn = 0;                 // tokens after the prompt
  int32_t computed = 0;              // tokens whose K and V are in the cache
  int32_t most_computed = 0;         // before it was set aside
  int32_t cached = 0;                // of the prompt's tokens, those that came from the cache
  int32_t dropped = 0;               // the oldest tokens, which made room
  // The first token whose logits or hidden states are still to be delivered; beyond all tokens where none
  // are.
  int32_t logits_from = INT32_MAX;
  bool running = false;  // has a place, and blocks:
  BlockTables cache;
  std::vector<uint32_t> mask;       // of the next token, where there is a constraint
  std::optional<Error> mask_error;  // why there is none
  bool seen = false;                // by a step: the sampler knows the prompt
  bool awaits = false;              // its reader's acknowledgement, or the logits it changes
  uint64_t last_step = 0;           // that carried it, or before which it was admitted or took over blocks
  PromptLookup lookup;
  std::vector<int32_t> guesses;  // at the tokens that come next, which the step carries
  std::vector<double> odds;      // that each holds
  int32_t guessed = 0, held = 0;
  DraftState draft;
  Clock::time_point submitted, started, first_token, last_token;

  int32_t size() const { return int32_t(tokens.size()); }
  int32_t left() const { return size() - computed; }
  // Only the token drawn last is to be computed.
  bool decoding() const { return left() == 1 && drawn > 0; }
  bool draws() const { return !spec.evaluate && max_tokens > 0; }
  // Whether it may come to need more blocks than it holds.
  bool wants_blocks() const {
    const int64_t most = int64_t(size()) + (draws() ? max_tokens - drawn - 1 : 0);
    return most > int64_t(cache.blocks.empty() ? 0 : cache.blocks[0].size()) * kKvBlockTokens;
  }
  // Tokens that may come from the cache: not those whose logits or hidden states are wanted.
  std::span<const int32_t> shareable() const {
    return {tokens.data(), size_t(std::min(logits_from, size() - 1))};
  }
};

// Of a request that ends now.
Usage usage_of(const Sequence& sequence);

// Lists, so that requests change hands without allocation.
using SequenceList = std::list<std::unique_ptr<Sequence>>;

// Who goes first: the higher priority, of equal ones the request that came first.
inline bool goes_before(const Sequence& a, const Sequence& b) {
  return a.spec.priority != b.spec.priority ? a.spec.priority > b.spec.priority : a.id < b.id;
}

}  // namespace inhouse
