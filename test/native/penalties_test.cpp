// Logit bias and penalties against straightforward references over the whole history.
#include "native/engine/penalties.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "native/core/error.h"
#include "test/native/check.h"

using namespace inhouse;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> applied(Penalties& penalties, std::vector<float> logits) {
  const std::vector<float> before = logits;
  std::vector<int32_t> touched;
  penalties.apply(logits, touched);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] != before[i]) CHECK(std::find(touched.begin(), touched.end(), int32_t(i)) != touched.end());
  }
  return logits;
}

void check_close(const std::vector<float>& a, const std::vector<double>& b, int line) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::fabs(double(a[i]) - b[i]) > 1e-6 * (1 + std::fabs(b[i]))) {
      test::fail(__FILE__, line,
                 "token " + std::to_string(i) + ": " + std::to_string(a[i]) + " != " + std::to_string(b[i]));
    }
  }
}

// Longest run before the end that also stands before an earlier `token`, tried one by one.
int longest_repetition(const std::vector<int32_t>& window, int32_t token, int limit) {
  const int n = int(window.size());
  int longest = 0;
  for (int at = 0; at < n; ++at) {
    if (window[size_t(at)] != token) continue;
    int length = 0;
    while (length < limit && at - 1 - length >= 0 &&
           window[size_t(at - 1 - length)] == window[size_t(n - 1 - length)])
      ++length;
    longest = std::max(longest, length);
  }
  return longest;
}

}  // namespace

TEST(counts_follow_the_window) {
  for (int32_t last_n : {-1, 0, 1, 5, 64}) {
    SamplingParams p;
    p.repeat_penalty = 1.3f, p.frequency_penalty = 0.25f, p.presence_penalty = 0.5f,
    p.penalty_last_n = last_n;
    Penalties penalties(p, 10);
    CHECK_EQ(penalties.active(), last_n != 0);
    std::mt19937 engine(uint32_t(last_n + 2));
    std::vector<float> logits = {3, -2, 0, 1, -kInf, 5, -1, 2, 4, -3};
    std::vector<int32_t> history;
    for (int step = 0; step < 200; ++step) {
      const int32_t token = int32_t(engine() % (step < 100 ? 10 : 3));
      history.push_back(token);
      penalties.accept(token);
      const size_t window = last_n < 0 ? history.size() : std::min(history.size(), size_t(last_n));
      std::map<int32_t, int> counts;
      for (size_t i = history.size() - window; i < history.size(); ++i) ++counts[history[i]];
      std::vector<double> expected(logits.begin(), logits.end());
      for (const auto& [id, count] : counts) {
        double& x = expected[size_t(id)];
        x = x > 0 ? x / 1.3 : x * 1.3;
        x -= count * 0.25 + 0.5;
      }
      auto got = applied(penalties, logits);
      CHECK_EQ(got[4], -kInf);
      got[4] = 0, expected[4] = 0;
      check_close(got, expected, __LINE__);
    }
  }
}

TEST(bias_adds_and_bans) {
  SamplingParams p;
  p.logit_bias = {{0, 1.5f}, {1, -kInf}, {2, -2}, {3, 100}, {0, 0.5f}};
  Penalties penalties(p, 5);
  const auto got = applied(penalties, {1, 1, 1, -kInf, 1});
  CHECK_EQ(got[0], 3.0f);
  CHECK_EQ(got[1], -kInf);
  CHECK_EQ(got[2], -1.0f);
  CHECK_EQ(got[3], -kInf);  // what the model or a constraint excludes stays out
  CHECK_EQ(got[4], 1.0f);
}

TEST(bans_reach_the_sampler) {
  SamplingParams p;
  std::vector<float> logits(500, 0.0f);
  logits[7] = 20;
  p.logit_bias = {{7, -kInf}, {300, 15}};
  for (float temperature : {0.0f, 0.8f}) {
    p.temperature = temperature;
    Sampler sampler(p, 500, -1);
    CHECK_EQ(sampler.sample(logits, 0).token, 300);
  }
  p.logit_bias.clear();
  for (int32_t i = 0; i < 500; ++i) p.logit_bias.push_back({i, -kInf});
  try {
    Sampler(p, 500, -1).sample(logits, 0);
    CHECK(false);
  } catch (const Error& e) {
    CHECK(e.code() == Code::invalid_argument);
  }
}

TEST(accept_refuses_what_is_no_token) {
  SamplingParams p;
  Sampler sampler(p, 10, -1);
  for (int32_t token : {-1, 10, 1 << 30}) {
    try {
      sampler.accept(token);
      CHECK(false);
    } catch (const Error& e) {
      CHECK(e.code() == Code::token_out_of_range);
    }
  }
}

TEST(dry_known_case) {
  // "1 2 3 4 … 1 2 3": 4 would lengthen a repetition of three, 9 would not.
  SamplingParams p;
  p.dry_multiplier = 2, p.dry_base = 1.5f, p.dry_allowed_length = 2;
  Penalties penalties(p, 10);
  for (int32_t token : {1, 2, 3, 4, 8, 1, 2, 3}) penalties.accept(token);
  const auto got = applied(penalties, std::vector<float>(10, 1.0f));
  CHECK_EQ(got[4], 1.0f - 2 * 1.5f);
  for (size_t i : {0, 1, 2, 3, 5, 6, 7, 8, 9}) CHECK_EQ(got[i], 1.0f);
}

TEST(dry_matches_the_reference) {
  std::mt19937 engine(4);
  for (int round = 0; round < 150; ++round) {
    SamplingParams p;
    p.dry_multiplier = 0.8f, p.dry_base = 1.2f;
    p.dry_allowed_length = 1 + int32_t(engine() % 4);
    p.dry_penalty_last_n = std::vector<int32_t>{-1, 3, 20, 0}[engine() % 4];
    if (round % 2) p.dry_breakers = {{0}, {1, 2}, {2, 2, 1}};
    const uint32_t alphabet = 2 + engine() % 5;
    Penalties penalties(p, 8);
    std::vector<int32_t> history;
    for (int step = 0; step < 60; ++step) {
      history.push_back(int32_t(engine() % alphabet));
      penalties.accept(history.back());
      size_t after = 0;
      for (size_t end = 1; end <= history.size(); ++end) {
        for (const auto& b : p.dry_breakers) {
          if (b.size() <= end && std::equal(b.begin(), b.end(), history.begin() + ptrdiff_t(end - b.size())))
            after = end;
        }
      }
      const size_t window =
          p.dry_penalty_last_n < 0 ? history.size() : std::min(history.size(), size_t(p.dry_penalty_last_n));
      const std::vector<int32_t> seen(history.end() - ptrdiff_t(window), history.end());
      std::vector<double> expected(8, 0.5);
      for (int32_t token = 0; token < 8; ++token) {
        if (round % 2 && token == 0) continue;
        const int length = longest_repetition(seen, token, int(std::min(window, history.size() - after)));
        if (length < p.dry_allowed_length) continue;
        expected[size_t(token)] -=
            double(p.dry_multiplier) * std::pow(double(p.dry_base), length - p.dry_allowed_length);
      }
      check_close(applied(penalties, std::vector<float>(8, 0.5f)), expected, __LINE__);
    }
  }
}

TEST(dry_is_linear) {
  // Quadratic work over this history would take hours.
  SamplingParams p;
  p.dry_multiplier = 1;
  p.temperature = 0;
  Sampler sampler(p, 4, -1);
  for (int i = 0; i < 2000000; ++i) sampler.accept(1);
  CHECK_EQ(sampler.sample(std::vector<float>{0, 5, 1, 0}, 0).token, 2);
}
