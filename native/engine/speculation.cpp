#include "native/engine/speculation.h"

#include <algorithm>

namespace inhouse {
namespace {

constexpr double kMemory = 0.98;  // what counts of the past after each further step
// What a further row is assumed to take, of a step with one: as if it had been seen over so many rows.
constexpr double kAssumed = 0.1, kAssumedRows = 8;
// A step that takes longer than this many times what is expected was held up by something else.
constexpr double kHeldUp = 2;
constexpr double kKnown = 4;  // steps after which something is expected
// Guesses are tried where they make all sequences so many times faster, by what is known.
constexpr double kWorth = 1.04;

}  // namespace

void StepCost::record(int32_t rows, double seconds) {
  if (weight_ > kKnown) seconds = std::min(seconds, kHeldUp * this->seconds(rows));
  weight_ = kMemory * weight_ + 1;
  const double more_rows = rows - rows_, more_seconds = seconds - seconds_;
  rows_ += more_rows / weight_;
  seconds_ += more_seconds / weight_;
  rows_rows_ = kMemory * rows_rows_ + more_rows * (rows - rows_);
  rows_seconds_ = kMemory * rows_seconds_ + more_rows * (seconds - seconds_);
}

double StepCost::seconds(int32_t rows) const {
  if (weight_ == 0) return 0;
  const double assumed = kAssumed * seconds_ / (1 + kAssumed * (rows_ - 1));
  double row = (rows_seconds_ + kAssumedRows * assumed) / (rows_rows_ + kAssumedRows);
  // A step with one row takes some time, and a further row is not for nothing.
  row = std::clamp(row, 0.01 * seconds_ / rows_, 0.99 * seconds_ / rows_);
  return seconds_ + row * (rows - rows_);
}

// So that neither the request's last token nor the context's end is passed.
int32_t Speculation::most_of(const Sequence& sequence) const {
  const int32_t room = options_.context_length - sequence.size() - 1;
  return std::max(0, std::min({kMostGuesses, sequence.max_tokens - sequence.drawn - 1, room}));
}

void Speculation::guess_at(Sequence& sequence) {
  const RequestSpec& spec = sequence.spec;
  const int32_t most = most_of(sequence);
  for (auto i = size_t(sequence.drawn); i < spec.forced.size() && int32_t(sequence.guesses.size()) < most;
       ++i) {
    sequence.guesses.push_back(spec.forced[i]);
    sequence.odds.push_back(1);
  }
  if (!sequence.guesses.empty()) return;
  sequence.lookup.extend(sequence.tokens);
  sequence.lookup.guess(sequence.tokens, most, sequence.guesses, sequence.odds);
}

void Speculation::guess(std::span<Sequence* const> writing, int32_t room) {
  for (Sequence* sequence : writing) {
    sequence->guesses.clear();
    sequence->odds.clear();
    const RequestSpec& spec = sequence->spec;
    if (spec.speculation == SpeculationMode::off || spec.process_logits) continue;
    if (options_.guesser) {
      const int32_t most = std::min(room, most_of(*sequence));
      options_.guesser(sequence->tokens, sequence->prompt_tokens, sequence->guesses);
      sequence->guesses.resize(std::min(sequence->guesses.size(), size_t(most)));
      room -= int32_t(sequence->guesses.size());
    } else {
      guess_at(*sequence);
    }
  }
  if (!options_.guesser) choose(writing, room);
}

// Keeps the guesses with the best odds, as many as make the step worth most.
void Speculation::choose(std::span<Sequence* const> writing, int32_t room) {
  candidates_.clear();
  for (Sequence* sequence : writing)
    for (const double odds : sequence->odds) candidates_.push_back({odds, sequence});
  // Of one sequence they stay in order: odds never rise.
  std::stable_sort(candidates_.begin(), candidates_.end(),
                   [](const Candidate& a, const Candidate& b) { return a.odds > b.odds; });
  const auto rows = int32_t(writing.size());
  const double alone = cost_.seconds(rows);
  const double longest = rows > 1 ? options_.max_slowdown * alone : alone * (kMostGuesses + 1);
  double tokens = rows, best = kWorth * tokens / alone;
  size_t chosen = 0;
  for (size_t i = 0; alone > 0 && i < candidates_.size() && int32_t(i) < room; ++i) {
    const double seconds = cost_.seconds(rows + int32_t(i) + 1);
    if (seconds > longest) break;
    tokens += candidates_[i].odds;
    if (tokens / seconds <= best) continue;
    best = tokens / seconds;
    chosen = i + 1;
  }
  for (Sequence* sequence : writing) sequence->odds.clear();
  for (size_t i = 0; i < chosen; ++i) candidates_[i].sequence->odds.push_back(candidates_[i].odds);
  for (Sequence* sequence : writing) sequence->guesses.resize(sequence->odds.size());
}

}  // namespace inhouse
