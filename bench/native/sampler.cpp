// Time of one draw at several settings and vocabulary sizes: inhouse_sampler [ROUNDS]. Logits are normal with
// a standard deviation of 3 and one clear favourite, as a model's often are.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>

#include "bench/native/arguments.h"
#include "native/engine/sampling.h"

using namespace inhouse;

namespace {

struct Setup {
  const char* name;
  int32_t top_logprobs;
  std::function<void(SamplingParams&)> change;
};

void measure(const Setup& setup, const std::vector<float>& logits, int rounds) {
  SamplingParams params;
  setup.change(params);
  const int32_t vocabulary = int32_t(logits.size());
  Sampler sampler(params, vocabulary, setup.top_logprobs);
  for (int32_t i = 0; i < 1000; ++i) sampler.accept(i * 31 % vocabulary);
  std::vector<double> microseconds;
  for (int32_t i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    sampler.accept(sampler.sample(logits, i).token);
    const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - start;
    microseconds.push_back(taken.count());
  }
  std::sort(microseconds.begin(), microseconds.end());
  const auto quantile = [&](double q) { return microseconds[size_t(q * double(microseconds.size() - 1))]; };
  std::printf("%7d  %-31s p50 %8.1f us  p90 %8.1f us\n", vocabulary, setup.name, quantile(0.5),
              quantile(0.9));
}

void only(SamplingParams& p) {
  p.top_k = 0, p.top_p = 1, p.min_p = 0;
}

void measure_all(bench::Arguments arguments) {
  const char* const text = arguments.next();
  const int rounds = text ? bench::number("ROUNDS", text, 1, 1'000'000) : 100;
  const std::vector<Setup> setups = {
      {"greedy", -1, [](auto& p) { p.temperature = 0; }},
      {"defaults", -1, [](auto&) {}},
      {"defaults, 20 log-probabilities", 20, [](auto&) {}},
      {"defaults, penalties, DRY", -1, [](auto& p) { p.repeat_penalty = 1.1f, p.dry_multiplier = 0.8f; }},
      {"defaults without top-k", -1, [](auto& p) { p.top_k = 0; }},
      {"top-k 5000", -1, [](auto& p) { only(p), p.top_k = 5000; }},
      {"min-p", -1, [](auto& p) { only(p), p.min_p = 0.05f; }},
      {"top-p", -1, [](auto& p) { only(p), p.top_p = 0.95f; }},
      {"typical", -1, [](auto& p) { only(p), p.typical_p = 0.9f; }},
      {"top-n-sigma", -1, [](auto& p) { only(p), p.top_n_sigma = 1; }},
      {"temperature alone", -1, [](auto& p) { only(p); }},
  };
  for (int vocabulary : {49152, 151936, 262144}) {
    std::mt19937 engine(1);
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> logits(static_cast<size_t>(vocabulary));
    for (float& x : logits) x = normal(engine);
    logits[77] = 16;
    for (const Setup& setup : setups) measure(setup, logits, rounds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_main(argc, argv, "inhouse_sampler [ROUNDS]", measure_all);
}
