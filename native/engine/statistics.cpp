#include "native/engine/statistics.h"

#include <algorithm>
#include <cmath>

#include "native/engine/engine.h"

namespace inhouse {

double Histogram::bound(int bucket) const {
  return first * std::exp2(bucket / per_doubling);
}

void Histogram::add(double value) {
  const double at = value < first ? 0 : std::ceil(per_doubling * std::log2(value / first) + 1e-9);
  ++counts[size_t(std::min(at, double(kBuckets - 1)))];
  ++count;
  sum += value;
}

void EngineStats::count(FinishReason reason, const Usage& usage) {
  ++(reason == FinishReason::cancelled ? cancelled : reason == FinishReason::error ? failed : finished);
  prompt_tokens += uint64_t(usage.computed_prompt_tokens);
  cached_tokens += uint64_t(usage.cached_tokens);
  completion_tokens += uint64_t(usage.completion_tokens);
  draft_tokens += uint64_t(usage.draft_tokens);
  accepted_draft_tokens += uint64_t(usage.accepted_draft_tokens);
}

}  // namespace inhouse
