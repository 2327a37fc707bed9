// Requests of all kinds with all that can happen to them, at random.
#include <algorithm>
#include <cstdlib>

#include "native/engine/kv_cache.h"
#include "test/native/engine_testing.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

TEST(random_histories_leave_nothing_behind) {
  // Paused, resumed, cancelled, with adapters that come and go and drafts that hold or fail; every one ends,
  // and every block and adapter comes back. INHOUSE_ROUNDS sets how many rounds there are.
  Random random(11);
  const auto below = [&](uint64_t n) { return int32_t(random.bits() % n); };
  const char* wanted = std::getenv("INHOUSE_ROUNDS");
  const int32_t rounds = wanted ? std::atoi(wanted) : 60;
  EngineOptions options;
  options.kv_tokens = 512;
  options.max_concurrent = 4;
  options.max_batch_tokens = 40;
  options.guess_always = true;
  const std::vector<RandomModel> kinds = shapes();
  const auto with_draft = [](size_t which) { return which % 2 == 0; };
  const auto make_rig = [&](size_t which) {
    EngineOptions own = options;
    RandomModel small = kinds[0];
    small.layers = 1;
    // One draft has other weights and is mostly wrong, the other is right.
    if (with_draft(which)) own.draft = load_random(which == 0 ? small : kinds[which], Device::cpu);
    return std::make_unique<Rig>(kinds[which], Device::cpu, 2, own);
  };
  std::vector<std::unique_ptr<Rig>> rigs;
  for (size_t which = 0; which < kinds.size(); ++which) rigs.push_back(make_rig(which));
  const auto gone = [](const std::vector<std::weak_ptr<const Adapter>>& known) {
    return std::all_of(known.begin(), known.end(), [](const auto& adapter) { return adapter.expired(); });
  };
  uint64_t drafted = 0;
  for (int32_t round = 0; round < rounds; ++round) {
    const size_t which = size_t(below(rigs.size()));
    Rig& rig = *rigs[which];
    std::vector<uint64_t> ids, asking;
    std::vector<std::shared_ptr<const Adapter>> adapters = {nullptr};
    std::vector<std::weak_ptr<const Adapter>> known;
    const auto some_adapter = [&] { return adapters[size_t(below(adapters.size()))]; };
    const std::vector<float> logits = random.normals(200);
    for (int32_t action = 0; action < 50; ++action) {
      const uint64_t id = ids.empty() ? 1 : ids[size_t(below(ids.size()))];
      switch (below(14)) {
        case 0:
          rig.engine->pause(id);
          break;
        case 1:
          rig.engine->resume(id);
          break;
        case 2:
          rig.engine->cancel(id);
          break;
        case 3:
          rig.engine->stats();
          break;
        case 4:
          rig.engine->between_steps([](KvCache& cache, auto...) { cache.usage(); });
          break;
        case 5:  // whether it is asked for or not
          rig.engine->provide(asking.empty() ? id : asking[size_t(below(asking.size()))], logits);
          break;
        case 6: {
          EmbedSpec texts;
          for (int32_t text = 1 + below(12); text > 0; --text) {
            const std::vector<int32_t> tokens = prompt_of(1 + below(below(5) ? 20 : 200), 200, below(9));
            texts.tokens.insert(texts.tokens.end(), tokens.begin(), tokens.end());
            texts.ends.push_back(uint32_t(texts.tokens.size()));
          }
          texts.pooling = below(2) ? Pooling::mean : Pooling::last;
          texts.priority = below(3);
          texts.share_prefix = below(2);
          texts.timeout_ms = below(10) == 0 ? 5 : 0;
          texts.adapter = some_adapter();
          ids.push_back(rig.engine->embed(std::move(texts)));
          break;
        }
        case 7:
          adapters.push_back(small_adapter(rig.model, 0.01f * float(1 + below(3))));
          known.push_back(adapters.back());
          break;
        case 8:  // whoever computes with it goes on
          if (adapters.size() > 1) adapters.erase(adapters.begin() + 1 + below(adapters.size() - 1));
          break;
        default: {
          RequestSpec spec = below(2) ? with_prefix(32 * below(8) + 1, 1 + below(60), below(3))
                                      : request(1 + below(300), below(60), 0.8f, below(9));
          spec.evaluate = below(6) == 0;
          spec.evaluate_rows = spec.evaluate && below(2);
          spec.prompt_logprobs = below(8) == 0;
          spec.priority = below(3);
          spec.share_prefix = below(4) != 0;
          spec.timeout_ms = below(10) == 0 ? 5 : 0;
          spec.shift_keep = below(8) == 0 ? 4 : -1;
          if (below(6) == 0 && !spec.evaluate) spec.constraint = std::make_shared<Thirds>(below(20));
          spec.process_logits = below(4) == 0 && !spec.evaluate;
          spec.adapter = some_adapter();
          spec.adapter_scale = below(2) ? 1.0f : -0.5f;
          const SpeculationMode modes[] = {SpeculationMode::automatic, SpeculationMode::off,
                                           SpeculationMode::lookup, SpeculationMode::draft};
          spec.speculation = modes[below(with_draft(which) ? 4 : 3)];
          const bool asks = spec.process_logits;
          ids.push_back(rig.engine->submit(std::move(spec)));
          if (asks) asking.push_back(ids.back());
        }
      }
    }
    for (const uint64_t id : ids) rig.engine->resume(id);
    while (!asking.empty()) {  // all of them at once: one that is not answered keeps its place
      std::erase_if(asking, [&](uint64_t id) { return rig.collector.ended(id); });
      for (const uint64_t id : asking) rig.engine->provide(id, logits);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    for (const uint64_t id : ids) CHECK(rig.collector.wait(id).finish != FinishReason::none);
    const EngineStats stats = idle(rig);
    CHECK_EQ(stats.kv_held, 0);
    CHECK(stats.kv_idle <= stats.kv_blocks);
    drafted += stats.draft_tokens;
    if (below(4) == 0) {  // an engine may end at any time
      for (int32_t i = 0; i < 5; ++i) {
        RequestSpec last = request(1 + below(300), 50, 0.8f, i);
        last.adapter = some_adapter();
        rig.engine->submit(std::move(last));
      }
      rigs[which].reset();
      rigs[which] = make_rig(which);
    }
    adapters.clear();
    for (int i = 0; i < 5000 && !gone(known); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(gone(known));
  }
  CHECK(drafted > 0);
}
