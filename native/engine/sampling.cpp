#include "native/engine/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/core/error.h"
#include "native/engine/candidates.h"
#include "native/engine/penalties.h"
#include "native/engine/philox.h"
#include "native/engine/sampling_params.h"
#include "native/engine/vector_math.h"

namespace inhouse {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Work space: one for each thread that samples instead of one for each sequence, as it is a few times the
// size of the vocabulary.
struct Workspace {
  std::vector<float> maxima;  // of blocks of logits, see scan_maxima
  std::vector<float> logits;  // the changed copy
  std::vector<float> weights;
  std::vector<int32_t> touched;
  Candidates candidates;
};

Workspace& workspace() {
  thread_local Workspace space;
  return space;
}

const SamplingParams& validated(const SamplingParams& params, int32_t vocabulary, int32_t top_logprobs) {
  validate(params, vocabulary, top_logprobs);
  return params;
}

// Refuses what has no distribution: NaN, +infinity, nothing but -infinity.
Scan scan_checked(std::span<const float> logits, int32_t position, std::vector<float>& maxima) {
  const Scan scan = scan_maxima(logits, maxima);
  const std::string where = " at position " + std::to_string(position);
  if (scan.has_nan) {
    const auto first = std::find_if(logits.begin(), logits.end(), [](float x) { return x != x; });
    throw Error(Code::numeric, "the model's logit of token " + std::to_string(first - logits.begin()) +
                                   where + " is NaN; expected a finite number");
  }
  if (scan.best == kInfinity) {
    const auto first = std::find(logits.begin(), logits.end(), kInfinity);
    throw Error(Code::numeric, "the model's logit of token " + std::to_string(first - logits.begin()) +
                                   where + " is infinite; expected a finite number");
  }
  if (scan.best == -kInfinity) {
    throw Error(Code::numeric, "all logits" + where + " are -infinity; expected at least one finite number");
  }
  return scan;
}

// The lowest id among the highest logits.
int32_t greedy(std::span<const float> logits, const std::vector<float>& maxima, float best) {
  const size_t block = size_t(std::find(maxima.begin(), maxima.end(), best) - maxima.begin());
  const auto first = logits.begin() + ptrdiff_t(block * kScanBlock);
  return int32_t(std::find(first, logits.end(), best) - logits.begin());
}

void restrict(std::span<float> logits, const Restriction& restriction) {
  for (int32_t token : restriction.banned)
    if (size_t(token) < logits.size()) logits[size_t(token)] = -kInfinity;
  if (restriction.allowed.empty()) return;
  for (size_t i = 0; i < logits.size(); ++i) {
    const size_t word = i / 32;
    if (word >= restriction.allowed.size() || !(restriction.allowed[word] >> (i % 32) & 1))
      logits[i] = -kInfinity;
  }
}

}  // namespace

struct Sampler::State {
  State(const SamplingParams& p, int32_t v, int32_t n)
      : params(validated(p, v, n)), vocabulary(v), top_logprobs(n), penalties(params, v) {}

  const SamplingParams params;
  const int32_t vocabulary;
  const int32_t top_logprobs;
  Penalties penalties;

  // log Z of the model's own distribution, and the best alternatives. Tokens of probability 0 are not listed.
  double describe(std::span<const float> logits, float best, Workspace& space, Sampled& result) const {
    space.weights.resize(logits.size());
    exp_shifted(logits.data(), logits.size(), best, 1.0f, space.weights.data());
    const double log_total = double(best) + std::log(sum(space.weights.data(), logits.size()));
    if (top_logprobs > 0) {
      Candidates& top = space.candidates;
      top.take_top_k(logits, space.maxima, size_t(top_logprobs));
      std::vector<Candidate> ranked(top.size());
      for (size_t i = 0; i < ranked.size(); ++i) ranked[i] = {top.logit(i), top.id(i)};
      std::sort(ranked.begin(), ranked.end(), ranks_before);
      for (const Candidate& c : ranked) result.top.push_back({c.id, float(double(c.logit) - log_total)});
    }
    return log_total;
  }

  // `own` are the model's logits, `logits` those after bias and penalties.
  int32_t choose(std::span<const float> own, std::span<const float> logits, float best, int32_t position,
                 Workspace& space) const {
    const SamplingParams& p = params;
    if (p.temperature == 0 || p.top_k == 1) return greedy(logits, space.maxima, best);
    Candidates& c = space.candidates;
    if (p.top_k > 0 && p.top_n_sigma == 0) {
      c.take_top_k(logits, space.maxima, size_t(p.top_k));
    } else {
      c.take_all(logits);
      // σ measures the model's own noise: one heavily penalized token would inflate it beyond use.
      if (p.top_n_sigma > 0) c.top_n_sigma(p.top_n_sigma, deviation(own, best));
      if (p.top_k > 0) c.top_k(size_t(p.top_k));
    }
    if (p.typical_p < 1) c.typical(p.typical_p);
    if (p.top_p < 1) c.top_p(p.top_p);
    if (p.min_p > 0) c.min_p(p.min_p);
    if (p.xtc_probability > 0 && uniform(p.seed, position, RandomStream::xtc) < double(p.xtc_probability)) {
      c.xtc(p.xtc_threshold);
    }
    return c.draw(p.temperature, uniform(p.seed, position, RandomStream::draw));
  }
};

Sampler::Sampler(const SamplingParams& params, int32_t vocabulary, int32_t top_logprobs)
    : state_(std::make_unique<State>(params, vocabulary, top_logprobs)) {}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

void Sampler::accept(int32_t token) {
  state_->penalties.accept(token);
}

Sampled Sampler::sample(std::span<const float> logits, int32_t position, const Restriction& restriction) {
  State& state = *state_;
  if (logits.size() != size_t(state.vocabulary)) {
    throw Error(Code::internal, "the sampler got " + std::to_string(logits.size()) + " logits, expected " +
                                    std::to_string(state.vocabulary));
  }
  Workspace& space = workspace();
  Scan scan = scan_checked(logits, position, space.maxima);

  Sampled result;
  double log_total = 0;
  if (state.top_logprobs >= 0) log_total = state.describe(logits, scan.best, space, result);

  std::span<const float> changed = logits;
  const bool restricted = !restriction.banned.empty() || !restriction.allowed.empty();
  if (restriction.forced >= 0) {
    result.token = restriction.forced;
  } else {
    if (state.penalties.active() || restricted) {
      space.logits.assign(logits.begin(), logits.end());
      changed = space.logits;
    }
    if (state.penalties.active()) {
      space.touched.clear();
      state.penalties.apply(space.logits, space.touched);
      for (int32_t token : space.touched) {
        const size_t start = size_t(token) / kScanBlock * kScanBlock;
        space.maxima[start / kScanBlock] =
            block_maximum(changed.subspan(start, std::min(kScanBlock, changed.size() - start)));
      }
      scan.best = block_maximum(space.maxima);
    }
    if (restricted) {
      restrict(space.logits, restriction);
      scan = scan_maxima(changed, space.maxima);
    }
    if (scan.best == -kInfinity) {
      throw Error(Code::invalid_argument, "no token is left that is possible at position " +
                                              std::to_string(position) +
                                              ": logitBias, bannedTokens or minTokens ban the others");
    }
    result.token = state.choose(logits, changed, scan.best, position, space);
  }
  if (state.top_logprobs >= 0) result.logprob = float(double(logits[size_t(result.token)]) - log_total);
  return result;
}

}  // namespace inhouse
