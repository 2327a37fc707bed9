// What an engine counts.
#pragma once

#include <array>
#include <cstdint>

namespace inhouse {

enum class FinishReason : uint8_t;
struct Usage;

// Counts of values: bucket i has those below bound(i) and not below the bound before, the last all others.
// As it stands, for durations in milliseconds.
struct Histogram {
  static constexpr int kBuckets = 40;
  double first = 0.1;       // bound(0)
  double per_doubling = 2;  // buckets
  std::array<uint64_t, kBuckets> counts{};
  uint64_t count = 0;
  double sum = 0;
  void add(double value);
  double bound(int bucket) const;
};

// What an engine has done since it was made, and what it does now.
struct EngineStats {
  int32_t running = 0, waiting = 0, paused = 0;
  uint64_t requests = 0, finished = 0, cancelled = 0, failed = 0, refused = 0;
  uint64_t prompt_tokens = 0;  // computed
  uint64_t cached_tokens = 0;  // of prompts, that were not computed
  uint64_t completion_tokens = 0;
  uint64_t draft_tokens = 0, accepted_draft_tokens = 0;  // as in Usage, of requests that ended
  uint64_t set_aside = 0;                                // times one gave up its blocks for another
  uint64_t steps = 0, rows = 0;
  int64_t kv_blocks = 0, kv_held = 0, kv_idle = 0;  // of 32 tokens; idle ones hold prefixes to come
  Histogram step, first_token, between_tokens;      // the last one: between steps that gave a request tokens
  Histogram batch{.first = 2, .per_doubling = 1};   // tokens of a step
  // Counts a request that has ended.
  void count(FinishReason reason, const Usage& usage);
};

}  // namespace inhouse
