#include "native/engine/speculation.h"

#include <algorithm>

namespace inhouse {
namespace {

// Guesses are tried where they make all sequences so many times faster, by what is known.
constexpr double kWorth = 1.04;
// What a guess of a draft model is assumed to take, of a step.
constexpr double kAssumedDraft = 0.2;
// Steps after which a draft model that does not pay is tried again, and for how many of how many guesses.
constexpr int64_t kBetweenTrials = 512, kMostBetweenTrials = 8192, kTrialSteps = 4;
constexpr int32_t kTrialLength = 3;

}  // namespace

Speculation::Speculation(const EngineOptions& options, const KvSizes& sizes, int32_t vocabulary)
    : options_(options), between_trials_(kBetweenTrials) {
  if (options.draft) draft_ = std::make_unique<Draft>(options, sizes, vocabulary);
}

// So that neither the request's last token nor the context's end is passed.
int32_t Speculation::most_of(const Sequence& sequence) const {
  const int32_t room = options_.context_length - sequence.size() - 1;
  return std::max(0, std::min({kMostGuesses, sequence.max_tokens - sequence.drawn - 1, room}));
}

// What is known to come, or what follows where the last tokens stood before.
void Speculation::look_up(Sequence& sequence) {
  const RequestSpec& spec = sequence.spec;
  const int32_t most = most_of(sequence);
  for (auto i = size_t(sequence.drawn); i < spec.forced.size() && int32_t(sequence.guesses.size()) < most;
       ++i) {
    sequence.guesses.push_back(spec.forced[i]);
    sequence.odds.push_back(1);
  }
  if (!sequence.guesses.empty() || spec.speculation == SpeculationMode::draft) return;
  sequence.lookup.extend(sequence.tokens);
  sequence.lookup.guess(sequence.tokens, most, sequence.guesses, sequence.odds);
}

void Speculation::guess(std::span<Sequence* const> writing, int32_t room) {
  for (Sequence* sequence : writing) {
    sequence->guesses.clear();
    sequence->odds.clear();
    const RequestSpec& spec = sequence->spec;
    if (spec.speculation == SpeculationMode::off || spec.process_logits || room <= 0) continue;
    if (!options_.guesser) {
      look_up(*sequence);
      continue;
    }
    options_.guesser(sequence->tokens, sequence->prompt_tokens, sequence->guesses);
    sequence->guesses.resize(std::min(sequence->guesses.size(), size_t(most_of(*sequence))));
    sequence->odds.assign(sequence->guesses.size(), 1);
  }
  if (draft_ && !draft_failed_ && room > 0) {
    try {
      draft(writing);
    } catch (...) {  // It is not needed.
      draft_failed_ = true;
      for (Sequence* sequence : writing) sequence->odds.clear();
    }
  }
  choose(writing, room);
}

void Speculation::draft(std::span<Sequence* const> writing) {
  wanting_.clear();
  for (Sequence* sequence : writing) {
    const SpeculationMode mode = sequence->spec.speculation;
    const bool may = mode == SpeculationMode::automatic || mode == SpeculationMode::draft;
    if (!may || sequence->spec.process_logits || most_of(*sequence) == 0) continue;
    draft_->settle(*sequence);
    if (sequence->odds.empty() || sequence->odds[0] < draft_->rate()) wanting_.push_back(sequence);
  }
  ++steps_;
  const int32_t length = draft_length(int32_t(writing.size()), int32_t(wanting_.size()));
  if (length == 0) return;
  for (Sequence* sequence : wanting_) {
    sequence->guesses.clear();
    sequence->odds.clear();
  }
  draft_->guess(wanting_, length);
  for (Sequence* sequence : wanting_)
    sequence->odds.resize(std::min(sequence->odds.size(), size_t(most_of(*sequence))));
}

// How many guesses by the draft model make all sequences fastest, given how often they held; 0 where none do,
// except that it is tried again for some steps now and then.
int32_t Speculation::draft_length(int32_t writing, int32_t wanting) {
  if (wanting == 0) return 0;
  if (options_.guess_always) return options_.draft_tokens;
  const double alone = cost_.seconds(writing), known = draft_->seconds(wanting);
  if (alone <= 0) return 0;
  const double guess = known > 0 ? known : kAssumedDraft * alone;
  double tokens = writing, odds = 1, best = kWorth * tokens / alone;
  int32_t length = 0;
  for (int32_t i = 1; i <= options_.draft_tokens; ++i) {
    odds *= draft_->rate();
    tokens += wanting * odds;
    const double worth = tokens / (cost_.seconds(writing + wanting * i) + i * guess);
    if (worth > best) best = worth, length = i;
  }
  if (length > 0) {
    next_trial_ = steps_ + between_trials_;
    return length;
  }
  if (steps_ < next_trial_) return 0;
  if (steps_ >= next_trial_ + kTrialSteps) {
    between_trials_ = std::min(4 * between_trials_, kMostBetweenTrials);
    next_trial_ = steps_ + between_trials_;
    return 0;
  }
  return std::min(kTrialLength, options_.draft_tokens);
}

void Speculation::forget(Sequence& sequence) {
  sequence.lookup.clear();
  if (draft_ && !draft_failed_) draft_->forget(sequence);
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
  if (options_.guess_always) return keep(writing, std::min(candidates_.size(), size_t(std::max(room, 0))));
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
  keep(writing, chosen);
}

// Keeps the first of the candidates.
void Speculation::keep(std::span<Sequence* const> writing, size_t count) {
  for (Sequence* sequence : writing) sequence->odds.clear();
  for (size_t i = 0; i < count; ++i) candidates_[i].sequence->odds.push_back(candidates_[i].odds);
  for (Sequence* sequence : writing) sequence->guesses.resize(sequence->odds.size());
}

}  // namespace inhouse
