// What stands between a request's logits and its draw: constraints, and callers that change the logits.
#include "test/native/engine_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

// Allows nothing.
class Nothing final : public Constraint {
 public:
  void allow(std::span<uint32_t>) override {}
  void accept(int32_t) override { CHECK(false); }
};

}  // namespace

TEST(constraints_decide_what_may_come) {
  for (const Device device : devices()) {
    EngineOptions options;
    options.kv_tokens = 512;
    Rig rig(shapes()[0], device, 2, options), alone(shapes()[0], device);
    std::vector<uint64_t> ids;
    const auto constrained = [&](int32_t i) {
      RequestSpec spec = request(30 + 40 * i, 40, 0.9f, i);
      spec.constraint = std::make_shared<Thirds>();
      return spec;
    };
    for (int32_t i = 0; i < 8; ++i)
      ids.push_back(rig.engine->submit(i % 2 ? request(40, 40, 0.9f, i) : constrained(i)));
    for (int32_t i = 0; i < 8; ++i) {
      const Outcome got = rig.collector.wait(ids[size_t(i)]);
      check_same(got, run(alone, i % 2 ? request(40, 40, 0.9f, i) : constrained(i)));
      for (size_t t = 0; i % 2 == 0 && t < got.tokens.size(); ++t)
        CHECK_EQ(got.tokens[t] % 3, int32_t(t % 3));
    }
    RequestSpec stuck = request(30, 40);
    stuck.constraint = std::make_shared<Thirds>(5);
    const Outcome failed = run(rig, stuck);
    CHECK_EQ(failed.tokens.size(), size_t(5));
    CHECK(failed.error && failed.error->message() == "the automaton is stuck");
    stuck.constraint = std::make_shared<Nothing>();
    const Outcome nothing = run(rig, stuck);
    CHECK(nothing.error && nothing.error->code() == Code::invalid_argument);
  }
}

TEST(logits_can_be_changed_on_the_way) {
  // The collector does not answer events with logits; a thread of the test does.
  Rig rig(shapes()[0]);
  RequestSpec spec = request(30, 10), plain = request(30, 10);
  spec.process_logits = true;
  rig.collector.engine = nullptr;
  const uint64_t id = rig.engine->submit(spec);
  const Outcome expected = run(rig, plain);
  for (size_t drawn = 0; drawn < 10; ++drawn) {
    const std::vector<float> rows = rig.collector.rows(id, (drawn + 1) * 200);
    std::vector<float> logits(rows.end() - 200, rows.end());
    if (drawn == 4) {
      check_error("too few", Code::invalid_argument, {"200"}, [&] { rig.engine->provide(id, {1.0f}); });
      rig.engine->pause(id);  // whatever happens meanwhile
      rig.engine->resume(id);
    }
    rig.engine->provide(id, logits);
    rig.engine->provide(id, logits);  // nobody asked for these
  }
  CHECK(rig.collector.wait(id).tokens == expected.tokens);
}

TEST(logits_can_be_waited_for_in_every_state) {
  for (const RandomModel& shape : shapes()) {
    EngineOptions options;
    options.max_concurrent = 1;
    Rig rig(shape, Device::cpu, 1, options);
    RequestSpec spec = request(490, 60, 0.9f), high = request(30, 2);
    spec.shift_keep = 40;
    const Outcome expected = run(rig, spec);
    CHECK(expected.usage.dropped_tokens > 0);
    high.priority = 1;
    spec.process_logits = true;
    rig.collector.engine = nullptr;
    // Its context is full after 22 tokens: it is paused then, or another has its place, or nothing is wrong.
    for (int32_t way = 0; way < 3; ++way) {
      for (const bool share : {true, false}) {
        spec.share_prefix = share;
        const uint64_t id = rig.engine->submit(spec);
        for (size_t drawn = 0; drawn < 60; ++drawn) {
          const std::vector<float> rows = rig.collector.rows(id, (drawn + 1) * 200);
          const bool now = drawn == 3 || drawn == 21 || drawn == 40;
          if (now && way == 1) rig.engine->pause(id);
          uint64_t other = 0;
          if (now && way == 2) {
            other = rig.engine->submit(high);
            rig.collector.wait(other);
          }
          rig.engine->provide(id, {rows.end() - 200, rows.end()});
          if (now && way == 1) rig.engine->resume(id);
        }
        check_same(rig.collector.wait(id), expected);
        CHECK_EQ(idle(rig).kv_held, 0);
      }
    }
    // It can be cancelled meanwhile, paused or not.
    for (const bool pauses : {false, true}) {
      const uint64_t id = rig.engine->submit(spec);
      const std::vector<float> rows = rig.collector.rows(id, 200);
      if (pauses) rig.engine->pause(id);
      rig.engine->acknowledge(id);  // is no answer
      rig.engine->cancel(id);
      rig.engine->provide(id, rows);
      const Outcome cancelled = rig.collector.wait(id);
      CHECK(cancelled.finish == FinishReason::cancelled && cancelled.tokens.empty());
      CHECK_EQ(idle(rig).kv_held, 0);
    }
  }
}
