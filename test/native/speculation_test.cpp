// Guesses at what a request draws next, whether right, wrong or both: what it gets must be what it gets
// without them, to the bit, and right guesses must spare steps.
#include <functional>

#include "native/engine/lookup.h"
#include "native/engine/philox.h"
#include "native/engine/speculation.h"
#include "test/native/engine_testing.h"
#include "test/native/temp_path.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

using Guesser = decltype(EngineOptions::guesser);

// What is known to come after each prompt.
class Oracle {
 public:
  void add(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer) {
    answers_[prompt] = answer;
  }
  // What follows `tokens`; empty where that is not known.
  std::vector<int32_t> rest(std::span<const int32_t> tokens, int32_t prompt) const {
    const auto known = answers_.find({tokens.begin(), tokens.begin() + prompt});
    const size_t drawn = tokens.size() - size_t(prompt);
    if (known == answers_.end() || drawn > known->second.size()) return {};
    return {known->second.begin() + ptrdiff_t(drawn), known->second.end()};
  }

 private:
  std::map<std::vector<int32_t>, std::vector<int32_t>> answers_;
};

enum class Kind { right, wrong, mixed };

// Up to 5 guesses each, or all that is known where they are right.
Guesser guesser(const std::shared_ptr<Oracle>& oracle, Kind kind) {
  return [oracle, kind](std::span<const int32_t> tokens, int32_t prompt, std::vector<int32_t>& guesses) {
    guesses = oracle->rest(tokens, prompt);
    if (kind == Kind::right) return;
    guesses.resize(5, 3);
    for (size_t i = 0; i < guesses.size(); ++i) {
      const double u = uniform(tokens.size(), int32_t(i), RandomStream::draw);
      if (kind == Kind::wrong || u < 0.3) guesses[i] = (guesses[i] + 1) % 200;
    }
    if (kind == Kind::mixed) guesses.resize(tokens.size() % 6);
  };
}

// Runs each of `specs` without guesses and alone, then all together with guesses of each kind.
void check_all(const RandomModel& shape, Device device, std::vector<RequestSpec> specs,
               EngineOptions options = {}, const std::function<void(Rig&, uint64_t)>& meddle = {}) {
  const auto oracle = std::make_shared<Oracle>();
  std::vector<Outcome> expected;
  {
    Rig alone(shape, device);
    for (RequestSpec& spec : specs) {
      spec.speculation = SpeculationMode::off;
      expected.push_back(alone.collector.wait(alone.engine->submit(spec)));
      oracle->add(spec.prompt, expected.back().tokens);
      spec.speculation = SpeculationMode::automatic;
    }
    CHECK_EQ(alone.engine->stats().draft_tokens, uint64_t(0));
  }
  for (const Kind kind : {Kind::right, Kind::wrong, Kind::mixed}) {
    options.guesser = guesser(oracle, kind);
    options.guess_always = true;
    Rig rig(shape, device, 2, options);
    std::vector<uint64_t> ids;
    for (const RequestSpec& spec : specs) ids.push_back(rig.engine->submit(spec));
    for (const uint64_t id : ids)
      if (meddle) meddle(rig, id);
    uint64_t guesses = 0, held = 0, tokens = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      const Outcome got = rig.collector.wait(ids[i]);
      CHECK(!got.error);
      CHECK(got.tokens == expected[i].tokens);
      CHECK(got.logprobs == expected[i].logprobs);
      CHECK_EQ(got.text, expected[i].text);
      CHECK(got.finish == expected[i].finish);
      CHECK(got.stop == expected[i].stop);
      CHECK_EQ(got.usage.completion_tokens, expected[i].usage.completion_tokens);
      CHECK(got.usage.accepted_draft_tokens <= got.usage.draft_tokens);
      guesses += uint64_t(got.usage.draft_tokens);
      held += uint64_t(got.usage.accepted_draft_tokens);
      tokens += got.tokens.size();
    }
    if (kind == Kind::right && tokens > 40 * ids.size() && !meddle) CHECK(held > tokens / 4);
    if (kind == Kind::wrong) CHECK_EQ(held, uint64_t(0));
    if (kind == Kind::wrong && tokens > 20) CHECK(guesses > 0);
    const EngineStats stats = rig.engine->stats();
    CHECK_EQ(stats.draft_tokens, guesses);
    CHECK_EQ(stats.accepted_draft_tokens, held);
    CHECK_EQ(stats.kv_held, 0);
  }
}

}  // namespace

TEST(guesses_change_no_bit) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      for (const float temperature : {0.0f, 0.9f}) {
        check_all(shape, device, {request(70, 90, temperature)});
        std::vector<RequestSpec> several;
        for (int32_t i = 0; i < 6; ++i)
          several.push_back(request(10 + 13 * i, 60 + i, i % 3 ? temperature : 0, i));
        check_all(shape, device, several);
      }
    }
  }
}

TEST(right_guesses_spare_steps) {
  const auto oracle = std::make_shared<Oracle>();
  const RequestSpec spec = request(40, 121, 0.9f);
  Rig alone(shapes()[0], Device::cpu);
  oracle->add(spec.prompt, alone.collector.wait(alone.engine->submit(spec)).tokens);
  EngineOptions options;
  options.guesser = guesser(oracle, Kind::right);
  options.guess_always = true;
  Rig rig(shapes()[0], Device::cpu, 1, options);
  const Outcome got = rig.collector.wait(rig.engine->submit(spec));
  // The prompt's step, then 24 tokens a step.
  CHECK_EQ(rig.engine->stats().steps, uint64_t(1 + 120 / 24));
  CHECK_EQ(got.usage.accepted_draft_tokens, 120 / 24 * 23);
  CHECK_EQ(got.usage.draft_tokens, 120 / 24 * 23);
}

TEST(guesses_change_no_bit_with_penalties_and_other_settings) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      std::vector<RequestSpec> specs;
      for (int32_t i = 0; i < 6; ++i) {
        RequestSpec spec = request(30, 80, 1.1f, i);
        SamplingParams& s = spec.sampling;
        if (i == 0) s.repeat_penalty = 1.3f, s.penalty_last_n = 20;
        if (i == 1) s.frequency_penalty = 0.4f, s.presence_penalty = 0.4f, s.penalty_last_n = -1;
        if (i == 2) s.dry_multiplier = 0.8f, s.dry_breakers = {{7}, {8, 9}};
        if (i == 3) s.xtc_probability = 0.5f, s.top_n_sigma = 1.5f, s.typical_p = 0.9f;
        if (i == 4) s.logit_bias = {{3, 4.0f}, {5, 3.0f}}, s.temperature = 0, s.repeat_penalty = 1.2f;
        if (i == 5) spec.top_logprobs = 3;
        specs.push_back(spec);
      }
      check_all(shape, device, specs);
    }
  }
}

TEST(guesses_end_where_the_text_ends) {
  for (const RandomModel& shape : shapes()) {
    Rig alone(shape);
    const std::vector<int32_t> free =
        alone.collector.wait(alone.engine->submit(request(30, 60, 0.9f))).tokens;
    const auto text_of = [&](size_t i) { return "[" + std::to_string(free[i]) + "]"; };
    for (const int32_t at : {1, 2, 6, 17, 30}) {
      const auto end = size_t(at);
      RequestSpec by_count = request(30, at, 0.9f), by_token = request(30, 60, 0.9f);
      check_all(shape, Device::reference, {by_count});
      by_token.stop_tokens = {free[end]};
      check_all(shape, Device::reference, {by_token});
      by_token.min_tokens = 20;
      check_all(shape, Device::reference, {by_token});
      // The end of one token and the beginning of the next.
      RequestSpec by_string = request(30, 60, 0.9f);
      by_string.stop = {text_of(end).substr(1) + text_of(end + 1).substr(0, 2)};
      check_all(shape, Device::reference, {by_string});
      by_string.stop = {text_of(end - 1).substr(1) + text_of(end) + text_of(end + 1)};
      check_all(shape, Device::reference, {by_string});
    }
    RequestSpec forced = request(30, 60, 0.9f);
    forced.forced = {7, 8, 9, 10, 11};
    check_all(shape, Device::reference, {forced});
    forced.max_tokens = 3;
    check_all(shape, Device::reference, {forced});
  }
}

TEST(guesses_end_where_the_context_ends) {
  for (const RandomModel& shape : shapes()) {
    EngineOptions options;
    options.context_length = 128;
    const auto oracle = std::make_shared<Oracle>();
    for (const int32_t shift : {-1, 10}) {
      RequestSpec spec = request(100, shift < 0 ? -1 : 200, 0.9f);
      spec.shift_keep = shift;
      spec.speculation = SpeculationMode::off;
      Rig alone(shape, Device::cpu, 1, options);
      const Outcome expected = alone.collector.wait(alone.engine->submit(spec));
      oracle->add(spec.prompt, expected.tokens);
      spec.speculation = SpeculationMode::automatic;
      for (const Kind kind : {Kind::right, Kind::wrong, Kind::mixed}) {
        EngineOptions guessing = options;
        guessing.guesser = guesser(oracle, kind);
        guessing.guess_always = true;
        Rig rig(shape, Device::cpu, 1, guessing);
        const Outcome got = rig.collector.wait(rig.engine->submit(spec));
        CHECK(got.tokens == expected.tokens);
        CHECK(got.logprobs == expected.logprobs);
        CHECK_EQ(got.usage.dropped_tokens, expected.usage.dropped_tokens);
        CHECK(got.usage.draft_tokens > 0);
      }
    }
  }
}

TEST(guesses_take_nothing_from_others) {
  // Blocks run out, so that requests are set aside; and steps have room for few guesses.
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      EngineOptions options;
      options.kv_tokens = 512;
      options.max_batch_tokens = 14;
      std::vector<RequestSpec> specs;
      for (int32_t i = 0; i < 8; ++i) {
        specs.push_back(request(20 + 9 * i, 150, i % 2 ? 0.9f : 0.0f, i));
        specs.back().sampling.repeat_penalty = 1.1f;
        specs.back().share_prefix = i % 3 != 0;
        specs.back().priority = i == 5;
      }
      check_all(shape, device, specs, options);
    }
  }
}

TEST(guesses_go_on_after_a_pause_and_beside_shared_prefixes) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      std::vector<RequestSpec> specs;
      for (int32_t i = 0; i < 6; ++i) {
        RequestSpec spec = request(96, 70, 0.9f);
        const std::vector<int32_t> more = prompt_of(i, 200, i + 1);
        spec.prompt.insert(spec.prompt.end(), more.begin(), more.end());
        specs.push_back(spec);
      }
      check_all(shape, device, specs, {}, [](Rig& rig, uint64_t id) {
        std::this_thread::sleep_for(std::chrono::microseconds(700));
        rig.engine->pause(id);
        std::this_thread::sleep_for(std::chrono::microseconds(300));
        rig.engine->resume(id);
      });
    }
  }
}

TEST(only_what_was_drawn_becomes_a_prefix) {
  // Wrong guesses cross the ends of blocks; what they left in the cache must not be found by the next turn.
  for (const RandomModel& shape : shapes()) {
    for (const Kind kind : {Kind::wrong, Kind::mixed, Kind::right}) {
      const auto oracle = std::make_shared<Oracle>();
      Rig alone(shape);
      RequestSpec spec = request(60, 70);
      spec.speculation = SpeculationMode::off;
      const Outcome first = alone.collector.wait(alone.engine->submit(spec));
      oracle->add(spec.prompt, first.tokens);
      RequestSpec next = spec;
      next.prompt.insert(next.prompt.end(), first.tokens.begin(), first.tokens.end());
      next.prompt.push_back(9);
      const Outcome second = alone.collector.wait(alone.engine->submit(next));
      EngineOptions options;
      options.guesser = guesser(oracle, kind);
      options.guess_always = true;
      Rig rig(shape, Device::reference, 1, options);
      spec.speculation = next.speculation = SpeculationMode::automatic;
      CHECK(rig.collector.wait(rig.engine->submit(spec)).tokens == first.tokens);
      const Outcome got = rig.collector.wait(rig.engine->submit(next));
      CHECK_EQ(got.usage.cached_tokens, 128);
      CHECK(got.tokens == second.tokens);
      CHECK(got.logprobs == second.logprobs);
    }
  }
}

TEST(lookup_finds_the_longest_and_last_occurrence) {
  PromptLookup lookup;
  std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 9, 3, 4, 6, 9, 2, 3, 4}, guesses;
  std::vector<double> odds;
  lookup.extend(tokens);
  lookup.guess(tokens, 3, guesses, odds);
  CHECK((guesses == std::vector<int32_t>{5, 9, 3}));  // after 2 3 4, not after 3 4
  CHECK_EQ(odds.size(), size_t(3));
  CHECK(odds[0] < 1 && odds[1] < odds[0] && odds[2] < odds[1] && odds[2] > 0);
  tokens.push_back(5);  // as guessed
  guesses.clear();
  odds.clear();
  lookup.extend(tokens);
  lookup.guess(tokens, 2, guesses, odds);
  CHECK((guesses == std::vector<int32_t>{9, 3}));
  tokens.insert(tokens.end(), {3, 4});  // not as guessed
  guesses.clear();
  lookup.extend(tokens);
  lookup.guess(tokens, 2, guesses, odds);
  CHECK((guesses == std::vector<int32_t>{5, 3}));
  tokens.push_back(150);
  guesses.clear();
  lookup.extend(tokens);
  lookup.guess(tokens, 2, guesses, odds);
  CHECK(guesses.empty());
  // A text that goes round.
  tokens = {8, 7, 6, 8, 7, 6, 8};
  lookup.clear();
  lookup.extend(tokens);
  lookup.guess(tokens, 6, guesses, odds);
  CHECK((guesses == std::vector<int32_t>{7, 6, 8, 7, 6, 8}));
  // One token that stood before is enough.
  tokens = {5, 1, 2, 5};
  lookup.clear();
  guesses.clear();
  lookup.extend(tokens);
  lookup.guess(tokens, 2, guesses, odds);
  CHECK((guesses == std::vector<int32_t>{1, 2}));
  for (const std::vector<int32_t>& few : {std::vector<int32_t>{5}, {5, 6}, {}}) {
    lookup.clear();
    guesses.clear();
    lookup.extend(few);
    lookup.guess(few, 4, guesses, odds);
    CHECK(guesses.empty());
  }
}

TEST(lookup_gives_what_a_search_gives_however_tokens_arrive) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<int32_t> tokens;
    const auto random = [&](int32_t below) {
      return int32_t(uniform(seed, int32_t(tokens.size()), RandomStream::draw) * below);
    };
    PromptLookup piecewise;
    while (tokens.size() < 3000) {
      // Copies of earlier parts, and others between.
      const int32_t from = tokens.empty() ? 0 : random(int32_t(tokens.size()));
      for (int32_t i = 0; i < 12 && from + i < int32_t(tokens.size()); ++i)
        tokens.push_back(tokens[size_t(from + i)]);
      for (int32_t i = 0; i < 5; ++i) tokens.push_back(random(50));
      piecewise.extend(tokens);
    }
    PromptLookup at_once;
    at_once.extend(tokens);
    std::vector<int32_t> a, b;
    std::vector<double> odds;
    piecewise.guess(tokens, 20, a, odds);
    at_once.guess(tokens, 20, b, odds);
    CHECK(a == b);
    CHECK_EQ(odds.size(), a.size() + b.size());
  }
}

TEST(rates_follow_what_held) {
  GuessRates rates;
  for (int i = 0; i < 100; ++i) rates.learn(20, true), rates.learn(2, false), rates.learn(8, i % 2 == 0);
  CHECK(rates.rate(25) > 0.95);
  CHECK(rates.rate(2) < 0.05);
  CHECK(rates.rate(9) > 0.35 && rates.rate(9) < 0.65);
  for (int i = 0; i < 60; ++i) rates.learn(20, false);
  CHECK(rates.rate(20) < 0.1);
}

TEST(step_costs_are_a_line_through_the_last_steps) {
  StepCost cost;
  CHECK_EQ(cost.seconds(3), 0.0);
  cost.record(1, 1.0);
  CHECK(cost.seconds(11) > 1.5 && cost.seconds(11) < 2.5);  // assumed
  for (int i = 0; i < 200; ++i) {
    const int32_t rows = 1 + i % 9;
    cost.record(rows, i % 20 == 7 ? 50.0 : 2 + 0.5 * rows);  // some are held up
  }
  CHECK(cost.seconds(1) > 2 && cost.seconds(1) < 3.5);
  CHECK(cost.seconds(9) > 5.5 && cost.seconds(9) < 8.5);
  for (int i = 0; i < 300; ++i) cost.record(1 + i % 2, 0.25);
  CHECK(cost.seconds(1) > 0.2 && cost.seconds(1) < 0.3);
}

TEST(a_draft_model_changes_no_bit) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      RandomModel other = shape, small = shapes()[0];
      other.seed = 2;
      small.layers = 1;
      for (const int kind : {0, 1, 2}) {
        EngineOptions options;
        options.draft = load_random(kind == 0 ? shape : kind == 1 ? other : small, device);
        options.draft_tokens = 5;
        options.guess_always = true;
        options.kv_tokens = 640;
        options.max_batch_tokens = 70;
        Rig rig(shape, device, 2, options), alone(shape, device);
        CHECK(rig.engine->info().kv_bytes > alone.engine->info().kv_bytes / 8);
        std::vector<RequestSpec> specs;
        std::vector<uint64_t> ids;
        for (int32_t i = 0; i < 8; ++i) {
          RequestSpec spec = request(20 + 40 * (i % 5), 70, i % 2 ? 0.0f : 0.9f, i / 2);
          spec.speculation = i < 6 ? SpeculationMode::draft : SpeculationMode::automatic;
          if (i == 3) spec.sampling.repeat_penalty = 1.2f;
          if (i == 4) spec.stop_tokens = {11, 12, 13};
          if (i == 5) spec.share_prefix = false;
          specs.push_back(spec);
          ids.push_back(rig.engine->submit(spec));
        }
        rig.engine->pause(ids[2]);
        std::this_thread::sleep_for(std::chrono::microseconds(500));
        rig.engine->pause(ids[6]);
        rig.engine->resume(ids[2]);
        rig.engine->resume(ids[6]);
        for (size_t i = 0; i < ids.size(); ++i) {
          specs[i].speculation = SpeculationMode::off;
          const Outcome got = rig.collector.wait(ids[i]);
          const Outcome expected = alone.collector.wait(alone.engine->submit(specs[i]));
          CHECK(!got.error);
          CHECK(got.tokens == expected.tokens);
          CHECK(got.logprobs == expected.logprobs);
          CHECK(got.finish == expected.finish);
        }
        CHECK(rig.engine->stats().draft_tokens > 0);
        CHECK_EQ(rig.engine->stats().kv_held, 0);
      }
    }
  }
}

TEST(a_draft_of_the_same_weights_is_always_right) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      EngineOptions options;
      options.draft = load_random(shape, device);
      options.draft_tokens = 5;
      options.guess_always = true;
      Rig rig(shape, device, 1, options);
      RequestSpec spec = request(130, 61);
      spec.speculation = SpeculationMode::draft;
      for (int again = 0; again < 2; ++again) {  // then with prefixes that both caches know
        const Outcome got = rig.collector.wait(rig.engine->submit(spec));
        CHECK_EQ(got.tokens.size(), size_t(61));
        CHECK(got.usage.draft_tokens > 20);
        CHECK_EQ(got.usage.accepted_draft_tokens, got.usage.draft_tokens);
      }
    }
  }
}

TEST(a_draft_over_the_context_and_its_end) {
  for (const RandomModel& shape : shapes()) {
    for (const int32_t shift : {-1, 10}) {
      EngineOptions options;
      options.context_length = 128;
      options.kv_tokens = 128;
      RequestSpec spec = request(70, shift < 0 ? -1 : 200, 0);
      spec.shift_keep = shift;
      Rig alone(shape, Device::cpu, 1, options);
      options.draft = load_random(shape, Device::cpu);
      options.guess_always = true;
      Rig rig(shape, Device::cpu, 1, options);
      const Outcome expected = alone.collector.wait(alone.engine->submit(spec));
      spec.speculation = SpeculationMode::draft;
      const Outcome got = rig.collector.wait(rig.engine->submit(spec));
      CHECK(got.tokens == expected.tokens);
      CHECK(got.logprobs == expected.logprobs);
      CHECK(got.usage.accepted_draft_tokens > 30);
    }
  }
}

TEST(a_model_does_not_draft_for_itself) {
  Rig rig(shapes()[0]);
  EngineOptions options;
  options.draft = rig.model;
  check_error("itself", Code::invalid_argument, {"the model itself"},
              [&] { Engine::create(rig.model, {}, options, rig.collector); });
}

TEST(guesses_are_tried_where_they_pay) {
  // By measured times; whatever they are, the text is the same.
  RandomModel shape = shapes()[0];
  Rig rig(shape, Device::cpu), alone(shape, Device::cpu);
  for (int32_t i = 0; i < 4; ++i) {
    RequestSpec spec = request(40, 200, 0, i);
    spec.prompt.insert(spec.prompt.end(), spec.prompt.begin(), spec.prompt.end());
    const Outcome got = rig.collector.wait(rig.engine->submit(spec));
    spec.speculation = SpeculationMode::off;
    const Outcome expected = alone.collector.wait(alone.engine->submit(spec));
    CHECK(got.tokens == expected.tokens);
    CHECK(got.logprobs == expected.logprobs);
  }
}
