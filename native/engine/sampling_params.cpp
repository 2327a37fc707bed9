#include "native/engine/sampling_params.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "native/core/error.h"

namespace inhouse {
namespace {

constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr double kMaxBias = 1e6;

std::string show(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

[[noreturn]] void refuse(const std::string& name, const std::string& expected, double value) {
  throw Error(Code::invalid_argument, name + " must be " + expected + ", got " + show(value));
}

// Written so that NaN is refused.
void check(const char* name, double value, double low, double high) {
  if (!(value >= low && value <= high))
    refuse(name, "a number from " + show(low) + " to " + show(high), value);
}

void check_integer(const char* name, int32_t value, int32_t low) {
  if (value < low) {
    refuse(name, "an integer from " + std::to_string(low) + " to " + std::to_string(kMaxInt), value);
  }
}

}  // namespace

// The same ranges as in the table of lib/sampling.ts.
void validate(const SamplingParams& params, int32_t vocabulary, int32_t top_logprobs) {
  if (vocabulary < 1) refuse("vocabulary", "at least 1", vocabulary);
  check("temperature", params.temperature, 0, 100);
  check_integer("topK", params.top_k, 0);
  check("topP", params.top_p, 0, 1);
  check("minP", params.min_p, 0, 1);
  check("typicalP", params.typical_p, 0, 1);
  check("topNSigma", params.top_n_sigma, 0, 100);
  check("repeatPenalty", params.repeat_penalty, 0.01f, 100);
  check("frequencyPenalty", params.frequency_penalty, -100, 100);
  check("presencePenalty", params.presence_penalty, -100, 100);
  check_integer("penaltyLastN", params.penalty_last_n, -1);
  check("dryMultiplier", params.dry_multiplier, 0, 100);
  check("dryBase", params.dry_base, 1, 100);
  check_integer("dryAllowedLength", params.dry_allowed_length, 1);
  check_integer("dryPenaltyLastN", params.dry_penalty_last_n, -1);
  check("xtcProbability", params.xtc_probability, 0, 1);
  check("xtcThreshold", params.xtc_threshold, 0, 1);
  const std::string token_range = "a token id from 0 to " + std::to_string(vocabulary - 1);
  for (const auto& breaker : params.dry_breakers) {
    if (breaker.empty()) refuse("the length of each of dryBreakers", "at least 1 token", 0);
    for (int32_t token : breaker) {
      if (token < 0 || token >= vocabulary) refuse("each token of dryBreakers", token_range, token);
    }
  }
  for (const auto& [token, bias] : params.logit_bias) {
    if (token < 0 || token >= vocabulary) refuse("each key of logitBias", token_range, token);
    const bool banned = std::isinf(bias) && bias < 0;
    if (!banned && !(std::fabs(double(bias)) <= kMaxBias)) {
      refuse("logitBias of token " + std::to_string(token), "-Infinity or a number from -1e6 to 1e6", bias);
    }
  }
  if (top_logprobs < -1 || top_logprobs > vocabulary) {
    refuse("topLogprobs", "an integer from -1 to " + std::to_string(vocabulary), top_logprobs);
  }
}

}  // namespace inhouse
