// Speculation: a step may carry guesses at a sequence's next tokens after the token drawn last. Each guess
// that turns out to be what the sequence draws spares it a step; the others cost their share of a step's time
// and nothing else, as what is drawn never depends on them.
//
// How many are tried is what makes all writing sequences together fastest, by how often guesses held and what
// further rows cost, both learned while working. So only the speed depends on time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "native/engine/draft.h"
#include "native/engine/engine.h"
#include "native/engine/sequence.h"
#include "native/engine/step_cost.h"

namespace inhouse {

// Guesses of a sequence in one step, at most.
inline constexpr int32_t kMostGuesses = 23;

class Speculation {
 public:
  // `vocabulary`: of the tokens that may be guessed.
  Speculation(const EngineOptions& options, const KvSizes& sizes, int32_t vocabulary);

  // Gives each of `writing` the guesses that the step is to carry, at most `room` in all.
  void guess(std::span<Sequence* const> writing, int32_t room);
  // Lets go of what is known of a sequence whose tokens change, or that gives its place away.
  void forget(Sequence& sequence);
  const Draft* draft() const { return draft_.get(); }
  // Takes note of how long a step without prompts took.
  void took(int32_t rows, double seconds) { cost_.record(rows, seconds); }

 private:
  int32_t most_of(const Sequence& sequence) const;
  void look_up(Sequence& sequence);
  void draft(std::span<Sequence* const> writing);
  int32_t draft_length(int32_t writing, int32_t wanting);
  void keep(std::span<Sequence* const> writing, size_t count);
  void choose(std::span<Sequence* const> writing, int32_t room);

  const EngineOptions& options_;
  StepCost cost_;
  std::unique_ptr<Draft> draft_;
  bool draft_failed_ = false;
  int64_t steps_ = 0, next_trial_ = 0, between_trials_;  // of a draft model that does not pay
  std::vector<Sequence*> wanting_;
  struct Candidate {
    double odds;
    Sequence* sequence;
  };
  std::vector<Candidate> candidates_;
};

}  // namespace inhouse
