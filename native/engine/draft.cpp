#include "native/engine/draft.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>

#include "native/engine/vector_math.h"

namespace inhouse {
namespace {

// Tokens that the draft computes at most in one go of texts that it does not know yet.
constexpr int32_t kCatchUpTokens = 64;
// Odds below which no further guess follows.
constexpr double kLeastOdds = 0.2;
// What is assumed where nothing is learned, as if it had been seen so many times, and what counts of the past
// after each further time.
constexpr double kAssumedRate = 0.7, kAssumedTimes = 4, kMemory = 0.97;

// Guesses of equal probability to the draft are counted together, in the classes of GuessRates.
int32_t class_of(double probability) {
  constexpr int32_t kLengthOfClass[] = {2, 3, 4, 5, 8, 12, 20};
  return kLengthOfClass[std::clamp(int32_t(probability * 7), 0, 6)];
}

int32_t output_rows(const EngineOptions& options) {
  return options.max_concurrent;
}

int32_t step_rows(const EngineOptions& options) {
  return std::max(options.max_concurrent, kCatchUpTokens);
}

}  // namespace

Draft::Draft(const EngineOptions& options, const KvSizes& sizes, int32_t vocabulary)
    : options_(options),
      vocabulary_(std::min(vocabulary, options.draft->hyper().vocabulary)),
      cache_(*options.draft, *options.kv_type_k, *options.kv_type_v, sizes),
      forward_(*options.draft, step_rows(options), output_rows(options)),
      tried_(kAssumedTimes),
      held_(kAssumedTimes * kAssumedRate) {}

uint64_t Draft::cache_bytes_for(const EngineOptions& options, const KvSizes& sizes) {
  return KvCache::bytes_for(*options.draft, *options.kv_type_k, *options.kv_type_v, sizes);
}

uint64_t Draft::activation_bytes_for(const EngineOptions& options) {
  return ForwardPass::bytes_for(*options.draft, step_rows(options), output_rows(options));
}

void Draft::forget(DraftState& state) {
  cache_.close(state.cache);
  state = DraftState();
}

void Draft::settle(Sequence& sequence) {
  DraftState& state = sequence.draft;
  if (state.cache.root < 0) return;
  const size_t known = std::min(state.guesses.size(), size_t(sequence.size() - state.size));
  size_t held = 0;
  for (bool right = true; right && held < known; held += right ? 1 : 0) {
    right = sequence.tokens[size_t(state.size) + held] == state.guesses[held];
    rates_.learn(state.classes[held], right);
    tried_ = kMemory * tried_ + 1;
    held_ = kMemory * held_ + (right ? 1 : 0);
  }
  state.computed = std::min(state.computed, state.size + int32_t(held));
  state.size = sequence.size();
  state.guesses.clear();
  state.classes.clear();
  cache_.commit(state.cache, sequence.tokens, state.computed);
}

void Draft::guess(std::span<Sequence* const> sequences, int32_t most) {
  active_.clear();
  int32_t room = kCatchUpTokens;
  for (Sequence* sequence : sequences) {
    DraftState& state = sequence->draft;
    if (state.cache.root < 0) {
      state.cache = cache_.open(sequence->scope);
      state.computed = cache_.advance(state.cache, sequence->shareable(), 0);
      state.size = sequence->size();
    }
    const int32_t left = sequence->size() - state.computed, count = std::min(left, room);
    // Room for all guesses now: what is given back of a window is what no accepted token sees any more.
    if (count <= 0 || int32_t(slices_.size()) >= options_.max_concurrent) continue;
    const int32_t end = std::min(sequence->size() + most, options_.context_length);
    if (!cache_.extend(state.cache, state.computed, end)) {
      forget(state);
      continue;
    }
    room -= count;
    add_rows(*sequence, count, count == left);
    if (count == left) active_.push_back(sequence);
  }
  for (int32_t i = 1; !slices_.empty() && run(); ++i) {
    std::erase_if(active_, [&](const Sequence* sequence) {
      return sequence->draft.guesses.size() < size_t(i) || i >= most || sequence->odds.back() < kLeastOdds ||
             sequence->size() + i >= options_.context_length;
    });
    for (Sequence* sequence : active_) add_rows(*sequence, 1, true);
  }
}

// The sequence's next tokens that the draft has not computed: its own, and the guesses after them.
void Draft::add_rows(Sequence& sequence, int32_t count, bool output) {
  DraftState& state = sequence.draft;
  slices_.push_back({int32_t(tokens_.size()), count, state.computed, state.cache.tables.data()});
  for (int32_t end = state.computed + count; state.computed < end; ++state.computed) {
    const int32_t at = state.computed;
    const int32_t token =
        at < sequence.size() ? sequence.tokens[size_t(at)] : state.guesses[size_t(at - sequence.size())];
    // It may have fewer tokens, where the last ones stand for nothing.
    tokens_.push_back(std::min(token, options_.draft->hyper().vocabulary - 1));
    positions_.push_back(at);
  }
  if (output) outputs_.push_back(int32_t(tokens_.size()) - 1);
}

// Computes the rows that were added; those with outputs are of active_, in order.
bool Draft::run() {
  static const std::atomic<bool> never{false};
  Backend& ops = options_.draft->backend();
  ops.begin_step();
  struct EndStep {
    Backend& ops;
    ~EndStep() { ops.end_step(); }
  } end_step{ops};
  const Clock::time_point start = Clock::now();
  const auto rows = int32_t(tokens_.size()), outputs = int32_t(outputs_.size());
  forward_.run({tokens_, positions_, slices_, outputs_}, cache_.pools(), never);
  if (outputs > 0) {
    const std::span<const float> logits = forward_.logits(0, outputs);
    const auto width = size_t(options_.draft->hyper().vocabulary);
    for (int32_t i = 0; i < outputs; ++i)
      read(*active_[size_t(i)], logits.subspan(size_t(i) * width, size_t(vocabulary_)));
  }
  if (rows <= 2 * outputs) cost_.record(outputs, std::chrono::duration<double>(Clock::now() - start).count());
  tokens_.clear();
  positions_.clear();
  outputs_.clear();
  slices_.clear();
  return outputs > 0;
}

// The likeliest token, unless the logits are no numbers.
void Draft::read(Sequence& sequence, std::span<const float> logits) {
  const Scan scan = scan_maxima(logits, maxima_);
  if (scan.has_nan || !std::isfinite(scan.best)) return;
  weights_.resize(logits.size());
  exp_shifted(logits.data(), logits.size(), scan.best, 1.0f, weights_.data());
  const int32_t length = class_of(1 / double(sum(weights_.data(), logits.size())));
  const auto token = int32_t(std::find(logits.begin(), logits.end(), scan.best) - logits.begin());
  sequence.draft.guesses.push_back(token);
  sequence.draft.classes.push_back(length);
  sequence.guesses.push_back(token);
  sequence.odds.push_back((sequence.odds.empty() ? 1 : sequence.odds.back()) * rates_.rate(length));
}

}  // namespace inhouse
