// Prompt lookup: what follows the last tokens of a sequence where they stood before, as a guess at what comes
// next. Texts that repeat parts of their prompt (edited code, quotations, extracted fields) are guessed well.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace inhouse {

// How often guesses hold, learned from every token that comes, whether or not a guess was tried. A guess
// counts by how many tokens before it are the same as where it comes from.
class GuessRates {
 public:
  GuessRates();
  void learn(int32_t length, bool held);
  // Of a guess after `length` same tokens, given that all guesses before it hold.
  double rate(int32_t length) const;

 private:
  static constexpr int kClasses = 8;
  static int class_of(int32_t length);
  struct Count {
    double tried, held;
  };
  Count counts_[kClasses];
};

// An index over the tokens of one sequence. A token takes amortized constant time, and memory is bounded.
class PromptLookup {
 public:
  // Takes note of the tokens that came since the last call. Where tokens before them have changed, `clear`
  // comes first.
  void extend(std::span<const int32_t> tokens);
  void clear();

  // Appends up to `most` guesses at the tokens that come next after all that `extend` saw, and to `odds` of
  // each that it holds together with those before it.
  void guess(std::span<const int32_t> tokens, int32_t most, std::vector<int32_t>& guesses,
             std::vector<double>& odds);

 private:
  void insert(std::span<const int32_t> tokens, int32_t at);
  void find(std::span<const int32_t> tokens);

  // By an n-gram's hash: the position after its last occurrence, 0 for none. What hashes alike replaces each
  // other, so what is found is compared with the tokens.
  std::vector<int32_t> after_;
  int32_t seen_ = 0;  // tokens
  // Where the last tokens stood before: tokens[from_] followed `length_` same ones. 0: nowhere.
  int32_t from_ = 0, length_ = 0;
  GuessRates rates_;
};

}  // namespace inhouse
