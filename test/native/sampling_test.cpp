// The sampler against a straightforward reference in float64 that sorts everything, and its properties.
#include "native/engine/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "native/core/error.h"
#include "native/engine/candidates.h"
#include "native/engine/philox.h"
#include "native/engine/vector_math.h"
#include "test/native/check.h"

using namespace inhouse;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(uint32_t seed, int count, float scale = 3) {
  std::mt19937 engine(seed);
  std::vector<float> logits(static_cast<size_t>(count));
  for (float& x : logits)
    x = (float(engine() >> 8) * 0x1p-24f + float(engine() >> 8) * 0x1p-24f - 1) * 2 * scale;
  return logits;
}

SamplingParams neutral() {
  SamplingParams p;
  p.temperature = 1;
  p.top_k = 0;
  p.top_p = 1;
  p.min_p = 0;
  return p;
}

struct Ranked {
  int32_t id;
  double logit;
};

// What remains of the vocabulary, best first.
class Reference {
 public:
  std::vector<Ranked> tokens;

  explicit Reference(const std::vector<double>& logits) {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (std::isfinite(logits[i])) tokens.push_back({int32_t(i), logits[i]});
    }
    sort([](const Ranked& t) { return -t.logit; });
  }
  void sort(const std::function<double(const Ranked&)>& key) {
    std::sort(tokens.begin(), tokens.end(), [&](const Ranked& a, const Ranked& b) {
      if (key(a) != key(b)) return key(a) < key(b);
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    });
  }
  std::vector<double> probabilities(double temperature = 1) const {
    double best = -INFINITY, total = 0;
    for (const Ranked& t : tokens) best = std::max(best, t.logit);
    std::vector<double> p;
    for (const Ranked& t : tokens) total += p.emplace_back(std::exp((t.logit - best) / temperature));
    for (double& x : p) x /= total;
    return p;
  }
  void cut(double mass) {
    const auto p = probabilities();
    double held = 0;
    size_t n = 0;
    while (n < p.size()) {
      held += p[n++];
      if (held >= mass) break;
    }
    tokens.resize(n);
  }
  void typical(double mass) {
    const auto p = probabilities();
    std::map<int32_t, double> distance;
    double entropy = 0;
    for (double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
    for (size_t i = 0; i < p.size(); ++i) distance[tokens[i].id] = std::fabs(-std::log(p[i]) - entropy);
    sort([&](const Ranked& t) { return distance[t.id]; });
    cut(mass);
    sort([](const Ranked& t) { return -t.logit; });
  }
  void apply(const SamplingParams& p, const std::vector<float>& own) {
    if (p.top_n_sigma > 0) {
      double mean = 0, variance = 0, n = 0;
      for (float x : own) mean += std::isfinite(x) ? x : 0, n += std::isfinite(x);
      mean /= n;
      for (float x : own) variance += std::isfinite(x) ? (x - mean) * (x - mean) : 0;
      const double lowest = tokens[0].logit - double(p.top_n_sigma) * std::sqrt(variance / n);
      std::erase_if(tokens, [&](const Ranked& t) { return t.logit < lowest; });
    }
    if (p.top_k > 0 && size_t(p.top_k) < tokens.size()) tokens.resize(size_t(p.top_k));
    if (p.typical_p < 1) typical(p.typical_p);
    if (p.top_p < 1) cut(p.top_p);
    if (p.min_p > 0) {
      const auto q = probabilities();
      size_t n = 0;
      while (n < q.size() && q[n] >= double(p.min_p) * q[0]) ++n;
      tokens.resize(n);
    }
  }
  void xtc(double threshold) {
    const auto p = probabilities();
    size_t above = 0;
    while (above < p.size() && p[above] >= threshold) ++above;
    if (above >= 2) tokens.erase(tokens.begin(), tokens.begin() + ptrdiff_t(above - 1));
  }
  int32_t draw(double temperature, double u) {
    const auto p = probabilities(temperature);
    std::map<int32_t, double> by_id;
    for (size_t i = 0; i < p.size(); ++i) by_id[tokens[i].id] = p[i];
    double held = 0;
    for (const auto& [id, probability] : by_id) {
      held += probability;
      if (u < held) return id;
    }
    return by_id.rbegin()->first;
  }
};

template <class T>
std::vector<double> widened(const std::vector<T>& x) {
  return {x.begin(), x.end()};
}

// Draws many tokens with both and counts those that differ.
int differences(const SamplingParams& p, int vocabulary, int rounds) {
  Sampler sampler(p, vocabulary, -1);
  int wrong = 0;
  for (int32_t i = 0; i < rounds; ++i) {
    const auto logits = random_logits(uint32_t(i) + 1, vocabulary);
    Reference reference(widened(logits));
    reference.apply(p, logits);
    if (uniform(p.seed, i, RandomStream::xtc) < double(p.xtc_probability)) reference.xtc(p.xtc_threshold);
    const int32_t expected = reference.draw(p.temperature, uniform(p.seed, i, RandomStream::draw));
    wrong += sampler.sample(logits, i).token != expected;
  }
  return wrong;
}

Error refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return Error(Code::internal, "nothing thrown");
}

// Wilson and Hilferty's normal approximation of the chi-square quantile, at about 1e-6.
bool fits(const std::vector<int>& seen, const std::vector<double>& p, int draws) {
  double statistic = 0;
  int freedom = -1;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      if (seen[i] != 0) return false;
      continue;
    }
    const double expected = p[i] * draws;
    statistic += (seen[i] - expected) * (seen[i] - expected) / expected;
    ++freedom;
  }
  const double s = 2.0 / (9.0 * freedom);
  return statistic < freedom * std::pow(1 - s + 4.75 * std::sqrt(s), 3);
}

}  // namespace

// The known answers that the Random123 library publishes.
TEST(philox_known_answers) {
  using Out = std::array<uint32_t, 4>;
  CHECK((philox4x32({0, 0, 0, 0}, {0, 0}) == Out{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t f = 0xffffffff;
  CHECK((philox4x32({f, f, f, f}, {f, f}) == Out{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
         Out{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(exponential_is_accurate) {
  std::vector<float> x, y;
  for (int i = 0; i <= 88000; ++i) x.push_back(-float(i) / 1000);
  y.resize(x.size());
  exp_shifted(x.data(), x.size(), 0, 1, y.data());
  double worst = 0;
  for (size_t i = 0; i < 87000; ++i) worst = std::max(worst, std::fabs(y[i] / std::exp(double(x[i])) - 1));
  CHECK(worst < 0x1p-22);
  CHECK_EQ(y[0], 1.0f);
  const float far[] = {-87.9f, -88.0f, -100.0f, -1e30f, -kInf};
  exp_shifted(far, 5, 0, 1, y.data());
  for (int i = 0; i < 5; ++i) CHECK_EQ(y[size_t(i)], 0.0f);
}

TEST(each_step_matches_the_reference) {
  for (int vocabulary : {1, 2, 7, 64, 65, 500, 3000}) {
    const int rounds = vocabulary > 1000 ? 20 : 100;
    auto p = neutral();
    CHECK_EQ(differences(p, vocabulary, rounds), 0);
    for (int32_t k : {1, 2, 3, 20, 46, 47, 48, 100, 2999, 1 << 30}) {
      p = neutral(), p.top_k = k;
      CHECK_EQ(differences(p, vocabulary, rounds), 0);
    }
    for (float mass : {0.0f, 0.1f, 0.5f, 0.9f, 0.99f}) {
      p = neutral(), p.top_p = mass;
      CHECK_EQ(differences(p, vocabulary, rounds), 0);
      p = neutral(), p.typical_p = mass;
      CHECK_EQ(differences(p, vocabulary, rounds), 0);
      p = neutral(), p.min_p = mass;
      CHECK_EQ(differences(p, vocabulary, rounds), 0);
    }
    for (float n : {0.5f, 1.0f, 2.0f}) {
      p = neutral(), p.top_n_sigma = n;
      CHECK_EQ(differences(p, vocabulary, rounds), 0);
    }
    for (float threshold : {0.0f, 0.01f, 0.1f, 0.4f}) {
      p = neutral(), p.xtc_probability = 0.5f, p.xtc_threshold = threshold;
      CHECK_EQ(differences(p, vocabulary, rounds), 0);
    }
    for (float temperature : {1e-30f, 0.1f, 0.8f, 2.0f, 100.0f}) {
      p = neutral(), p.temperature = temperature;
      CHECK_EQ(differences(p, vocabulary, rounds), 0);
    }
    p = SamplingParams(), p.seed = 7;
    CHECK_EQ(differences(p, vocabulary, rounds), 0);
    p.typical_p = 0.9f, p.top_n_sigma = 2, p.xtc_probability = 0.3f, p.top_k = 200;
    CHECK_EQ(differences(p, vocabulary, rounds), 0);
  }
}

TEST(large_vocabularies_match_the_reference) {
  for (int32_t k : {0, 40, 5000}) {
    for (float mass : {1.0f, 0.95f}) {
      SamplingParams p;
      p.top_k = k, p.top_p = mass, p.min_p = 0;
      CHECK_EQ(differences(p, 262144, 2), 0);
    }
  }
}

TEST(draws_have_the_distribution) {
  const std::vector<float> logits = random_logits(5, 12, 2);
  auto p = neutral();
  for (float temperature : {0.5f, 1.0f, 1.7f}) {
    p.temperature = temperature;
    for (uint64_t seed : {0ull, 1ull, 0xffffffffffffffffull}) {
      p.seed = seed;
      Sampler sampler(p, 12, -1);
      std::vector<int> seen(12);
      for (int32_t i = 0; i < 100000; ++i) ++seen[size_t(sampler.sample(logits, i).token)];
      std::vector<double> expected(12);
      Reference reference(widened(logits));
      const auto q = reference.probabilities(temperature);
      for (size_t i = 0; i < 12; ++i) expected[size_t(reference.tokens[i].id)] = q[i];
      CHECK(fits(seen, expected, 100000));
    }
  }
}

TEST(xtc_has_its_probability_and_its_own_numbers) {
  const std::vector<float> logits = {2, 1.9f, 1.8f, -3};  // three above 0.1; the third stays
  auto p = neutral();
  p.top_p = 0.9f;
  p.xtc_probability = 0.25f, p.xtc_threshold = 0.1f;
  auto without = p;
  without.xtc_probability = 0;
  Sampler with_xtc(p, 4, -1), plain(without, 4, -1);
  int applied = 0, changed_elsewhere = 0;
  for (int32_t i = 0; i < 40000; ++i) {
    const bool on = uniform(p.seed, i, RandomStream::xtc) < 0.25;
    const int32_t token = with_xtc.sample(logits, i).token;
    applied += on;
    if (on) CHECK_EQ(token, 2);
    if (!on) changed_elsewhere += token != plain.sample(logits, i).token;
  }
  CHECK(std::abs(applied - 10000) < 500);
  CHECK_EQ(changed_elsewhere, 0);
}

TEST(same_seed_and_position_same_token) {
  SamplingParams p;
  p.seed = 99;
  const auto logits = random_logits(3, 1000);
  Sampler a(p, 1000, -1), b(p, 1000, 5);
  std::vector<int32_t> forward, backward;
  for (int32_t i = 0; i < 200; ++i) forward.push_back(a.sample(logits, i).token);
  for (int32_t i = 199; i >= 0; --i) backward.push_back(b.sample(logits, i).token);
  std::reverse(backward.begin(), backward.end());
  CHECK(forward == backward);
  CHECK(std::set<int32_t>(forward.begin(), forward.end()).size() > 5);
  p.seed = 100;
  Sampler c(p, 1000, -1);
  int same = 0;
  for (int32_t i = 0; i < 200; ++i) same += c.sample(logits, i).token == forward[size_t(i)];
  CHECK(same < 100);
}

TEST(ties_go_to_the_lowest_id) {
  auto p = SamplingParams();
  p.temperature = 0;
  for (int vocabulary : {3, 64, 1000}) {
    std::vector<float> logits(size_t(vocabulary), 1.0f);
    CHECK_EQ(Sampler(p, vocabulary, -1).sample(logits, 0).token, 0);
    logits[size_t(vocabulary) - 1] = logits[1] = 2;
    CHECK_EQ(Sampler(p, vocabulary, -1).sample(logits, 0).token, 1);
  }
  std::vector<float> zeros = {-1, -0.0f, 0.0f};
  CHECK_EQ(Sampler(p, 3, -1).sample(zeros, 0).token, 1);
  // All equal: top-k and top-p keep the lowest ids.
  const std::vector<float> equal(5000, -7.0f);
  p = neutral();
  p.top_k = 10;
  Sampler by_k(p, 5000, -1);
  p.top_k = 0, p.top_p = 0.002f;
  Sampler by_p(p, 5000, -1);
  for (int32_t i = 0; i < 300; ++i) {
    CHECK(by_k.sample(equal, i).token < 10);
    CHECK(by_p.sample(equal, i).token < 11);
  }
}

TEST(greedy_ignores_what_narrows) {
  SamplingParams p;
  p.temperature = 0, p.typical_p = 0.1f, p.xtc_probability = 1, p.xtc_threshold = 0;
  Sampler sampler(p, 2000, -1);
  for (uint32_t i = 0; i < 50; ++i) {
    const auto logits = random_logits(i, 2000);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    CHECK_EQ(sampler.sample(logits, int32_t(i)).token, int32_t(best));
  }
}

TEST(logprobs_are_of_the_models_own_distribution) {
  SamplingParams p;
  p.temperature = 0.3f, p.repeat_penalty = 1.5f, p.top_k = 2;
  p.logit_bias = {{3, 5.0f}};
  for (int vocabulary : {5, 1000, 200000}) {
    auto logits = random_logits(17, vocabulary, 8);
    logits[2] = -kInf;
    Sampler sampler(p, vocabulary, 5);
    sampler.accept(1);
    const Sampled s = sampler.sample(logits, 0);
    Reference reference(widened(logits));
    const auto q = reference.probabilities();
    CHECK_EQ(s.top.size(), std::min<size_t>(5, q.size()));
    for (size_t i = 0; i < s.top.size(); ++i) {
      CHECK_EQ(s.top[i].token, reference.tokens[i].id);
      CHECK(std::fabs(double(s.top[i].logprob) - std::log(q[i])) < 1e-6 * (1 + std::fabs(std::log(q[i]))));
    }
    for (size_t i = 0; i < q.size(); ++i) {
      if (reference.tokens[i].id == s.token) CHECK(std::fabs(double(s.logprob) - std::log(q[i])) < 2e-6);
    }
  }
  CHECK_EQ(Sampler(p, 5, 0).sample(random_logits(1, 5), 0).top.size(), size_t{0});
}

TEST(bad_logits_are_numeric_errors) {
  for (float temperature : {0.0f, 1.0f}) {
    SamplingParams p;
    p.temperature = temperature;
    for (int vocabulary : {1, 63, 64, 65, 1000}) {
      Sampler sampler(p, vocabulary, -1);
      for (int place : {0, vocabulary / 2, vocabulary - 1}) {
        auto logits = random_logits(2, vocabulary);
        logits[size_t(place)] = NAN;
        const Error nan = refusal([&] { sampler.sample(logits, 12); });
        CHECK(nan.code() == Code::numeric);
        CHECK(nan.message().find("token " + std::to_string(place) + " at position 12 is NaN") !=
              std::string::npos);
        logits[size_t(place)] = kInf;
        CHECK(refusal([&] { sampler.sample(logits, 0); }).code() == Code::numeric);
      }
      const std::vector<float> nothing(size_t(vocabulary), -kInf);
      CHECK(refusal([&] { sampler.sample(nothing, 0); }).code() == Code::numeric);
      const std::vector<float> short_of_one(size_t(vocabulary) - 1, 0.0f);
      CHECK(refusal([&] { sampler.sample(short_of_one, 0); }).code() == Code::internal);
    }
  }
}

TEST(masked_tokens_are_never_drawn) {
  std::vector<float> logits(3000, -kInf);
  logits[1234] = -80, logits[2999] = -81;
  for (auto change : std::vector<std::function<void(SamplingParams&)>>{
           [](auto& p) { p.top_k = 40; }, [](auto& p) { p.top_p = 0.99f; },
           [](auto& p) { p.typical_p = 0.99f; }, [](auto& p) { p.top_n_sigma = 3; },
           [](auto& p) { p.temperature = 100; }, [](auto&) {}}) {
    auto p = neutral();
    change(p);
    Sampler sampler(p, 3000, 3);
    for (int32_t i = 0; i < 100; ++i) {
      const Sampled s = sampler.sample(logits, i);
      CHECK(s.token == 1234 || s.token == 2999);
      CHECK_EQ(s.top.size(), size_t{2});
    }
  }
}

TEST(extreme_logits_stay_in_bounds) {
  const float huge = std::numeric_limits<float>::max();
  std::vector<float> logits(1000, -huge);
  logits[500] = huge, logits[501] = 0;
  SamplingParams p;
  p.top_k = 0, p.typical_p = 0.5f, p.top_n_sigma = 1, p.frequency_penalty = 100, p.dry_multiplier = 100;
  p.dry_base = 100, p.dry_allowed_length = 1;
  p.logit_bias = {{500, 1e6f}, {1, -1e6f}};
  Sampler sampler(p, 1000, 3);
  for (int i = 0; i < 200; ++i) sampler.accept(501);
  for (int32_t i = 0; i < 20; ++i) CHECK_EQ(sampler.sample(logits, i).token, 500);
}

TEST(settings_out_of_range_are_refused_by_name) {
  const auto refused = [](const char* name, const std::function<void(SamplingParams&)>& change) {
    SamplingParams p;
    change(p);
    const Error e = refusal([&] { Sampler(p, 100, 0); });
    CHECK(e.code() == Code::invalid_argument);
    if (e.message().find(name) == std::string::npos) CHECK_EQ(e.message(), std::string(name));
  };
  refused("temperature must be a number from 0 to 100, got -1", [](auto& p) { p.temperature = -1; });
  refused("temperature", [](auto& p) { p.temperature = NAN; });
  refused("temperature", [](auto& p) { p.temperature = kInf; });
  refused("topK must be an integer from 0 to 2147483647, got -3", [](auto& p) { p.top_k = -3; });
  refused("topP must be a number from 0 to 1, got 1.5", [](auto& p) { p.top_p = 1.5f; });
  refused("minP", [](auto& p) { p.min_p = -0.1f; });
  refused("typicalP", [](auto& p) { p.typical_p = 2; });
  refused("topNSigma", [](auto& p) { p.top_n_sigma = -1; });
  refused("repeatPenalty", [](auto& p) { p.repeat_penalty = 0; });
  refused("frequencyPenalty", [](auto& p) { p.frequency_penalty = NAN; });
  refused("presencePenalty", [](auto& p) { p.presence_penalty = 1000; });
  refused("penaltyLastN", [](auto& p) { p.penalty_last_n = -2; });
  refused("dryMultiplier", [](auto& p) { p.dry_multiplier = -1; });
  refused("dryBase", [](auto& p) { p.dry_base = 0.5f; });
  refused("dryAllowedLength", [](auto& p) { p.dry_allowed_length = 0; });
  refused("dryPenaltyLastN", [](auto& p) { p.dry_penalty_last_n = -2; });
  refused("xtcProbability", [](auto& p) { p.xtc_probability = 1.1f; });
  refused("xtcThreshold", [](auto& p) { p.xtc_threshold = -1; });
  refused("dryBreakers", [](auto& p) { p.dry_breakers = {{}}; });
  refused("dryBreakers", [](auto& p) { p.dry_breakers = {{1, 100}}; });
  refused("each key of logitBias must be a token id from 0 to 99, got 100", [](auto& p) {
    p.logit_bias = {{100, 1}};
  });
  refused("logitBias", [](auto& p) { p.logit_bias = {{-1, 1}}; });
  refused("logitBias of token 5", [](auto& p) { p.logit_bias = {{5, kInf}}; });
  refused("logitBias of token 5", [](auto& p) { p.logit_bias = {{5, NAN}}; });
  CHECK(refusal([] { Sampler(SamplingParams(), 100, -2); }).code() == Code::invalid_argument);
  CHECK(refusal([] { Sampler(SamplingParams(), 100, 101); }).code() == Code::invalid_argument);
  CHECK(refusal([] { Sampler(SamplingParams(), 0, -1); }).code() == Code::invalid_argument);
}
