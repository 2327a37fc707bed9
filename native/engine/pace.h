// How many tokens of prompts a step may carry beside sequences that are writing, so that these keep their
// pace: learned from how long the last steps took.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace inhouse {

class Pace {
 public:
  // slowdown: how many times longer than without prompts a step may take; at least 1.
  Pace(double slowdown, int32_t max_rows) : slowdown_(slowdown), seconds_(size_t(max_rows) + 1, 0.0) {}

  // Tokens of prompts for a step that carries `rows` of sequences that are writing; at least 1, at most
  // `most`.
  int32_t prompt_tokens(int32_t rows, int32_t most) const;
  void record(int32_t rows, int32_t prompt_tokens, double seconds);

 private:
  double without_prompts(int32_t rows) const;  // seconds, 0 where not known

  double slowdown_;
  double per_token_ = 0;         // seconds that a token of a prompt adds; 0: not known
  std::vector<double> seconds_;  // [rows] of a step without prompts; 0: not known
};

}  // namespace inhouse
