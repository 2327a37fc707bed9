// Many requests on one engine: shared prefixes, requests set aside and continued, order, time limits. What a
// request gets must be what it gets alone, to the bit.
#include "native/engine/kv_cache.h"
#include "test/native/engine_testing.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

TEST(a_prefix_is_computed_once_and_changes_no_bit) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      Rig alone(shape, device), rig(shape, device, 2);
      RequestSpec cold = with_prefix(200, 30, 1);
      cold.share_prefix = false;
      const Outcome expected = run(alone, cold);
      CHECK_EQ(expected.usage.cached_tokens, 0);
      CHECK_EQ(run(rig, with_prefix(200, 30, 2)).usage.cached_tokens, 0);
      const Outcome hit = run(rig, with_prefix(200, 30, 1));
      check_same(hit, expected);
      CHECK_EQ(hit.usage.cached_tokens, 192);  // whole blocks of 32
      CHECK_EQ(hit.usage.computed_prompt_tokens, 38);
      // Its own answer is there for the next turn.
      RequestSpec next = with_prefix(200, 30, 1);
      next.prompt.insert(next.prompt.end(), expected.tokens.begin(), expected.tokens.end());
      RequestSpec next_cold = next;
      next_cold.share_prefix = false;
      const Outcome continued = run(rig, next);
      check_same(continued, run(alone, next_cold));
      CHECK_EQ(continued.usage.cached_tokens, 224);
    }
  }
}

TEST(requests_at_once_compute_their_prefix_once) {
  EngineOptions options;
  options.max_concurrent = 16;
  options.max_batch_tokens = 64;
  Rig rig(shapes()[0], Device::cpu, 2, options), alone(shapes()[0], Device::cpu);
  std::vector<uint64_t> ids;
  for (int32_t i = 0; i < 16; ++i) ids.push_back(rig.engine->submit(with_prefix(320, 10, i)));
  int64_t computed = 0;
  for (int32_t i = 0; i < 16; ++i) {
    const Outcome got = rig.collector.wait(ids[size_t(i)]);
    check_same(got, run(alone, with_prefix(320, 10, i)));
    computed += got.usage.computed_prompt_tokens;
  }
  CHECK_EQ(computed, 320 + 16 * 10);
}

TEST(prefixes_are_shared_within_a_scope_alone) {
  Rig rig(shapes()[0]);
  const auto cached = [&](const char* scope, bool share = true) {
    RequestSpec spec = with_prefix(128, 4, 1);
    spec.cache_scope = scope;
    spec.share_prefix = share;
    return run(rig, spec).usage.cached_tokens;
  };
  CHECK_EQ(cached("a"), 0);
  CHECK_EQ(cached("a"), 128);
  CHECK_EQ(cached("b"), 0);
  CHECK_EQ(cached(""), 0);
  CHECK_EQ(cached("", false), 0);
  CHECK_EQ(cached("", false), 0);
  CHECK_EQ(cached(""), 128);
}

TEST(blocks_come_back_and_prefixes_make_room) {
  for (const RandomModel& shape : shapes()) {
    EngineOptions options;
    options.kv_tokens = 512;
    Rig rig(shape, Device::reference, 1, options);
    CHECK_EQ(rig.engine->stats().kv_blocks, int64_t(16));
    for (int32_t i = 0; i < 12; ++i) {  // together far more than the cache holds
      RequestSpec spec = request(300, 8, 0, i);
      CHECK(run(rig, spec).finish == FinishReason::length);
      const EngineStats stats = idle(rig);
      CHECK_EQ(stats.kv_held, 0);
      CHECK(stats.kv_idle > 0 && stats.kv_idle <= 16);
    }
    RequestSpec spec = request(300, 8);
    spec.share_prefix = false;
    const int64_t before = idle(rig).kv_idle;
    run(rig, spec);
    CHECK(idle(rig).kv_idle <= before);  // nothing of it stays
  }
}

TEST(requests_that_are_set_aside_go_on_as_if_nothing_was) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      EngineOptions options;
      options.kv_tokens = 512;
      options.max_concurrent = 8;
      Rig rig(shape, device, 2, options), alone(shape, device);
      std::vector<RequestSpec> specs;
      std::vector<uint64_t> ids;
      for (int32_t i = 0; i < 8; ++i) {
        specs.push_back(request(20 + 9 * i, 150, i % 2 ? 0.9f : 0.0f, i));
        specs.back().sampling.repeat_penalty = 1.1f;
        specs.back().share_prefix = i % 3 != 0;
        ids.push_back(rig.engine->submit(specs.back()));
      }
      for (size_t i = 0; i < ids.size(); ++i) check_same(rig.collector.wait(ids[i]), run(alone, specs[i]));
      CHECK(idle(rig).set_aside > 0);
      CHECK_EQ(idle(rig).kv_held, 0);
    }
  }
}

TEST(a_paused_request_gives_way_and_goes_on) {
  EngineOptions options;
  options.max_concurrent = 1;
  Rig rig(shapes()[2], Device::cpu, 1, options), alone(shapes()[2], Device::cpu);
  const RequestSpec slow = request(60, 400, 0.9f), other = request(33, 20, 0.9f, 1);
  const uint64_t first = rig.engine->submit(slow);
  while (rig.collector.tokens(first) < 3) std::this_thread::yield();
  rig.engine->pause(first);
  check_same(run(rig, other), run(alone, other));  // there is one place
  const size_t so_far = rig.collector.tokens(first);
  CHECK(so_far < 400);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK_EQ(rig.collector.tokens(first), so_far);
  rig.engine->pause(first);  // again: nothing
  rig.engine->resume(first);
  rig.engine->resume(first);
  rig.engine->resume(987);
  check_same(rig.collector.wait(first), run(alone, slow));
  // One that is paused can be cancelled, and one that waits be paused.
  const uint64_t busy = rig.engine->submit(request(60, 400)), waiting = rig.engine->submit(request(60, 4));
  rig.engine->pause(waiting);
  rig.engine->cancel(busy);
  CHECK(rig.collector.wait(busy).finish == FinishReason::cancelled);
  rig.engine->cancel(waiting);
  CHECK(rig.collector.wait(waiting).finish == FinishReason::cancelled);
}

TEST(higher_priorities_go_first) {
  EngineOptions options;
  options.max_concurrent = 1;
  Rig rig(shapes()[0], Device::reference, 1, options);
  RequestSpec low = request(30, 300), high = request(30, 5, 0, 1);
  low.priority = -1;
  high.priority = 3;
  const uint64_t first = rig.engine->submit(low);
  while (rig.collector.tokens(first) == 0) std::this_thread::yield();
  const uint64_t second = rig.engine->submit(low), third = rig.engine->submit(high);
  CHECK_EQ(rig.collector.wait(third).tokens.size(), size_t(5));  // in the place of one that had begun
  CHECK(rig.collector.tokens(first) < 300);
  CHECK_EQ(rig.collector.tokens(second), size_t(0));
  check_same(rig.collector.wait(first), rig.collector.wait(second));
}

TEST(time_limits_end_requests) {
  EngineOptions options;
  options.max_concurrent = 1;
  Rig rig(shapes()[0], Device::reference, 1, options);
  RequestSpec endless = request(30, 470), waiting = request(30, 4), both = request(30, 4);
  const uint64_t running = rig.engine->submit(endless);
  waiting.queue_timeout_ms = 0.5;
  both.timeout_ms = 0.5;
  const auto code = [&](uint64_t id) {
    const Outcome outcome = rig.collector.wait(id);
    return outcome.error ? outcome.error->code() : Code::internal;
  };
  const uint64_t a = rig.engine->submit(waiting), b = rig.engine->submit(both);
  CHECK(code(a) == Code::timeout);
  CHECK(code(b) == Code::timeout);
  CHECK(rig.collector.wait(running).finish == FinishReason::length);
  endless.timeout_ms = 3;
  const Outcome cut = run(rig, endless);
  CHECK(cut.error && cut.error->code() == Code::timeout);
  CHECK(cut.tokens.size() < 470);
  // A paused one is ended in time though nothing else happens.
  endless.timeout_ms = 20;
  const uint64_t paused = rig.engine->submit(endless);
  rig.engine->pause(paused);
  CHECK(code(paused) == Code::timeout);
  // So are one that was set aside, one whose context shifts without end, and one whose reader never answers.
  endless.timeout_ms = 20;
  const uint64_t aside = rig.engine->submit(endless);
  RequestSpec high = request(30, 470);
  high.priority = 1;
  high.process_logits = true;  // which nobody answers: it has the place
  const uint64_t instead = rig.engine->submit(high);
  CHECK(code(aside) == Code::timeout);
  rig.engine->cancel(instead);
  RequestSpec shifting = request(500, -1);
  shifting.shift_keep = 4;
  shifting.timeout_ms = 60;
  const Outcome shifted = run(rig, shifting);
  CHECK(shifted.error && shifted.error->code() == Code::timeout);
  rig.collector.engine = nullptr;
  RequestSpec asks = request(30, 10), evaluates = request(300, -1);
  asks.process_logits = evaluates.evaluate = true;
  asks.timeout_ms = evaluates.timeout_ms = 20;
  CHECK(code(rig.engine->submit(asks)) == Code::timeout);
  options.max_batch_tokens = 50;
  Rig chunks(shapes()[0], Device::reference, 1, options);
  chunks.collector.engine = nullptr;
  const Outcome unread = run(chunks, evaluates);
  CHECK(unread.error && unread.error->code() == Code::timeout);
  CHECK_EQ(idle(rig).kv_held + idle(chunks).kv_held, 0);
  endless.timeout_ms = -1;
  check_error("negative", Code::invalid_argument, {"timeout"}, [&] { rig.engine->submit(endless); });
}

TEST(paused_requests_are_in_nobodys_way) {
  EngineOptions options;
  options.max_concurrent = 1;
  options.max_queue = 1;
  options.max_paused = 5;
  Rig rig(shapes()[0], Device::reference, 1, options);
  RequestSpec spec = request(30, 400);
  spec.process_logits = true;  // which nobody answers, so that none ends
  const auto pause_both = [&](int32_t paused) {
    const uint64_t a = rig.engine->submit(spec), b = rig.engine->submit(spec);
    rig.engine->pause(a);
    rig.engine->pause(b);
    for (int i = 0; i < 5000 && rig.engine->stats().paused < paused; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK_EQ(rig.engine->stats().paused, paused);
    return std::vector<uint64_t>{a, b};
  };
  std::vector<uint64_t> ids;
  for (int32_t paused = 2; paused <= 6; paused += 2)
    for (const uint64_t id : pause_both(paused)) ids.push_back(id);
  CHECK_EQ(rig.engine->stats().set_aside, uint64_t(0));    // they gave way to nobody
  CHECK(code_of(rig, request(4, 4)) == Code::queue_full);  // more than five
  EmbedSpec texts;
  texts.tokens = {5, 6, 7};
  texts.ends = {3};
  CHECK(!rig.collector.wait(rig.engine->embed(texts)).error);
  for (size_t i = 0; i < 3; ++i) rig.engine->cancel(ids[i]);
  for (size_t i = 0; i < 3; ++i) CHECK(rig.collector.wait(ids[i]).finish == FinishReason::cancelled);
  for (int i = 0; i < 5000 && rig.engine->stats().paused > 3; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  // Once they go on they count again: three for a place and one that may wait.
  for (size_t i = 3; i < 6; ++i) rig.engine->resume(ids[i]);
  for (int i = 0; i < 5000 && rig.engine->stats().paused > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(code_of(rig, request(4, 4)) == Code::queue_full);
  for (const uint64_t id : ids) rig.engine->cancel(id);
}

TEST(a_scope_that_nobody_can_reach_keeps_nothing) {
  for (const RandomModel& shape : shapes()) {
    EngineOptions options;
    options.max_concurrent = 1;
    Rig rig(shape, Device::cpu, 1, options);
    RequestSpec own = request(200, 200);
    own.share_prefix = false;
    own.process_logits = true;  // which nobody answers: it stays as it is
    RequestSpec high = own;
    high.priority = 1;
    // Set aside and cancelled before it has its place again, or paused.
    for (const bool pauses : {false, true}) {
      const uint64_t id = rig.engine->submit(own);
      rig.collector.rows(id, 200);
      if (pauses) rig.engine->pause(id);
      const uint64_t other = rig.engine->submit(high);
      rig.collector.rows(other, 200);
      for (const uint64_t each : {id, other}) {
        rig.engine->cancel(each);
        CHECK(rig.collector.wait(each).finish == FinishReason::cancelled);
      }
      const EngineStats stats = idle(rig);
      CHECK_EQ(stats.set_aside, uint64_t(1));
      CHECK_EQ(stats.kv_idle + stats.kv_held, 0);
    }
    // Or whose context has shifted, so that its first blocks are no longer those of its tokens.
    own = request(500, 100);
    own.share_prefix = false;
    own.shift_keep = 40;
    CHECK(run(rig, own).usage.dropped_tokens > 0);
    CHECK_EQ(idle(rig).kv_idle, 0);
    // One of several requests, once they are done.
    own = request(200, 4);
    own.cache_scope = "once";
    run(rig, own);
    own.cache_scope = "kept";
    run(rig, own);
    const int64_t both = idle(rig).kv_idle;
    rig.engine->forget(shared_scope("once", nullptr, 1));
    rig.engine->forget(shared_scope("unknown", nullptr, 1));
    for (int i = 0; i < 5000 && rig.engine->stats().kv_idle == both; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK_EQ(rig.engine->stats().kv_idle, both / 2);
    CHECK_EQ(run(rig, own).usage.cached_tokens, 192);
    own.cache_scope = "once";
    CHECK_EQ(run(rig, own).usage.cached_tokens, 0);
  }
}

TEST(answers_can_be_forced_and_kept_from_ending) {
  Rig rig(shapes()[0]);
  const Outcome free = run(rig, request(30, 12));
  RequestSpec spec = request(30, 12);
  spec.forced = {7, 8, 9};
  const Outcome forced = run(rig, spec);
  CHECK((std::vector<int32_t>(forced.tokens.begin(), forced.tokens.begin() + 3)) == spec.forced);
  CHECK_EQ(forced.logprobs.size(), size_t(12));
  RequestSpec same = request(30, 9);  // as if the prompt had gone on so
  same.prompt.insert(same.prompt.end(), {7, 8, 9});
  CHECK((std::vector<int32_t>(forced.tokens.begin() + 3, forced.tokens.end())) == run(rig, same).tokens);

  spec = request(30, 12);
  spec.stop_tokens = free.tokens;
  CHECK_EQ(run(rig, spec).tokens.size(), size_t(0));
  spec.min_tokens = 6;
  const Outcome later = run(rig, spec);
  CHECK(later.tokens.size() >= 6);
  for (size_t i = 0; i < 6; ++i)
    CHECK(std::count(free.tokens.begin(), free.tokens.end(), later.tokens[i]) == 0);
  spec.forced = {-1};
  CHECK(code_of(rig, spec) == Code::token_out_of_range);
}

TEST(log_probabilities_of_the_prompt_come_with_an_answer) {
  for (const Device device : devices()) {
    EngineOptions options;
    options.max_batch_tokens = 50;
    Rig rig(shapes()[2], device, 1, options);
    RequestSpec evaluation = request(130, -1);
    evaluation.evaluate = true;
    RequestSpec spec = request(130, 10);
    const Outcome prompt = run(rig, evaluation), answer = run(rig, spec);
    spec.prompt_logprobs = true;
    const Outcome both = run(rig, spec);
    CHECK_EQ(both.usage.cached_tokens, 0);
    CHECK(both.tokens == answer.tokens);
    std::vector<float> expected = prompt.logprobs;
    expected.insert(expected.end(), answer.logprobs.begin(), answer.logprobs.end());
    CHECK(both.logprobs == expected);
    // From a later token on, the beginning may come from the cache.
    evaluation.logits_from = 100;
    const Outcome end = run(rig, evaluation);
    CHECK_EQ(end.usage.cached_tokens, 96);
    CHECK((std::vector<float>(prompt.logprobs.end() - 29, prompt.logprobs.end())) == end.logprobs);
  }
}

TEST(a_full_context_can_shift) {
  for (const RandomModel& shape : shapes()) {
    Rig rig(shape);
    RequestSpec spec = request(500, 700, 0.9f);
    spec.shift_keep = 10;
    const Outcome shifted = run(rig, spec);
    CHECK_EQ(shifted.tokens.size(), size_t(700));
    CHECK(shifted.finish == FinishReason::length);
    CHECK(shifted.usage.dropped_tokens > 0);
    CHECK_EQ(shifted.usage.completion_tokens, 700);
    // The same as computing what is left anew: context 512, so after 12 tokens 251 are dropped.
    RequestSpec rest = request(500, 1, 0);
    rest.prompt.insert(rest.prompt.end(), shifted.tokens.begin(), shifted.tokens.begin() + 12);
    rest.prompt.erase(rest.prompt.begin() + 10, rest.prompt.begin() + 10 + 251);
    RequestSpec greedy = request(500, 13, 0);
    greedy.shift_keep = 10;
    const Outcome from_start = run(rig, greedy);
    RequestSpec greedy_rest = rest;
    greedy_rest.prompt = request(500, 1).prompt;
    greedy_rest.prompt.insert(greedy_rest.prompt.end(), from_start.tokens.begin(),
                              from_start.tokens.begin() + 12);
    greedy_rest.prompt.erase(greedy_rest.prompt.begin() + 10, greedy_rest.prompt.begin() + 10 + 251);
    CHECK_EQ(run(rig, greedy_rest).tokens.at(0), from_start.tokens.at(12));
  }
}

TEST(the_same_bits_whatever_happens_to_a_request) {
  // Alone; among 32 others that share its prefix, in small steps, on several threads, where blocks run out,
  // some are paused, cancelled or of higher priority, guesses hold or fail, and contexts shift.
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      for (const float temperature : {0.0f, 0.9f}) {
        Rig alone(shape, device, 1);
        RequestSpec spec = with_prefix(90, 20, 5, temperature),
                    long_one = with_prefix(90, 400, 6, temperature);
        spec.max_tokens = 70;
        long_one.max_tokens = 60;
        long_one.shift_keep = 40;
        spec.share_prefix = long_one.share_prefix = false;
        const Outcome expected = run(alone, spec), expected_long = run(alone, long_one);
        CHECK(expected_long.usage.dropped_tokens > 0);
        spec.share_prefix = long_one.share_prefix = true;
        EngineOptions options;
        options.kv_tokens = 640;
        options.max_concurrent = 12;
        options.max_batch_tokens = 29;
        options.guess_always = true;
        options.guesser = [&](std::span<const int32_t> tokens, int32_t prompt,
                              std::vector<int32_t>& guesses) {
          if (prompt != int32_t(spec.prompt.size())) return;
          for (size_t i = tokens.size() - size_t(prompt); i < expected.tokens.size() && guesses.size() < 4;
               ++i)
            guesses.push_back(guesses.size() < 3 ? expected.tokens[i] : (expected.tokens[i] + 1) % 200);
        };
        Rig busy(shape, device, 3, options);
        std::vector<uint64_t> ids, same;
        const uint64_t shifts = busy.engine->submit(long_one);
        for (int32_t i = 0; i < 32; ++i) {
          RequestSpec other = i % 2 ? with_prefix(90, 10 + i, 20 + i) : request(15 + 3 * i, 40, 0.8f, i);
          other.priority = i % 5 == 0 ? 1 : 0;
          ids.push_back(busy.engine->submit(other));
          if (i % 8 == 0) same.push_back(busy.engine->submit(spec));
          if (i % 7 == 0) busy.engine->pause(ids[ids.size() / 2]);
          if (i % 9 == 0) busy.engine->cancel(ids[ids.size() / 3]);
        }
        for (const uint64_t id : ids) busy.engine->resume(id);
        for (const uint64_t id : same) {
          std::this_thread::sleep_for(std::chrono::microseconds(500));
          busy.engine->pause(id);
          std::this_thread::sleep_for(std::chrono::microseconds(500));
          busy.engine->resume(id);
        }
        Usage sum;
        for (const uint64_t id : same) {
          const Outcome got = busy.collector.wait(id);
          check_same(got, expected);
          sum.cached_tokens += got.usage.cached_tokens;
          sum.draft_tokens += got.usage.draft_tokens;
          sum.accepted_draft_tokens += got.usage.accepted_draft_tokens;
        }
        const Outcome shifted = busy.collector.wait(shifts);
        check_same(shifted, expected_long);
        for (const uint64_t id : ids) CHECK(!busy.collector.wait(id).error);
        const EngineStats stats = idle(busy);
        CHECK_EQ(stats.kv_held, 0);
        // All of it did happen.
        CHECK(stats.set_aside > 0);
        CHECK(sum.cached_tokens > 0);
        CHECK(sum.accepted_draft_tokens > 0 && sum.accepted_draft_tokens < sum.draft_tokens);
        CHECK(shifted.usage.computed_prompt_tokens > options.max_batch_tokens);
        CHECK_EQ(shifted.usage.dropped_tokens, expected_long.usage.dropped_tokens);
      }
    }
  }
}
