#include "native/engine/pace.h"

#include <algorithm>

namespace inhouse {
namespace {

// Where nothing is known yet.
constexpr int32_t kFirstChunk = 16;
// Fewer tokens than this cost more in passes over the weights than they spare.
constexpr int32_t kLeastChunk = 4;
// A slowdown that is none to keep to.
constexpr double kNoLimit = 1000;
// Of the time that is allowed, so that steps a little longer than expected stay within it.
constexpr double kMargin = 0.95;
// What a further row is assumed to take, of a step with one, where it was not measured.
constexpr double kFurtherRow = 0.1;

// Seconds of a step with `rows`, from those of one with `known_rows`.
double scaled(double seconds, int32_t known_rows, int32_t rows) {
  return seconds * (1 + kFurtherRow * (rows - 1)) / (1 + kFurtherRow * (known_rows - 1));
}

void learn(double& value, double sample) {
  value = value > 0 ? 0.75 * value + 0.25 * sample : sample;
}

}  // namespace

double Pace::without_prompts(int32_t rows) const {
  rows = std::min(rows, int32_t(seconds_.size()) - 1);
  for (int32_t distance = 0; distance < int32_t(seconds_.size()); ++distance) {
    for (const int32_t known : {rows - distance, rows + distance})
      if (known > 0 && known < int32_t(seconds_.size()) && seconds_[size_t(known)] > 0)
        return scaled(seconds_[size_t(known)], known, rows);
  }
  return 0;
}

int32_t Pace::prompt_tokens(int32_t rows, int32_t most) const {
  if (rows == 0 || most <= 1 || slowdown_ >= kNoLimit) return std::max(1, most);
  const double alone = without_prompts(rows);
  if (alone <= 0 || per_token_ <= 0) return std::min(kFirstChunk, most);
  const double allowed = kMargin * (slowdown_ - 1) * alone / per_token_;
  return int32_t(std::clamp(allowed, double(std::min(kLeastChunk, most)), double(most)));
}

void Pace::record(int32_t rows, int32_t prompt_tokens, double seconds) {
  double& without = seconds_[size_t(std::min(rows, int32_t(seconds_.size()) - 1))];
  if (prompt_tokens == 0) {
    learn(without, seconds);
  } else if (rows == 0) {
    // A short prompt's step reads all weights for a few tokens, and says little.
    if (prompt_tokens >= 4 * kFirstChunk || per_token_ <= 0) learn(per_token_, seconds / prompt_tokens);
  } else {
    double alone = without_prompts(rows);
    if (alone <= 0) alone = without = scaled(seconds, rows + prompt_tokens, rows);
    learn(per_token_, std::max(seconds - alone, 0.05 * seconds) / prompt_tokens);
  }
}

}  // namespace inhouse
