// Shared by the engine tests: small random models, engines over them, and what requests got.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include "native/engine/engine.h"
#include "test/native/check.h"
#include "test/native/cuda_testing.h"
#include "test/native/gguf_writer.h"
#include "test/native/random_model.h"
#include "test/native/temp_path.h"

namespace inhouse::test {

using kernels::TypeId;

// What one request got in all.
struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;  // evaluate: of each next token; else of each token drawn
  std::vector<float> rows;
  std::vector<uint8_t> greedy;
  std::vector<int32_t> texts;
  std::vector<float> vectors;
  std::string text;
  FinishReason finish = FinishReason::none;
  std::optional<Error> error;
  std::optional<std::string> stop;
  Usage usage;
};

class Collector final : public EventSink {
 public:
  void on_events(std::vector<Event>&& events) override {
    const std::lock_guard lock(mutex_);
    for (Event& e : events) {
      Outcome& o = outcomes_[e.request];
      o.tokens.insert(o.tokens.end(), e.tokens.begin(), e.tokens.end());
      o.logprobs.insert(o.logprobs.end(), e.token_logprobs.begin(), e.token_logprobs.end());
      for (const Sampled& s : e.logprobs) o.logprobs.push_back(s.logprob);
      o.rows.insert(o.rows.end(), e.rows.begin(), e.rows.end());
      o.greedy.insert(o.greedy.end(), e.greedy.begin(), e.greedy.end());
      o.texts.insert(o.texts.end(), e.texts.begin(), e.texts.end());
      o.vectors.insert(o.vectors.end(), e.vectors.begin(), e.vectors.end());
      o.text += e.text;
      o.finish = e.finish;
      if (e.error) o.error = e.error;
      if (e.stop) o.stop = e.stop;
      o.usage = e.usage;
      if (engine) engine->acknowledge(e.request);
    }
    changed_.notify_all();
  }
  Outcome wait(uint64_t id) {
    std::unique_lock lock(mutex_);
    const bool done = changed_.wait_for(lock, std::chrono::seconds(300),
                                        [&] { return outcomes_[id].finish != FinishReason::none; });
    CHECK(done);
    return outcomes_[id];
  }
  // The rows that have come, once there are so many numbers.
  std::vector<float> rows(uint64_t id, size_t numbers) {
    std::unique_lock lock(mutex_);
    CHECK(changed_.wait_for(lock, std::chrono::seconds(300),
                            [&] { return outcomes_[id].rows.size() >= numbers; }));
    return outcomes_[id].rows;
  }
  bool ended(uint64_t id) {
    const std::lock_guard lock(mutex_);
    return outcomes_[id].finish != FinishReason::none;
  }
  size_t tokens(uint64_t id) {
    const std::lock_guard lock(mutex_);
    return outcomes_[id].tokens.size();
  }
  Engine* engine = nullptr;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Outcome> outcomes_;
};

// A model file in the temporary folder, a model and an engine over it.
class Rig {
 public:
  explicit Rig(const RandomModel& shape, Device device = Device::reference, int32_t threads = 1,
               EngineOptions options = {}, CpuOptions cpu = {}) {
    path_ = temp_path("engine.gguf");
    write_random_model(shape, path_);
    cpu.threads = threads;
    ModelOptions model_options;
    model_options.path = path_;
    model_options.device = device;
    model_options.cpu = cpu;
    model_options.cuda = cuda_device();
    model = Model::load(model_options, {});
    Vocabulary vocabulary;  // token t is written as its number in brackets, control tokens 0 and 1 as nothing
    vocabulary.offsets.push_back(0);
    for (uint32_t t = 0; t < shape.vocabulary; ++t) {
      const std::string text = t < 2 ? "" : std::string("[").append(std::to_string(t)).append("]");
      vocabulary.bytes.insert(vocabulary.bytes.end(), text.begin(), text.end());
      vocabulary.offsets.push_back(uint32_t(vocabulary.bytes.size()));
    }
    engine = Engine::create(model, std::move(vocabulary), options, collector);
    collector.engine = engine.get();
  }
  ~Rig() {
    engine.reset();
    std::filesystem::remove(path_);
  }
  const std::string& path() const { return path_; }

  Collector collector;
  std::shared_ptr<Model> model;
  std::unique_ptr<Engine> engine;

 private:
  std::string path_;
};

inline std::vector<int32_t> prompt_of(int32_t count, int32_t vocabulary = 200, int32_t salt = 0) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((i * 37 + salt * 101 + 5) % vocabulary);
  return tokens;
}

inline RequestSpec request(int32_t prompt_tokens, int32_t max_tokens, float temperature = 0,
                           int32_t salt = 0) {
  RequestSpec spec;
  spec.prompt = prompt_of(prompt_tokens, 200, salt);
  spec.max_tokens = max_tokens;
  spec.sampling.temperature = temperature;
  spec.sampling.seed = 42;
  spec.top_logprobs = 0;
  return spec;
}

inline Outcome run(Rig& rig, RequestSpec spec) {
  return rig.collector.wait(rig.engine->submit(std::move(spec)));
}

inline void check_same(const Outcome& got, const Outcome& expected) {
  CHECK(!got.error);
  CHECK(got.tokens == expected.tokens);
  CHECK(got.logprobs == expected.logprobs);
  CHECK_EQ(got.text, expected.text);
  CHECK(got.finish == expected.finish);
}

// Waits until the engine has nothing to do.
inline EngineStats idle(Rig& rig) {
  for (int i = 0; i < 5000; ++i) {
    const EngineStats stats = rig.engine->stats();
    if (stats.running + stats.waiting + stats.paused == 0) return stats;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(false);
  return {};
}

// A prompt that begins with `shared` tokens that all have.
inline RequestSpec with_prefix(int32_t shared, int32_t own, int32_t salt, float temperature = 0.9f) {
  RequestSpec spec = request(shared, 24, temperature);
  const std::vector<int32_t> more = prompt_of(own, 200, salt + 1);
  spec.prompt.insert(spec.prompt.end(), more.begin(), more.end());
  spec.sampling.seed = uint64_t(salt);
  return spec;
}

inline Code code_of(Rig& rig, RequestSpec spec) {
  try {
    rig.engine->submit(std::move(spec));
  } catch (const Error& e) {
    return e.code();
  }
  return Code::internal;
}

// Allows tokens whose remainder by 3 is that of the number of tokens so far: an automaton of three states.
class Thirds final : public Constraint {
 public:
  explicit Thirds(int32_t fail_at = -1) : fail_at_(fail_at) {}
  void allow(std::span<uint32_t> mask) override {
    if (count_ == fail_at_) throw Error(Code::invalid_argument, "the automaton is stuck");
    for (size_t token = size_t(count_ % 3); token < 200; token += 3) mask[token / 32] |= 1u << (token % 32);
  }
  void accept(int32_t token) override {
    CHECK_EQ(token % 3, count_ % 3);
    ++count_;
  }

 private:
  int32_t fail_at_, count_ = 0;
};

// A model over a file that is gone already.
inline std::shared_ptr<Model> load_random(const RandomModel& shape, Device device) {
  const std::string path = temp_path("random.gguf");
  write_random_model(shape, path);
  ModelOptions options;
  options.path = path;
  options.device = device;
  options.cpu.threads = 1;
  std::shared_ptr<Model> model = Model::load(options, {});
  std::filesystem::remove(path);
  return model;
}

// An adapter of one pair, all of one number.
inline std::shared_ptr<const Adapter> small_adapter(const std::shared_ptr<const Model>& model, float value) {
  const HyperParameters& h = model->hyper();
  const auto matrix = [&](const char* name, int64_t rows, int64_t cols) {
    const auto read = [value, count = rows * cols](void* dst) {
      std::fill_n(static_cast<float*>(dst), count, value);
    };
    return LoraMatrix{name, kernels::quant_type(uint32_t(TypeId::f32)), rows, cols, read};
  };
  AdapterSource source{"adapter", {}, false, {}};
  source.pairs.push_back(
      {0, LoraTarget::v, 1, matrix("a", 1, h.width), matrix("b", int64_t(h.kv_heads) * h.head_dim_v, 1)});
  return Adapter::load(model, source, {});
}

inline std::vector<RandomModel> shapes() {
  RandomModel llama, qwen, gemma, experts;
  qwen.architecture = "qwen2";
  qwen.tied = false;
  gemma.architecture = "gemma3";
  gemma.layers = 7;
  gemma.window = 40;
  gemma.kv_heads = 1;
  gemma.head_dim = 32;
  experts.architecture = "qwen3moe";
  experts.experts = 6;
  experts.experts_used = 3;
  experts.ffn_width = 64;
  for (RandomModel* m : {&llama, &qwen, &gemma, &experts}) m->matrix_type = m->embedding_type = TypeId::q8_0;
  return {llama, qwen, gemma, experts};
}

inline std::vector<Device> devices() {
  return {Device::reference, Device::cpu};
}

}  // namespace inhouse::test
