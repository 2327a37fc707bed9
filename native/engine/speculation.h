// Speculation: a step may carry guesses at a sequence's next tokens after the token drawn last. Each guess
// that turns out to be what the sequence draws spares it a step; the others cost their share of a step's time
// and nothing else, as what is drawn never depends on them.
//
// How many are tried is what makes all writing sequences together fastest, by how often guesses held and what
// further rows cost, both learned while working. So only the speed depends on time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "native/engine/engine.h"
#include "native/engine/sequence.h"

namespace inhouse {

// Guesses of a sequence in one step, at most.
inline constexpr int32_t kMostGuesses = 23;

// What a step takes by its rows, as a line through the last ones: steps without prompts alone.
class StepCost {
 public:
  void record(int32_t rows, double seconds);
  double seconds(int32_t rows) const;  // 0 where nothing is known

 private:
  // Weighted means, and sums of squares and products around them.
  double weight_ = 0, rows_ = 0, seconds_ = 0, rows_rows_ = 0, rows_seconds_ = 0;
};

class Speculation {
 public:
  explicit Speculation(const EngineOptions& options) : options_(options) {}

  // Gives each of `writing` the guesses that the step is to carry, at most `room` in all.
  void guess(std::span<Sequence* const> writing, int32_t room);
  // Takes note of how long a step without prompts took.
  void took(int32_t rows, double seconds) { cost_.record(rows, seconds); }

 private:
  int32_t most_of(const Sequence& sequence) const;
  void guess_at(Sequence& sequence);
  void choose(std::span<Sequence* const> writing, int32_t room);

  const EngineOptions& options_;
  StepCost cost_;
  struct Candidate {
    double odds;
    Sequence* sequence;
  };
  std::vector<Candidate> candidates_;
};

}  // namespace inhouse
