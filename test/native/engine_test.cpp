// The engine end to end on small random models: what comes out must not depend on how the work was cut up.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "native/engine/mask_thread.h"
#include "test/native/engine_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

// Overwrites the end of a file, which keeps its size. Its time is set too: a system's clock for files may
// stand still for some milliseconds.
void write_to(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-64, std::ios::end);
  file.write(std::string(64, '\0').data(), 64);
  file.close();
  std::filesystem::last_write_time(path,
                                   std::filesystem::file_time_type::clock::now() + std::chrono::seconds(1));
}

}  // namespace

TEST(the_same_bits_however_the_work_is_cut) {
  for (const Device device : devices()) {
    for (const RandomModel& shape : shapes()) {
      for (const float temperature : {0.0f, 0.9f}) {
        Rig alone(shape, device, 1);
        const Outcome expected = alone.collector.wait(alone.engine->submit(request(150, 40, temperature)));
        CHECK_EQ(expected.tokens.size(), size_t(40));
        CHECK(expected.finish == FinishReason::length);

        // In pieces, on two threads, beside others.
        EngineOptions pieces;
        pieces.max_batch_tokens = 13;
        Rig busy(shape, device, 2, pieces);
        std::vector<uint64_t> ids;
        for (int32_t i = 0; i < 5; ++i) {
          ids.push_back(busy.engine->submit(request(20 + 31 * i, 30, temperature, i)));
        }
        const uint64_t id = busy.engine->submit(request(150, 40, temperature));
        const Outcome got = busy.collector.wait(id);
        CHECK(got.tokens == expected.tokens);
        CHECK(got.logprobs == expected.logprobs);
        CHECK_EQ(got.text, expected.text);
        for (const uint64_t other : ids) CHECK(busy.collector.wait(other).finish == FinishReason::length);
      }
    }
  }
}

TEST(an_evaluation_beside_generations_gives_the_same_bits) {
  for (const int32_t length : {1, 20, 31, 32, 33, 130}) {
    Rig alone(shapes()[2]), busy(shapes()[2]);
    RequestSpec spec = request(length, -1);
    spec.evaluate = spec.evaluate_rows = true;
    const Outcome expected = alone.collector.wait(alone.engine->submit(spec));
    const uint64_t before = busy.engine->submit(request(40, 60, 0.8f, 1));
    while (busy.collector.tokens(before) == 0) std::this_thread::yield();
    const uint64_t id = busy.engine->submit(spec), after = busy.engine->submit(request(7, 20, 0.8f, 2));
    const Outcome got = busy.collector.wait(id);
    CHECK_EQ(got.rows.size(), size_t(length) * 200);
    CHECK(got.rows == expected.rows);
    CHECK(got.logprobs == expected.logprobs);
    CHECK(got.tokens.empty());
    CHECK_EQ(busy.collector.wait(before).tokens.size(), size_t(60));
    CHECK_EQ(busy.collector.wait(after).tokens.size(), size_t(20));
  }
}

TEST(an_automatic_context_fits_the_memory) {
  RandomModel shape = shapes()[0];
  shape.context = 1 << 24;
  Rig rig(shape);
  CHECK_EQ(rig.engine->info().context_length, 8192);
  EngineOptions many;
  many.max_concurrent = 512;
  many.kv_type_k = many.kv_type_v = KvType::f32;
  shape.head_dim = 512;  // 64 KiB a token: 8,192 tokens of 512 sequences are 256 GiB
  shape.kv_heads = 4;
  shape.layers = 4;
  Rig large(shape, Device::reference, 1, many);
  CHECK(large.engine->info().kv_tokens < 512 * 8192);
}

TEST(cache_types_change_little_and_keep_the_same_bits) {
  for (const Device device : devices()) {
    const RandomModel shape = shapes()[2];
    EngineOptions exact;
    exact.kv_type_k = exact.kv_type_v = KvType::f32;
    RequestSpec spec = request(120, -1);
    spec.evaluate = true;
    Rig reference(shape, device, 1, exact);
    const Outcome expected = reference.collector.wait(reference.engine->submit(spec));
    for (const KvType k : {KvType::f32, KvType::f16, KvType::q8_0, KvType::q4_0}) {
      for (const KvType v : {KvType::f32, KvType::f16, KvType::q8_0, KvType::q4_0}) {
        EngineOptions options;
        options.kv_type_k = k;
        options.kv_type_v = v;
        Rig whole(shape, device, 1, options);
        options.max_batch_tokens = 9;
        Rig cut(shape, device, 2, options);
        const Outcome a = whole.collector.wait(whole.engine->submit(spec));
        const Outcome b = cut.collector.wait(cut.engine->submit(spec));
        CHECK(a.logprobs == b.logprobs);
        double difference = 0;
        for (size_t i = 0; i < a.logprobs.size(); ++i) {
          difference = std::max(difference, double(std::abs(a.logprobs[i] - expected.logprobs[i])));
        }
        // With 8-bit activations a rounding of the cache may tip a rounding further on.
        const auto either = [&](KvType type) { return k == type || v == type; };
        const double rounding = either(KvType::q4_0) ? 1 : either(KvType::q8_0) ? 0.1 : 0.01;
        CHECK(difference < (device == Device::cpu ? 0.1 + rounding : rounding));
      }
    }
  }
}

TEST(cpu_agrees_with_the_reference_for_every_weight_type) {
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  for (uint32_t t = 0; t < count; ++t) {
    RandomModel shape;
    shape.width = 256;
    shape.ffn_width = 512;
    shape.heads = 4;
    shape.head_dim = 64;
    shape.matrix_type = shape.embedding_type = types[t]->id;
    RequestSpec spec = request(40, -1);
    spec.evaluate = spec.evaluate_rows = true;
    Rig reference(shape, Device::reference), cpu(shape, Device::cpu);
    const Outcome a = reference.collector.wait(reference.engine->submit(spec));
    const Outcome b = cpu.collector.wait(cpu.engine->submit(spec));
    CHECK_EQ(a.rows.size(), size_t(40 * 200));
    CHECK_EQ(b.rows.size(), a.rows.size());
    double kl = 0;
    for (size_t i = 0; i < a.rows.size(); ++i)
      kl += std::exp(double(a.rows[i])) * (double(a.rows[i]) - double(b.rows[i]));
    if (!(kl / 40 < 2e-3)) {
      CHECK_EQ(std::string(types[t]->name), std::string("a divergence below 2e-3"));
      std::fprintf(stderr, "%s: %g\n", types[t]->name, kl / 40);
    }
  }
}

TEST(computing_from_the_mapped_file_gives_the_same_bits) {
  for (const Device device : devices()) {
    for (const TypeId type : {TypeId::q8_0, TypeId::f16, TypeId::q4_1}) {
      RandomModel shape;
      shape.matrix_type = shape.embedding_type = type;
      CpuOptions mapped;
      mapped.repack = false;
      Rig a(shape, device), b(shape, device, 1, {}, mapped);
      CHECK_EQ(b.model->weight_bytes() < a.model->weight_bytes() / 4, true);
      CHECK_EQ(b.model->layers[0].wq->mapping, b.model->layers[1].down->mapping);  // one for the whole file
      const Outcome expected = a.collector.wait(a.engine->submit(request(50, 20)));
      const Outcome got = b.collector.wait(b.engine->submit(request(50, 20)));
      CHECK(got.tokens == expected.tokens);
      CHECK(got.logprobs == expected.logprobs);
    }
  }
}

TEST(a_mapped_file_that_shrinks_ends_its_requests_with_an_error) {
  for (const Device device : devices()) {
    CpuOptions mapped;
    mapped.repack = false;
    Rig rig(shapes()[0], device, 1, {}, mapped);
    std::filesystem::resize_file(rig.path(), 4096);
    const Outcome outcome = rig.collector.wait(rig.engine->submit(request(50, 20)));
    CHECK(outcome.finish == FinishReason::error);
    CHECK(outcome.error && outcome.error->code() == Code::file_changed);
  }
}

TEST(a_mapped_file_that_is_written_to_ends_its_requests_with_an_error) {
  for (const Device device : devices()) {
    CpuOptions mapped;
    mapped.repack = false;
    Rig rig(shapes()[0], device, 1, {}, mapped), repacked(shapes()[0], device);
    for (const Rig* written : {&rig, &repacked}) write_to(written->path());
    const Outcome outcome = rig.collector.wait(rig.engine->submit(request(50, 20)));
    CHECK(outcome.finish == FinishReason::error);
    CHECK(outcome.error && outcome.error->code() == Code::file_changed);
    CHECK(repacked.collector.wait(repacked.engine->submit(request(50, 20))).finish == FinishReason::length);
  }
}

TEST(a_file_that_is_written_to_while_it_is_loaded_is_refused) {
  for (const bool repack : {true, false}) {
    Rig rig(shapes()[0]);
    rig.engine.reset();
    rig.model.reset();
    ModelOptions options;
    options.path = rig.path();
    options.cpu.repack = repack;
    const LoadControl control{nullptr, [&](uint64_t) { write_to(rig.path()); }};
    check_error("written to", Code::file_changed, {rig.path()}, [&] { Model::load(options, control); });
  }
}

TEST(models_of_one_file_share_their_weights) {
  Rig rig(shapes()[0]);
  ModelOptions options;
  options.path = rig.path();
  options.device = Device::reference;
  const std::unique_ptr<Model> second = Model::load(options, {});
  CHECK_EQ(second->layers[0].wq, rig.model->layers[0].wq);
  CHECK_EQ(second->weight_bytes(), rig.model->weight_bytes());
}

TEST(a_load_can_be_cancelled_and_reports_progress) {
  Rig rig(shapes()[0]);
  rig.engine.reset();
  rig.model.reset();
  ModelOptions options;
  options.path = rig.path();
  options.device = Device::reference;
  std::atomic<bool> cancelled{true};
  try {
    Model::load(options, {&cancelled, {}});
    CHECK(false);
  } catch (const Error& e) {
    CHECK(e.code() == Code::aborted);
  }
  uint64_t loaded = 0, expected = 0;
  const std::unique_ptr<Model> model =
      Model::load(options, {nullptr, [&](uint64_t bytes) { loaded += bytes; }});
  const std::shared_ptr<GgufFile> file = GgufFile::open(options.path);
  for (const TensorInfo& tensor : file->tensors()) expected += tensor.bytes;
  CHECK_EQ(loaded, expected);
}

TEST(stops_at_stop_tokens_and_stop_strings) {
  Rig rig(shapes()[0]);
  const Outcome free = rig.collector.wait(rig.engine->submit(request(30, 12)));
  RequestSpec spec = request(30, 12);
  spec.stop_tokens = {free.tokens[5]};
  const Outcome by_token = rig.collector.wait(rig.engine->submit(spec));
  size_t first = 0;
  while (free.tokens[first] != free.tokens[5]) ++first;
  CHECK_EQ(by_token.tokens.size(), first);
  CHECK(by_token.finish == FinishReason::stop && !by_token.stop);

  spec = request(30, 12);
  const std::string third = free.text.substr(0, free.text.find(']', free.text.size() / 2) + 1);
  const std::string stop = third.substr(third.size() - 3) + "[";  // ends inside the following token
  spec.stop = {"never", stop};
  const Outcome by_text = rig.collector.wait(rig.engine->submit(spec));
  CHECK(by_text.finish == FinishReason::stop);
  CHECK(by_text.stop && *by_text.stop == stop);
  CHECK_EQ(by_text.text, free.text.substr(0, free.text.find(stop)));
}

TEST(cancelling_ends_a_request_anywhere) {
  EngineOptions options;
  options.max_concurrent = 2;
  options.max_batch_tokens = 4;
  Rig rig(shapes()[0], Device::reference, 1, options);
  RequestSpec slow = request(8, 400);
  slow.speculation = SpeculationMode::off;  // one token in each step
  const uint64_t decoding = rig.engine->submit(slow);
  while (rig.collector.tokens(decoding) == 0) std::this_thread::yield();
  const uint64_t in_prompt = rig.engine->submit(request(400, 4));
  const uint64_t waiting = rig.engine->submit(request(400, 4));
  for (const uint64_t id : {waiting, in_prompt, decoding}) {
    rig.engine->cancel(id);
    const Outcome outcome = rig.collector.wait(id);
    CHECK(outcome.finish == FinishReason::cancelled);
    const Usage& usage = outcome.usage;
    CHECK_EQ(usage.prompt_tokens, id == decoding ? 8 : 400);
    CHECK(id == decoding ? usage.computed_prompt_tokens == 8 : usage.computed_prompt_tokens < 400);
    CHECK_EQ(usage.computed_prompt_tokens > 0, usage.prompt_ms > 0);
  }
  // All blocks are free again: full contexts fit.
  for (int round = 0; round < 3; ++round) {
    const uint64_t a = rig.engine->submit(request(500, 12)), b = rig.engine->submit(request(500, 12));
    CHECK(rig.collector.wait(a).finish == FinishReason::length);
    CHECK(rig.collector.wait(b).finish == FinishReason::length);
  }
  rig.engine->cancel(123456);  // unknown: ignored
}

TEST(an_engine_can_end_while_requests_run) {
  for (int round = 0; round < 20; ++round) {
    Rig rig(shapes()[size_t(round) % shapes().size()]);
    std::vector<uint64_t> ids;
    for (int32_t i = 0; i < 6; ++i) ids.push_back(rig.engine->submit(request(100 + i, 200, 0.8f, i)));
    std::this_thread::sleep_for(std::chrono::microseconds(300 * round));
    rig.engine.reset();
    for (const uint64_t id : ids) {
      const Outcome outcome = rig.collector.wait(id);
      CHECK(outcome.finish == FinishReason::cancelled || outcome.finish == FinishReason::length);
      CHECK_EQ(outcome.usage.completion_tokens, int32_t(outcome.tokens.size()));
    }
  }
}

TEST(requests_are_checked) {
  EngineOptions options;
  options.max_concurrent = 1;
  options.max_queue = 2;
  Rig rig(shapes()[0], Device::reference, 1, options);
  RequestSpec spec = request(4, 4);
  spec.prompt = {};
  CHECK(code_of(rig, spec) == Code::invalid_argument);
  for (const int32_t token : {-1, 200, INT32_MAX, INT32_MIN}) {
    spec = request(4, 4);
    spec.prompt[2] = token;
    CHECK(code_of(rig, spec) == Code::token_out_of_range);
  }
  CHECK(code_of(rig, request(512, 4)) == Code::context_overflow);
  CHECK(code_of(rig, request(5000, 4)) == Code::context_overflow);
  spec = request(4, 4);
  spec.stop = {""};
  CHECK(code_of(rig, spec) == Code::invalid_argument);
  spec = request(4, 4);
  spec.sampling.top_p = 7;
  CHECK(code_of(rig, spec) == Code::invalid_argument);
  // The whole context is there to be used.
  CHECK_EQ(rig.collector.wait(rig.engine->submit(request(500, -1))).tokens.size(), size_t(12));
  CHECK_EQ(rig.collector.wait(rig.engine->submit(request(500, 0))).tokens.size(), size_t(0));
  // One runs, two wait, one more is refused.
  std::vector<uint64_t> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(rig.engine->submit(request(300, 100)));
  CHECK(code_of(rig, request(4, 4)) == Code::queue_full);
  for (const uint64_t id : ids) CHECK(rig.collector.wait(id).finish == FinishReason::length);
}

TEST(logits_that_are_no_numbers_end_one_request_alone) {
  // A vocabulary entry whose embedding is infinite: only requests that use it see it.
  for (const Device device : devices()) {
    RandomModel shape = shapes()[0];
    shape.matrix_type = shape.embedding_type = TypeId::f32;
    shape.tied = false;
    Rig probe(shape, device);
    const uint64_t begin = GgufFile::open(probe.path())->tensor("token_embd.weight")->offset;
    const uint64_t at = begin + 7 * 64 * sizeof(float);
    {
      std::FILE* file = std::fopen(probe.path().c_str(), "r+b");
      const float infinite = INFINITY;
      std::fseek(file, long(at), SEEK_SET);
      std::fwrite(&infinite, sizeof infinite, 1, file);
      std::fclose(file);
    }
    ModelOptions options;
    options.path = probe.path();
    options.device = device;
    const std::shared_ptr<Model> model = Model::load(options, {});
    Collector collector;
    const std::unique_ptr<Engine> engine = Engine::create(model, {}, {}, collector);
    collector.engine = engine.get();
    RequestSpec bad = request(40, 8);
    for (int32_t& token : bad.prompt) token = 9;
    const RequestSpec good = bad;
    bad.prompt[20] = 7;
    const Outcome expected = collector.wait(engine->submit(good));
    for (int round = 0; round < 3; ++round) {
      const uint64_t a = engine->submit(bad), b = engine->submit(good);
      const Outcome failed = collector.wait(a), fine = collector.wait(b);
      CHECK(failed.error && failed.error->code() == Code::numeric);
      CHECK(fine.tokens == expected.tokens);
      // The blocks that held its infinities serve the next request unharmed.
      CHECK(collector.wait(engine->submit(good)).tokens == expected.tokens);
    }
  }
}

TEST(a_small_cache_makes_the_context_small) {
  EngineOptions options;
  options.kv_tokens = 96;
  Rig rig(shapes()[0], Device::cpu, 1, options);
  CHECK_EQ(rig.engine->info().context_length, 96);
  CHECK_EQ(rig.engine->info().kv_tokens, 96);
  CHECK(code_of(rig, request(96, 1)) == Code::context_overflow);
  CHECK_EQ(rig.collector.wait(rig.engine->submit(request(80, 100))).tokens.size(), size_t(16));
}

// A forward pass that throws must not leave its step, and the step's sequences, to a thread that fills masks.
TEST(masks_are_complete_before_anything_thrown_goes_on) {
  class Slow final : public Constraint {
   public:
    explicit Slow(std::atomic<bool>& begun, std::atomic<bool>& done) : begun_(begun), done_(done) {}
    void allow(std::span<uint32_t>) override {
      begun_ = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      done_ = true;
    }
    void accept(int32_t) override {}

   private:
    std::atomic<bool>&begun_, &done_;
  };
  std::atomic<bool> begun{false}, done{false};
  RequestSpec spec = request(4, 4);
  spec.constraint = std::make_shared<Slow>(begun, done);
  Sequence sequence(std::move(spec), 200);
  Sequence* const sequences[] = {&sequence};
  MaskThread thread;
  try {
    const MaskThread::Filling filling(thread, sequences, 200);
    while (!begun) std::this_thread::yield();
    throw std::bad_alloc();
  } catch (const std::bad_alloc&) {
    CHECK(done);
  }
}
