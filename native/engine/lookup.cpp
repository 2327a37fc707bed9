#include "native/engine/lookup.h"

#include <algorithm>

namespace inhouse {
namespace {

// Longer ones first: what follows them is more likely to come again.
constexpr int32_t kLengths[] = {8, 4, 3, 2, 1};
constexpr int32_t kLongest = 32;  // beyond which the same tokens are not counted
constexpr size_t kLeastEntries = 1 << 10, kMostEntries = 1 << 20;

// What is assumed where nothing is learned, as if it had been seen so many times.
constexpr double kAssumed[] = {0.15, 0.2, 0.35, 0.45, 0.6, 0.75, 0.85, 0.9};
constexpr double kAssumedTimes = 2;
constexpr double kMemory = 0.95;  // what counts of the past after each further time

size_t hash(const int32_t* tokens, int32_t count) {
  uint64_t h = uint64_t(count);
  for (int32_t i = 0; i < count; ++i) h = (h ^ uint64_t(uint32_t(tokens[i]))) * 0x9e3779b97f4a7c15ull;
  return size_t(h ^ (h >> 29));
}

}  // namespace

GuessRates::GuessRates() {
  for (int i = 0; i < kClasses; ++i) counts_[i] = {kAssumedTimes, kAssumedTimes * kAssumed[i]};
}

int GuessRates::class_of(int32_t length) {
  if (length < 5) return std::max(0, length - 1);
  return length < 8 ? 4 : length < 12 ? 5 : length < 20 ? 6 : 7;
}

void GuessRates::learn(int32_t length, bool held) {
  Count& count = counts_[class_of(length)];
  count.tried = kMemory * count.tried + 1;
  count.held = kMemory * count.held + (held ? 1 : 0);
}

double GuessRates::rate(int32_t length) const {
  const Count& count = counts_[class_of(length)];
  return count.held / count.tried;
}

void PromptLookup::clear() {
  std::fill(after_.begin(), after_.end(), 0);
  seen_ = from_ = length_ = 0;
}

void PromptLookup::insert(std::span<const int32_t> tokens, int32_t at) {
  for (const int32_t count : kLengths)
    if (at >= count) after_[hash(tokens.data() + at - count, count) & (after_.size() - 1)] = at;
}

void PromptLookup::extend(std::span<const int32_t> tokens) {
  const size_t wanted = std::min(kMostEntries, 2 * std::size(kLengths) * tokens.size());
  if (after_.size() < wanted) {
    size_t entries = kLeastEntries;
    while (entries < wanted) entries *= 2;
    after_.assign(entries, 0);
    for (int32_t at = 1; at < seen_; ++at) insert(tokens, at);
  }
  for (; seen_ < int32_t(tokens.size()); ++seen_) {
    if (seen_ > 0) insert(tokens, seen_);
    if (from_ == 0) continue;
    const bool held = tokens[size_t(seen_)] == tokens[size_t(from_)];
    rates_.learn(length_, held);
    from_ = held ? from_ + 1 : 0;
    length_ = std::min(length_ + 1, kLongest);
  }
}

// The longest of the last n-grams that stood before, at its last occurrence.
void PromptLookup::find(std::span<const int32_t> tokens) {
  for (const int32_t count : kLengths) {
    if (seen_ < count) continue;
    const int32_t* const last = tokens.data() + seen_ - count;
    const int32_t at = after_[hash(last, count) & (after_.size() - 1)];
    if (at < count || !std::equal(last, last + count, tokens.data() + at - count)) continue;
    from_ = at;
    length_ = count;
    while (length_ < std::min(kLongest, at) &&
           tokens[size_t(at - length_ - 1)] == tokens[size_t(seen_ - length_ - 1)])
      ++length_;
    return;
  }
}

void PromptLookup::guess(std::span<const int32_t> tokens, int32_t most, std::vector<int32_t>& guesses,
                         std::vector<double>& odds) {
  // As long as it goes on as it did there, what follows there is the best guess.
  if (from_ == 0) find(tokens);
  if (from_ == 0) return;
  const size_t first = guesses.size();
  double all = 1;
  for (int32_t i = 0; i < most; ++i) {
    // Where it runs into its own end, the text repeats itself.
    const int32_t at = from_ + i;
    guesses.push_back(at < seen_ ? tokens[size_t(at)] : guesses[first + size_t(at - seen_)]);
    all *= rates_.rate(std::min(length_ + i, kLongest));
    odds.push_back(all);
  }
}

}  // namespace inhouse
