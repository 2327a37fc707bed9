// The changes to logits that come before any choice: logit bias, and the penalties that look at the history.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "native/engine/sampling.h"

namespace inhouse {

class Penalties {
 public:
  // Keeps a reference to params, which must have been validated and outlive this.
  Penalties(const SamplingParams& params, int32_t vocabulary);

  // Amortized O(1), and O(length of the breakers that end in this token).
  void accept(int32_t token);

  // Whether apply may change anything at all.
  bool active() const { return biased_ || counted_ || repeats_; }

  // Changes logits [vocabulary] in place and adds the ids of changed ones to `touched` (repeats are
  // possible). Logits stay finite or -infinity.
  void apply(std::span<float> logits, std::vector<int32_t>& touched);

 private:
  void apply_counts(std::span<float> logits, std::vector<int32_t>& touched) const;
  void apply_dry(std::span<float> logits, std::vector<int32_t>& touched);

  const SamplingParams* params_;
  int32_t vocabulary_;
  bool biased_;
  bool counted_;  // repetition, frequency or presence penalty
  bool repeats_;  // DRY
  std::vector<int32_t> history_;
  std::unordered_map<int32_t, int32_t> counts_;  // of the last penalty_last_n tokens of the history

  std::unordered_map<int32_t, std::vector<uint32_t>> breakers_by_end_;  // last token → indices of breakers
  std::unordered_set<int32_t> single_breakers_;
  size_t after_breaker_ = 0;  // where in the history the last breaker ended
  std::vector<uint32_t> matches_;
  std::unordered_map<int32_t, uint32_t> longest_;
};

}  // namespace inhouse
