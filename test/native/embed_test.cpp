// Embeddings: vectors against pooled hidden states of a plain forward pass, and the same bits however the
// work is cut.
#include <atomic>
#include <cmath>
#include <numeric>

#include "native/engine/kv_cache.h"
#include "native/model/forward.h"
#include "test/native/engine_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

constexpr Pooling kPoolings[] = {Pooling::mean, Pooling::cls, Pooling::last};

using Texts = std::vector<std::vector<int32_t>>;

Texts texts_of(std::initializer_list<int32_t> lengths) {
  Texts texts;
  for (const int32_t length : lengths) texts.push_back(prompt_of(length, 200, int32_t(texts.size())));
  return texts;
}

EmbedSpec embed_spec(const Texts& texts, Pooling pooling) {
  EmbedSpec spec;
  spec.pooling = pooling;
  for (const auto& text : texts) {
    spec.tokens.insert(spec.tokens.end(), text.begin(), text.end());
    spec.ends.push_back(uint32_t(spec.tokens.size()));
  }
  return spec;
}

// One vector per text, in order.
std::vector<std::vector<float>> vectors_of(const Outcome& outcome, size_t texts) {
  CHECK(!outcome.error);
  CHECK(outcome.finish == FinishReason::stop);
  CHECK_EQ(outcome.texts.size(), texts);
  std::vector<std::vector<float>> vectors(texts);
  const size_t width = outcome.vectors.size() / std::max<size_t>(texts, 1);
  for (size_t i = 0; i < outcome.texts.size(); ++i) {
    auto& vector = vectors[size_t(outcome.texts[i])];
    CHECK(vector.empty());
    const auto begin = outcome.vectors.begin() + std::ptrdiff_t(i * width);
    vector.assign(begin, begin + std::ptrdiff_t(width));
  }
  return vectors;
}

std::vector<std::vector<float>> embed(Rig& rig, EmbedSpec spec) {
  const size_t texts = spec.ends.size();
  return vectors_of(rig.collector.wait(rig.engine->embed(std::move(spec))), texts);
}

// Hidden states [tokens, width] of one text by itself, through the forward pass alone.
std::vector<float> hidden_states(const Model& model, const std::vector<int32_t>& tokens) {
  const auto count = int32_t(tokens.size());
  const bool reference = std::string(model.backend().name()) == "reference";
  const KvType type = reference ? KvType::f32 : KvType::f16;
  KvCache cache(model, type, type, {512, 1, count});
  ForwardPass forward(model, count, 1);
  BlockTables tables = cache.open("");
  CHECK(cache.extend(tables, 0, count));
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  const SequenceSlice slice{0, count, 0, tables.tables.data()};
  const std::atomic<bool> stop{false};
  CHECK(forward.run({tokens, positions, {&slice, 1}, positions}, cache.pools(), stop));
  const std::span<const float> hidden = forward.hidden(0, count);
  return {hidden.begin(), hidden.end()};
}

}  // namespace

TEST(vectors_are_pooled_hidden_states) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      Rig rig(shape, device, 2);
      const Texts texts = texts_of({1, 7, 32, 33, 100});
      for (const Pooling pooling : kPoolings) {
        for (const bool normalize : {true, false}) {
          for (const int32_t dimensions : {0, 5}) {
            EmbedSpec spec = embed_spec(texts, pooling);
            spec.normalize = normalize;
            spec.dimensions = dimensions;
            const auto got = embed(rig, spec);
            for (size_t t = 0; t < texts.size(); ++t) {
              const size_t width = shape.width, kept = dimensions > 0 ? size_t(dimensions) : width;
              const std::vector<float> hidden = hidden_states(*rig.model, texts[t]);
              const size_t rows = texts[t].size();
              const size_t from = pooling == Pooling::last ? rows - 1 : 0;
              const size_t to = pooling == Pooling::cls ? 1 : rows;
              std::vector<double> expected(kept, 0.0);
              for (size_t row = from; row < to; ++row)
                for (size_t i = 0; i < kept; ++i) expected[i] += double(hidden[row * width + i]);
              double squares = 0;
              for (const double x : expected) squares += x * x;
              const double length = normalize ? std::sqrt(squares) : double(to - from);
              CHECK_EQ(got[t].size(), kept);
              for (size_t i = 0; i < kept; ++i) CHECK(got[t][i] == float(expected[i] / length));
            }
          }
        }
      }
    }
  }
}

TEST(vectors_have_the_same_bits_however_the_work_is_cut) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      const Texts texts = texts_of({150, 3, 64, 31, 1, 97, 12, 33});
      EngineOptions pieces;
      pieces.max_batch_tokens = 13;
      pieces.max_concurrent = 2;
      EngineOptions tight;  // blocks for one long text and little more: texts are set aside
      tight.context_length = tight.kv_tokens = 160;
      tight.max_batch_tokens = 96;
      Rig alone(shape, device, 1), busy(shape, device, 2, pieces), crowded(shape, device, 2, tight);
      for (const Pooling pooling : kPoolings) {
        std::vector<std::vector<float>> expected;
        for (const auto& text : texts) expected.push_back(embed(alone, embed_spec({text}, pooling))[0]);
        CHECK(embed(alone, embed_spec(texts, pooling)) == expected);  // last: with prefixes from the cache
        std::vector<uint64_t> ids;
        for (int32_t i = 0; i < 4; ++i) ids.push_back(busy.engine->submit(request(20 + 31 * i, 30, 0.9f, i)));
        CHECK(embed(busy, embed_spec(texts, pooling)) == expected);
        for (const uint64_t id : ids) CHECK(busy.collector.wait(id).finish == FinishReason::length);
        CHECK(embed(crowded, embed_spec(texts, pooling)) == expected);
      }
    }
  }
}

TEST(generations_beside_embeddings_give_the_same_bits) {
  EngineOptions options;
  options.max_concurrent = 2;
  options.kv_tokens = 512;
  Rig alone(shapes()[2], Device::cpu), busy(shapes()[2], Device::cpu, 2, options);
  Texts many;
  for (int32_t i = 0; i < 300; ++i) many.push_back(prompt_of(1 + i * 7 % 40, 200, i));
  const uint64_t texts = busy.engine->embed(embed_spec(many, Pooling::mean));
  std::vector<uint64_t> ids;
  for (int32_t i = 0; i < 6; ++i) ids.push_back(busy.engine->submit(request(60, 40, 0.9f, i)));
  for (int32_t i = 0; i < 6; ++i) {
    const Outcome expected = alone.collector.wait(alone.engine->submit(request(60, 40, 0.9f, i)));
    const Outcome got = busy.collector.wait(ids[size_t(i)]);
    CHECK(got.tokens == expected.tokens);
    CHECK(got.logprobs == expected.logprobs);
  }
  const Outcome outcome = busy.collector.wait(texts);
  const auto vectors = vectors_of(outcome, many.size());
  for (size_t i = 0; i < many.size(); i += 50)
    CHECK(vectors[i] == embed(alone, embed_spec({many[i]}, Pooling::mean))[0]);
  const EngineStats stats = busy.engine->stats();
  CHECK_EQ(stats.finished, uint64_t(7));
  CHECK_EQ(outcome.usage.prompt_tokens, outcome.usage.computed_prompt_tokens);
}

TEST(a_text_waits_until_its_first_step) {
  EngineOptions options;
  options.max_concurrent = 1;
  options.max_batch_tokens = 2;
  Rig rig(shapes()[0], Device::cpu, 1, options);
  const Usage usage =
      rig.collector.wait(rig.engine->embed(embed_spec({prompt_of(400)}, Pooling::last))).usage;
  CHECK(usage.queue_ms < usage.prompt_ms);  // of 200 steps
}

TEST(texts_take_no_places_and_short_ones_fill_steps) {
  EngineOptions queue;
  queue.max_concurrent = queue.max_queue = 1;
  queue.max_batch_tokens = 64;
  Rig taken(shapes()[0], Device::cpu, 1, queue);
  taken.collector.engine = nullptr;  // what evaluates waits for its reader for ever, in the only place
  RequestSpec evaluates = request(130, -1);
  evaluates.evaluate = evaluates.evaluate_rows = true;
  const uint64_t holder = taken.engine->submit(evaluates);
  embed(taken, embed_spec(Texts(200, prompt_of(10)), Pooling::mean));
  const uint64_t waiting = taken.engine->submit(request(4, 4));
  CHECK(code_of(taken, request(4, 4)) == Code::queue_full);
  embed(taken, embed_spec(Texts(200, prompt_of(10)), Pooling::mean));
  // Calls have a queue of their own, where each counts as one, however few texts it has.
  std::atomic<bool> held{false}, go_on{false};
  std::thread holds([&] {
    taken.engine->between_steps([&](KvCache&, auto...) {
      held = true;
      while (!go_on) std::this_thread::yield();
    });
  });
  while (!held) std::this_thread::yield();
  std::vector<uint64_t> calls;
  for (int i = 0; i < 2; ++i)
    calls.push_back(taken.engine->embed(embed_spec(Texts(1, prompt_of(10)), Pooling::mean)));
  check_error("a third call", Code::queue_full, {"2 calls"},
              [&] { taken.engine->embed(embed_spec(Texts(1, prompt_of(10)), Pooling::mean)); });
  go_on = true;
  holds.join();
  for (const uint64_t id : calls) CHECK(!taken.collector.wait(id).error);
  taken.engine->cancel(waiting);
  taken.collector.wait(waiting);
  embed(taken, embed_spec(Texts(200, prompt_of(10)), Pooling::mean));
  taken.engine->cancel(holder);

  queue.max_batch_tokens = 512;
  queue.kv_tokens = 4096;
  Rig idle(shapes()[0], Device::cpu, 1, queue);
  embed(idle, embed_spec(Texts(510, prompt_of(10)), Pooling::mean));
  CHECK(idle.engine->stats().steps <= 12);  // 5,100 tokens in steps of 512
}

TEST(last_pooling_shares_prefixes_and_others_leave_none) {
  Rig rig(shapes()[0]);
  Texts texts;
  for (int32_t i = 0; i < 8; ++i) {
    texts.push_back(prompt_of(128));
    const auto own = prompt_of(5, 200, i + 1);
    texts.back().insert(texts.back().end(), own.begin(), own.end());
  }
  const auto usage = [&](Pooling pooling, const char* scope = "") {
    EmbedSpec spec = embed_spec(texts, pooling);
    spec.cache_scope = scope;
    return rig.collector.wait(rig.engine->embed(spec)).usage;
  };
  CHECK_EQ(usage(Pooling::mean).computed_prompt_tokens, 8 * 133);
  CHECK_EQ(rig.engine->stats().kv_idle, 0);
  CHECK_EQ(usage(Pooling::cls).computed_prompt_tokens, 8);
  CHECK_EQ(usage(Pooling::last).computed_prompt_tokens, 128 + 8 * 5);
  CHECK_EQ(usage(Pooling::last).cached_tokens, 8 * 128);
  CHECK_EQ(usage(Pooling::last, "another").cached_tokens, 7 * 128);
}

TEST(calls_are_cancelled_and_end_with_their_engine) {
  const Texts many(2000, prompt_of(60));
  Rig rig(shapes()[0], Device::reference);
  const uint64_t id = rig.engine->embed(embed_spec(many, Pooling::mean));
  const uint64_t beside = rig.engine->embed(embed_spec(texts_of({9}), Pooling::mean));
  CHECK(rig.collector.wait(beside).finish == FinishReason::stop);  // does not wait for all of the other
  rig.engine->cancel(id);
  CHECK(rig.collector.wait(id).finish == FinishReason::cancelled);
  EmbedSpec late = embed_spec(many, Pooling::mean);
  late.timeout_ms = 30;
  const Outcome overdue = rig.collector.wait(rig.engine->embed(late));
  CHECK(overdue.error && overdue.error->code() == Code::timeout);
  CHECK(overdue.texts.size() < many.size());
  for (int i = 0; i < 5000 && rig.engine->stats().running > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_EQ(rig.engine->stats().kv_held, 0);
  CHECK_EQ(rig.engine->stats().running + rig.engine->stats().waiting, 0);
  const uint64_t last = rig.engine->embed(embed_spec(many, Pooling::mean));
  rig.engine.reset();
  CHECK(rig.collector.wait(last).finish == FinishReason::cancelled);
}

TEST(a_text_that_fails_ends_its_call_alone) {
  const auto refused = [](Rig& rig, auto change) {
    EmbedSpec spec = embed_spec(texts_of({3, 4}), Pooling::mean);
    change(spec);
    try {
      rig.engine->embed(std::move(spec));
    } catch (const Error& e) {
      return e.code();
    }
    return Code::internal;
  };
  Rig rig(shapes()[0]);
  CHECK(refused(rig, [](EmbedSpec& s) { s.tokens[6] = 200; }) == Code::token_out_of_range);
  CHECK(refused(rig, [](EmbedSpec& s) { s.tokens[0] = -1; }) == Code::token_out_of_range);
  CHECK(refused(rig, [](EmbedSpec& s) { s.ends[1] = 3; }) == Code::invalid_argument);
  CHECK(refused(rig, [](EmbedSpec& s) { s.ends[1] = 8; }) == Code::invalid_argument);
  CHECK(refused(rig, [](EmbedSpec& s) { s.ends.pop_back(); }) == Code::invalid_argument);
  CHECK(refused(rig, [](EmbedSpec& s) { s.ends.clear(); }) == Code::invalid_argument);
  CHECK(refused(rig, [](EmbedSpec& s) { s.pooling = Pooling::rank; }) == Code::invalid_argument);
  CHECK(refused(rig, [](EmbedSpec& s) { s.dimensions = 65; }) == Code::invalid_argument);
  CHECK(refused(rig, [](EmbedSpec& s) { s.tokens.assign(513, 1), s.ends = {513}; }) ==
        Code::context_overflow);
}

TEST(scores_tell_which_tokens_are_greedy) {
  for (const Device device : devices()) {
    Rig rig(shapes()[1], device);
    const Outcome written = rig.collector.wait(rig.engine->submit(request(40, 20)));
    RequestSpec spec = request(40, -1);
    spec.prompt.insert(spec.prompt.end(), written.tokens.begin(), written.tokens.end());
    spec.prompt.push_back((written.tokens.back() + 1) % 200);
    spec.evaluate = spec.evaluate_greedy = true;
    spec.logits_from = 39;
    const Outcome got = rig.collector.wait(rig.engine->submit(spec));
    CHECK_EQ(got.logprobs.size(), size_t(21));
    CHECK_EQ(got.greedy.size(), size_t(21));
    for (size_t i = 0; i < 20; ++i) CHECK_EQ(int(got.greedy[i]), 1);
    CHECK_EQ(int(got.greedy[20]), 0);  // unless the model says the same again, which this one does not
    for (size_t i = 0; i < 20; ++i) CHECK(std::abs(written.logprobs[i] - got.logprobs[i]) < 1e-5f);
  }
}
