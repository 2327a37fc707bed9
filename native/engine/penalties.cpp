#include "native/engine/penalties.h"

#include <algorithm>
#include <limits>

#include "native/core/error.h"

namespace inhouse {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr double kLargest = std::numeric_limits<float>::max();

// Arithmetic on a logit may overflow; only a ban makes it infinite.
float finite(double value) {
  return float(std::clamp(value, -kLargest, kLargest));
}

// base^exponent by squaring: the same bits everywhere, which pow does not promise. May be infinite.
double power(double base, uint32_t exponent) {
  double result = 1;
  for (; exponent != 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

}  // namespace

Penalties::Penalties(const SamplingParams& params, int32_t vocabulary)
    : params_(&params),
      vocabulary_(vocabulary),
      biased_(!params.logit_bias.empty()),
      counted_(params.penalty_last_n != 0 &&
               (params.repeat_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0)),
      repeats_(params.dry_multiplier > 0 && params.dry_penalty_last_n != 0) {
  if (!repeats_) return;
  for (size_t i = 0; i < params.dry_breakers.size(); ++i) {
    const std::vector<int32_t>& breaker = params.dry_breakers[i];
    breakers_by_end_[breaker.back()].push_back(uint32_t(i));
    if (breaker.size() == 1) single_breakers_.insert(breaker[0]);
  }
}

void Penalties::accept(int32_t token) {
  if (token < 0 || token >= vocabulary_) {
    throw Error(Code::token_out_of_range, "token " + std::to_string(token) +
                                              " is outside the vocabulary of " + std::to_string(vocabulary_) +
                                              " tokens");
  }
  if (!counted_ && !repeats_) return;
  history_.push_back(token);
  if (counted_) {
    ++counts_[token];
    const size_t window = size_t(params_->penalty_last_n);
    if (params_->penalty_last_n > 0 && history_.size() > window) {
      const auto leaving = counts_.find(history_[history_.size() - 1 - window]);
      if (--leaving->second == 0) counts_.erase(leaving);
    }
  }
  if (repeats_) {
    const auto ending = breakers_by_end_.find(token);
    if (ending == breakers_by_end_.end()) return;
    for (uint32_t index : ending->second) {
      const std::vector<int32_t>& breaker = params_->dry_breakers[index];
      if (breaker.size() <= history_.size() &&
          std::equal(breaker.rbegin(), breaker.rend(), history_.rbegin())) {
        after_breaker_ = history_.size();
        return;
      }
    }
  }
}

void Penalties::apply(std::span<float> logits, std::vector<int32_t>& touched) {
  for (const auto& [token, bias] : params_->logit_bias) {
    float& logit = logits[size_t(token)];
    if (logit == kBanned) continue;
    logit = bias == kBanned ? kBanned : finite(double(logit) + double(bias));
    touched.push_back(token);
  }
  if (counted_) apply_counts(logits, touched);
  if (repeats_) apply_dry(logits, touched);
}

// The repetition penalty is that of Keskar et al., "CTRL" (2019), in the form that also lowers negative
// logits; frequency and presence penalties are those of the OpenAI API reference: logit - count * frequency -
// presence.
void Penalties::apply_counts(std::span<float> logits, std::vector<int32_t>& touched) const {
  for (const auto& [token, count] : counts_) {
    float& logit = logits[size_t(token)];
    if (logit == kBanned) continue;
    double value = logit;
    value = value > 0 ? value / double(params_->repeat_penalty) : value * double(params_->repeat_penalty);
    value -= double(count) * double(params_->frequency_penalty) + double(params_->presence_penalty);
    logit = finite(value);
    touched.push_back(token);
  }
}

// DRY ("don't repeat yourself") by p-e-w (text-generation-webui, 2024): a token that would lengthen a
// repetition of the text's end loses multiplier * base^(length - allowed_length), where length is that of the
// longest earlier occurrence of the end that this token followed. A repetition reaches back to the last
// breaker at most, and a token that is a breaker by itself is never penalized.
void Penalties::apply_dry(std::span<float> logits, std::vector<int32_t>& touched) {
  size_t window = history_.size();
  if (params_->dry_penalty_last_n > 0) window = std::min(window, size_t(params_->dry_penalty_last_n));
  const size_t limit = std::min(window, history_.size() - after_breaker_);
  const size_t allowed = size_t(params_->dry_allowed_length);
  if (limit < allowed || window < 2) return;
  // matches_[i]: how many tokens before the window's end also stand before its end shifted by i: the Z-array
  // of the reversed window, in linear time (Gusfield, "Algorithms on strings, trees and sequences", 1997).
  const auto back = [&](size_t i) { return history_[history_.size() - 1 - i]; };
  matches_.resize(window);
  longest_.clear();
  size_t left = 0, right = 0;  // the shift [left, right) that reaches furthest
  for (size_t i = 1; i < window; ++i) {
    size_t length = i < right ? std::min(right - i, size_t(matches_[i - left])) : 0;
    if (i + length >= right) {
      while (i + length < window && back(length) == back(i + length)) ++length;
      left = i;
      right = i + length;
    }
    matches_[i] = uint32_t(length);
    length = std::min(length, limit);
    if (length < allowed) continue;
    uint32_t& longest = longest_[back(i - 1)];
    longest = std::max(longest, uint32_t(length));
  }
  for (const auto& [token, length] : longest_) {
    float& logit = logits[size_t(token)];
    if (logit == kBanned || single_breakers_.contains(token)) continue;
    const double penalty = double(params_->dry_multiplier) *
                           power(double(params_->dry_base), length - uint32_t(params_->dry_allowed_length));
    logit = finite(double(logit) - penalty);
    touched.push_back(token);
  }
}

}  // namespace inhouse
