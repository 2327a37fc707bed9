// Who gets computed, counted in steps: the scheduler with sequences made by hand and no model at work. What
// it promises stands in native/engine/scheduler.h.
#include "native/engine/scheduler.h"

#include <map>

#include "native/engine/embedding.h"
#include "test/native/engine_testing.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

struct Setup {
  int32_t places, batch_tokens;
  int32_t kv_tokens = 1 << 16;
  double slowdown = 1000;
};

class Rounds {
 public:
  explicit Rounds(const Setup& setup) : rig_(shapes()[0]) {
    options_.context_length = 4096;
    options_.max_concurrent = setup.places;
    options_.max_batch_tokens = setup.batch_tokens;
    options_.max_slowdown = setup.slowdown;
    const KvSizes sizes{setup.kv_tokens, setup.places, std::max(setup.batch_tokens, setup.places + 1)};
    cache_ = std::make_unique<KvCache>(*rig_.model, KvType::f32, KvType::f32, sizes);
    scheduler_ = std::make_unique<Scheduler>(*cache_, options_, sizes, 200);
  }
  ~Rounds() {
    for (const uint64_t id : ids()) scheduler_->remove(id);
    CHECK_EQ(cache_->usage().held_blocks, 0);
  }

  uint64_t add(int32_t prompt, int32_t answer, int32_t priority = 0, bool text = false, int32_t salt = -1) {
    RequestSpec spec = request(prompt, answer, 0, salt < 0 ? int32_t(next_) : salt);
    if (salt < 0) spec.prompt[0] = int32_t(next_ % 200), spec.prompt.back() = int32_t(next_ / 200 % 200);
    spec.priority = priority;
    auto sequence = std::make_unique<Sequence>(std::move(spec), 200);
    sequence->id = next_++;
    sequence->max_tokens = answer;
    sequence->scope = "all";
    if (text) sequence->text = std::make_unique<PooledText>();
    const uint64_t id = sequence->id;
    SequenceList arrived;
    arrived.push_back(std::move(sequence));
    scheduler_->add(arrived);
    return id;
  }

  // Plans a step, checks what it promises and pretends to have computed it. Returns its tokens.
  int32_t step() {
    std::vector<const Sequence*> writing;
    scheduler_->each([&](const Sequence& sequence) {
      if (sequence.running && sequence.decoding() && !sequence.awaits) writing.push_back(&sequence);
    });
    const int64_t set_aside = scheduler_->set_aside();
    if (!scheduler_->plan()) return 0;
    ++steps_;
    // Who gave way and was admitted anew within the same plan, unseen, is a newcomer.
    if (scheduler_->set_aside() > set_aside) {
      seen_.clear();
      writing.clear();
    }
    const auto rows = int32_t(scheduler_->batch().tokens.size());
    CHECK(rows <= std::max(options_.max_batch_tokens, options_.max_concurrent + 1));
    carried_.clear();
    for (const Work& w : scheduler_->work()) {
      Sequence& sequence = *w.sequence;
      carried_[sequence.id] += w.count;
      sequence.computed += w.count - w.guesses;  // none holds
      sequence.most_computed = std::max(sequence.most_computed, sequence.computed);
      cache_->commit(sequence.cache, sequence.tokens, sequence.computed);
    }
    for (const Sequence* sequence : writing) CHECK(carried(sequence->id) > 0 || !sequence->running);
    look();
    for (const Work& w : std::vector<Work>(scheduler_->work())) {
      Sequence& sequence = *w.sequence;
      if (sequence.left() > 0) continue;
      if (sequence.draws()) {
        sequence.tokens.push_back(int32_t(sequence.id + sequence.tokens.size()) % 200);
        ++sequence.drawn;
      }
      if (sequence.drawn < sequence.max_tokens) continue;
      done_[sequence.id] = steps_;
      seen_.erase(sequence.id);
      scheduler_->remove(sequence.id);
    }
    scheduler_->took(1e-3 * (10 + rows));
    return rows;
  }

  // Steps until a request has ended.
  int64_t steps_of(uint64_t id) {
    const int64_t before = steps_;
    while (done_.count(id) == 0 && steps_ - before < 100'000)
      if (step() == 0) break;
    CHECK(done_.count(id) > 0);
    return steps_ - before;
  }

  std::vector<uint64_t> ids() {
    std::vector<uint64_t> all;
    scheduler_->each([&](const Sequence& sequence) { all.push_back(sequence.id); });
    return all;
  }
  bool is_done(uint64_t id) const { return done_.count(id) > 0; }
  int32_t carried(uint64_t id) const { return carried_.count(id) > 0 ? carried_.at(id) : 0; }
  Scheduler& scheduler() { return *scheduler_; }
  KvCache& cache() { return *cache_; }
  const EngineOptions& options() const { return options_; }
  int64_t longest_gap() const { return longest_gap_; }

 private:
  struct Seen {
    int64_t step;  // of its last advance
    int32_t computed;
    int64_t texts;  // most that ran since
  };

  // Holds every running request to its bound.
  void look() {
    int64_t texts = 0;
    scheduler_->each([&](const Sequence& sequence) { texts += sequence.text && sequence.running ? 1 : 0; });
    scheduler_->each([&](const Sequence& sequence) {
      if (!sequence.running || sequence.awaits) {
        seen_.erase(sequence.id);
        return;
      }
      const auto [at, added] = seen_.try_emplace(sequence.id, Seen{steps_ - 1, 0, texts});
      Seen& seen = at->second;
      seen.texts = std::max(seen.texts, texts);
      const bool advanced = carried(sequence.id) > 0 || (!added && sequence.computed > seen.computed);
      const int64_t gap = steps_ - seen.step - (advanced ? 1 : 0);  // steps without it
      longest_gap_ = std::max(longest_gap_, gap);
      const int64_t turns = options_.max_concurrent + 1;
      const int64_t bound = sequence.text ? seen.texts * turns : turns;
      CHECK(gap < (shares_ ? 31 * turns + bound : bound));
      if (advanced) seen = {steps_, sequence.computed, texts};
    });
  }

 public:
  bool shares_ = false;  // prompts have blocks in common

 private:
  Rig rig_;
  EngineOptions options_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Scheduler> scheduler_;
  uint64_t next_ = 1;
  int64_t steps_ = 0, longest_gap_ = 0;
  std::map<uint64_t, int32_t> carried_;
  std::map<uint64_t, int64_t> done_;
  std::map<uint64_t, Seen> seen_;
};

}  // namespace

TEST(a_single_token_beside_a_writer_goes_by_turns) {
  Rounds rounds({2, 2});
  rounds.add(1, 3000);
  rounds.step();
  const uint64_t prompt = rounds.add(7, 1, 1), text = rounds.add(400, 0, 0, true);
  CHECK(rounds.steps_of(prompt) <= 7 * 2);
  CHECK(!rounds.is_done(text));
  CHECK(rounds.steps_of(text) <= 400);
}

TEST(texts_advance_where_writers_fill_the_batch) {
  for (const int32_t places : {1, 3}) {
    Rounds rounds({places, places});
    for (int32_t i = 0; i < places; ++i) rounds.add(1, 3000);
    while (rounds.step() < places) {
    }
    const uint64_t text = rounds.add(20, 0, 0, true);
    CHECK_EQ(rounds.steps_of(text), 20);
    CHECK_EQ(rounds.step(), places);
  }
}

TEST(hundreds_of_texts_take_one_turn_among_prompts) {
  Rounds rounds({2, 512, 1 << 16, 1});
  rounds.add(1, 3000);
  for (int32_t i = 0; i < 20; ++i) rounds.step();
  for (int32_t i = 0; i < 400; ++i) rounds.add(1 + i % 3, 0, 1, true);
  const uint64_t prompt = rounds.add(8, 1);
  CHECK(rounds.steps_of(prompt) <= 8 * 2);
}

TEST(texts_of_lower_priority_hold_back_none_of_higher) {
  Rounds rounds({2, 64});
  Embeddings embeddings(rounds.scheduler(), 200, 8, 64);
  std::atomic<uint64_t> next{1000};
  const auto call = [&](int32_t priority) {
    std::list<EmbedCall> one(1);
    one.front().scope = "texts";
    one.front().spec.priority = priority;
    for (uint32_t i = 1; i <= 100; ++i) one.front().spec.ends.push_back(10 * i);
    one.front().spec.tokens = prompt_of(1000);
    embeddings.add(one);
    embeddings.feed(next);
    return rounds.scheduler().waiting();
  };
  CHECK_EQ(call(0), 7);
  CHECK_EQ(call(0), 7);
  CHECK_EQ(call(2), 14);
  CHECK_EQ(call(1), 14);
  std::vector<Event> events;
  embeddings.end_all(FinishReason::cancelled, {}, events);
}

TEST(newcomers_overtake_nobody) {
  // In every step a text of higher priority comes and a prompt, which a step is enough for.
  Rounds rounds({3, 3});
  rounds.add(1, 3000);
  rounds.step();
  const uint64_t prompt = rounds.add(40, 1);
  int64_t steps = 0;
  for (; !rounds.is_done(prompt) && steps < 1000; ++steps) {
    rounds.add(1, 0, 2, true);
    rounds.add(1, 1);
    rounds.step();
  }
  CHECK(steps <= 40 * 4);
}

TEST(texts_and_generations_wait_for_blocks_in_order) {
  Rounds rounds({4, 512, 512});
  const uint64_t busy = rounds.add(400, 60);  // 13 of 16 blocks, later 15
  rounds.step();
  const uint64_t text = rounds.add(200, 0, 0, true);
  rounds.step();
  CHECK_EQ(rounds.scheduler().waiting(), 1);
  std::vector<uint64_t> later;
  for (int32_t i = 0; i < 50; ++i) {  // small ones, which there would be room for
    later.push_back(rounds.add(8, 1));
    later.push_back(rounds.add(8, 0, 0, true));
    rounds.step();
    CHECK(rounds.carried(later.back()) == 0 && rounds.carried(later[later.size() - 2]) == 0);
  }
  rounds.steps_of(busy);
  CHECK(rounds.steps_of(text) <= 2);
  for (const uint64_t id : later) CHECK(rounds.is_done(id) || rounds.steps_of(id) <= 2);
}

TEST(a_block_that_another_never_computes_is_not_waited_for) {
  // Those that begin like it come before it, begin with the block that it needs, and go.
  Rounds rounds({3, 4});
  rounds.shares_ = true;
  rounds.add(1, 3000);
  const uint64_t prompt = rounds.add(100, 1, 0, false, 7);
  int64_t steps = 0;
  for (uint64_t other = 0; !rounds.is_done(prompt) && steps < 1000; ++steps) {
    other = rounds.add(100, 1, 1, false, 7);
    rounds.step();
    rounds.scheduler().remove(other);
  }
  CHECK(steps > 31 * 4 && steps < 1000);
}

TEST(random_loads_keep_every_bound) {
  Random random(5);
  const auto below = [&](uint64_t n) { return int32_t(random.bits() % n); };
  int64_t longest = 0, set_aside = 0;
  for (int32_t round = 0; round < 60; ++round) {
    const int32_t places = 1 + below(6), kinds = round % 3;
    Setup setup{places, places + (below(2) ? below(4) : below(60))};
    setup.slowdown = below(2) ? 1 : 2;
    if (kinds == 1) setup.kv_tokens = 640;
    Rounds rounds(setup);
    rounds.shares_ = kinds == 2;
    for (int32_t i = 0; i < 400; ++i) {
      if (below(3) == 0) {
        const bool text = below(2);
        const int32_t answer = text ? 0 : 1 + below(40);
        rounds.add(1 + below(below(4) ? 12 : 150), answer, below(3), text, kinds == 2 ? below(3) : -1);
      }
      const std::vector<uint64_t> ids = rounds.ids();
      const uint64_t any = ids.empty() ? 0 : ids[size_t(below(ids.size()))];
      const int32_t action = below(40);
      if (action == 0) rounds.scheduler().remove(any);
      if (action == 1) rounds.scheduler().pause(any);
      if (action == 2) rounds.scheduler().resume(any);
      if (Sequence* sequence = rounds.scheduler().find(any); sequence && sequence->drawn > 1) {
        if (action == 3) sequence->awaits = true;
        if (action >= 4 && action < 8) sequence->awaits = false;
        if (action == 8) rounds.scheduler().drop(*sequence, 0, sequence->size() / 2);
      }
      rounds.step();
    }
    longest = std::max(longest, rounds.longest_gap());
    set_aside += rounds.scheduler().set_aside();
  }
  CHECK(longest > 2);
  CHECK(set_aside > 20);
}
