// A small model that guesses what a larger one writes: for all sequences that want it at once, each token the
// likeliest. It has a cache of its own, which follows what the sequences really draw.
//
// Whatever goes wrong with it costs speed alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "native/engine/engine.h"
#include "native/engine/sequence.h"
#include "native/engine/step_cost.h"
#include "native/model/forward.h"

namespace inhouse {

class Draft {
 public:
  // The options are those of the engine, resolved.
  Draft(const EngineOptions& options, const KvSizes& sizes, int32_t vocabulary);
  static uint64_t cache_bytes_for(const EngineOptions& options, const KvSizes& sizes);
  static uint64_t activation_bytes_for(const EngineOptions& options);
  uint64_t cache_bytes() const { return cache_.bytes(); }
  uint64_t activation_bytes() const { return forward_.bytes(); }

  // Learns from what the sequence has drawn since it was guessed at. Before its tokens are looked at anew.
  void settle(Sequence& sequence);
  // Appends up to `most` guesses and their odds. A sequence of which much is still to be computed gets that,
  // and guesses in a later step.
  void guess(std::span<Sequence* const> sequences, int32_t most);
  void forget(Sequence& sequence) { forget(sequence.draft); }
  void forget(DraftState& state);

  // How often a guess holds given that those before it hold, and the seconds that one more guess at each of
  // so many sequences takes (0: not known).
  double rate() const { return held_ / tried_; }
  double seconds(int32_t sequences) const { return cost_.seconds(sequences); }

 private:
  bool run();
  void add_rows(Sequence& sequence, int32_t count, bool output);
  void read(Sequence& sequence, std::span<const float> logits);

  const EngineOptions& options_;
  int32_t vocabulary_;
  KvCache cache_;
  ForwardPass forward_;
  StepCost cost_;
  GuessRates rates_;
  double tried_, held_;

  std::vector<Sequence*> active_;
  std::vector<int32_t> tokens_, positions_, outputs_;
  std::vector<SequenceSlice> slices_;
  std::vector<float> maxima_, weights_;
};

}  // namespace inhouse
