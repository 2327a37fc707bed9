// Sampling settings of one request, and the sampler over them. See docs/api.md for the meaning of each
// setting and lib/sampling.ts for their defaults and ranges; the values here were checked there and again by
// `validate`.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace inhouse {

// Applied in this order: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC,
// temperature, draw. The neutral value of each switches it off. Top-n-sigma measures σ on the model's own
// logits.
struct SamplingParams {
  float temperature = 0.8f;        // 0: greedy, the highest logit after bias and penalties; ties: lowest id
  int32_t top_k = 40;              // 0: off
  float top_p = 0.95f;             // 1: off
  float min_p = 0.05f;             // 0: off
  float typical_p = 1.0f;          // 1: off
  float top_n_sigma = 0.0f;        // 0: off
  float repeat_penalty = 1.0f;     // 1: off
  float frequency_penalty = 0.0f;  // 0: off
  float presence_penalty = 0.0f;   // 0: off
  int32_t penalty_last_n = 64;     // tokens looked back on; -1: all
  float dry_multiplier = 0.0f;     // 0: off
  float dry_base = 1.75f;
  int32_t dry_allowed_length = 2;
  int32_t dry_penalty_last_n = -1;                 // -1: all
  std::vector<std::vector<int32_t>> dry_breakers;  // token sequences that end a repetition
  float xtc_probability = 0.0f;                    // 0: off
  float xtc_threshold = 0.1f;
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id, added to its logit; -infinity bans
};

struct TokenLogprob {
  int32_t token;
  float logprob;  // natural logarithm, of the model's own distribution (before any setting above)
};

struct Sampled {
  int32_t token = -1;
  float logprob = 0;              // where log-probabilities are wanted
  std::vector<TokenLogprob> top;  // the requested number of best alternatives, best first; none at -infinity
};

// What a draw is restricted to, whatever the settings.
struct Restriction {
  std::span<const int32_t> banned;    // tokens that cannot come
  std::span<const uint32_t> allowed;  // one bit per token, lowest first; empty: all
  int32_t forced = -1;                // the token that comes; -1: it is drawn
};

// Draws the tokens of one sequence. Random numbers are a function of (seed, position) alone. Not to be used
// by two threads at once; work space is kept per thread.
class Sampler {
 public:
  // Throws invalid_argument naming the field where a value is out of range for `vocabulary`.
  Sampler(const SamplingParams& params, int32_t vocabulary, int32_t top_logprobs /* -1: none wanted */);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // Adds a token of the sequence (prompt or drawn) to the history that penalties look at. Throws
  // token_out_of_range.
  void accept(int32_t token);

  // Draws the token for `position` from logits [vocabulary]; -infinity marks tokens that cannot come. Throws
  // numeric where the logits hold NaN or +infinity (neither has a distribution) or nothing but -infinity, and
  // invalid_argument where logit_bias and the restriction ban all tokens that are possible.
  Sampled sample(std::span<const float> logits, int32_t position, const Restriction& restriction = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace inhouse
