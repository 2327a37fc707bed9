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
constexpr double kMargin = 0.85;

void learn(double& value, double sample) {
  value = value > 0 ? 0.75 * value + 0.25 * sample : sample;
}

}  // namespace

double Pace::without_prompts(int32_t rows) const {
  const auto at = size_t(std::min<int64_t>(rows, int64_t(seconds_.size()) - 1));
  for (size_t distance = 0; distance < seconds_.size(); ++distance) {
    if (at >= distance && seconds_[at - distance] > 0) return seconds_[at - distance];
    if (at + distance < seconds_.size() && seconds_[at + distance] > 0) return seconds_[at + distance];
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
  if (prompt_tokens == 0) {
    learn(seconds_[size_t(std::min<int64_t>(rows, int64_t(seconds_.size()) - 1))], seconds);
  } else if (rows == 0) {
    // A short prompt's step reads all weights for a few tokens, and says little.
    if (prompt_tokens >= 4 * kFirstChunk || per_token_ <= 0) learn(per_token_, seconds / prompt_tokens);
  } else if (const double alone = without_prompts(rows); alone > 0) {
    learn(per_token_, std::max(seconds - alone, 0.05 * seconds) / prompt_tokens);
  } else if (per_token_ > 0) {
    learn(seconds_[size_t(std::min<int64_t>(rows, int64_t(seconds_.size()) - 1))],
          std::max(seconds - per_token_ * prompt_tokens, 0.25 * seconds));
  }
}

}  // namespace inhouse
