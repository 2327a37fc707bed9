// Files that are well-formed GGUF but no model this version can run: each is refused with its code and a
// message that names the key or tensor.
#include <filesystem>

#include "native/engine/engine.h"
#include "test/native/check.h"
#include "test/native/random_model.h"
#include "test/native/temp_path.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

struct Row {
  std::vector<std::string> overrides;
  Code code;
  const char* names;  // in the message
};

class File {
 public:
  explicit File(const RandomModel& shape) : path(temp_path("hostile.gguf")) {
    write_random_model(shape, path);
  }
  ~File() { std::filesystem::remove(path); }
  std::string path;
};

void check_refused(const File& file, const Row& row) {
  ModelOptions options;
  options.path = file.path;
  options.device = Device::reference;
  options.overrides = row.overrides;
  try {
    Model::load(options, {});
    test::fail(__FILE__, __LINE__, "loaded: " + row.overrides[0]);
  } catch (const Error& e) {
    CHECK_EQ(std::string(code_name(e.code())), std::string(code_name(row.code)));
    if (e.message().find(row.names) == std::string::npos) {
      test::fail(__FILE__, __LINE__, "\"" + e.message() + "\" does not name " + row.names);
    }
  }
}

}  // namespace

TEST(contradicting_hyperparameters) {
  const File file(RandomModel{});
  const Row rows[] = {
      {{"general.architecture=mamba"}, Code::unsupported_architecture, "mamba"},
      {{"general.architecture="}, Code::unsupported_architecture, "general.architecture"},
      {{"general.architecture=qwen2"}, Code::gguf_invalid, "qwen2.block_count"},
      {{"llama.block_count=0"}, Code::model_invalid, "llama.block_count"},
      {{"llama.block_count=1"}, Code::model_invalid, "blk.1."},
      {{"llama.block_count=3"}, Code::model_invalid, "blk.2."},
      {{"llama.block_count=4294967295"}, Code::gguf_invalid, "llama.block_count"},
      {{"llama.embedding_length=0"}, Code::model_invalid, "llama.embedding_length"},
      {{"llama.embedding_length=65"}, Code::model_invalid, "token_embd.weight"},
      {{"llama.embedding_length=2147483648"}, Code::gguf_invalid, "llama.embedding_length"},
      {{"llama.feed_forward_length=0"}, Code::model_invalid, "llama.feed_forward_length"},
      {{"llama.feed_forward_length=95"}, Code::model_invalid, "ffn_gate"},
      {{"llama.context_length=0"}, Code::model_invalid, "llama.context_length"},
      {{"llama.attention.head_count=0"}, Code::model_invalid, "llama.attention.head_count"},
      {{"llama.attention.head_count=3"}, Code::model_invalid, "head_count"},
      {{"llama.attention.head_count=4294967295"}, Code::gguf_invalid, "llama.attention.head_count"},
      {{"llama.attention.head_count_kv=0"}, Code::model_invalid, "head_count_kv"},
      {{"llama.attention.head_count_kv=4"}, Code::model_invalid, "attn_k"},
      {{"llama.attention.head_count_kv=8"}, Code::model_invalid, "head_count_kv"},
      {{"llama.attention.key_length=0"}, Code::model_invalid, "key_length"},
      {{"llama.attention.key_length=17"}, Code::model_invalid, ""},
      {{"llama.attention.key_length=1000000"}, Code::gguf_invalid, "key_length"},
      {{"llama.attention.value_length=0"}, Code::model_invalid, "value_length"},
      {{"llama.attention.layer_norm_rms_epsilon=0"}, Code::model_invalid, "layer_norm_rms_epsilon"},
      {{"llama.attention.layer_norm_rms_epsilon=-1"}, Code::model_invalid, "layer_norm_rms_epsilon"},
      {{"llama.rope.freq_base=0"}, Code::model_invalid, "rope.freq_base"},
      {{"llama.rope.dimension_count=7"}, Code::model_invalid, "rope.dimension_count"},
      {{"llama.rope.dimension_count=18"}, Code::model_invalid, "rope.dimension_count"},
      {{"llama.rope.dimension_count=0"}, Code::model_invalid, "rope.dimension_count"},
      {{"llama.rope.scaling.type=yarn"}, Code::model_invalid, "yarn"},
      {{"llama.rope.scaling.type=linear", "llama.rope.scaling.factor=0"},
       Code::model_invalid,
       "rope.scaling.factor"},
      {{"llama.expert_count=8"}, Code::model_invalid, "expert_count"},
      {{"llama.attn_logit_softcapping=-3"}, Code::model_invalid, "attn_logit_softcapping"},
      {{"llama.block_count"}, Code::invalid_argument, "llama.block_count"},
      {{"llama.block_count=two"}, Code::invalid_argument, "llama.block_count"},
  };
  for (const Row& row : rows) check_refused(file, row);
}

TEST(contradicting_experts) {
  RandomModel shape;
  shape.architecture = "qwen3moe";
  shape.experts = 4;
  shape.experts_used = 2;
  const File file(shape);
  const Row rows[] = {
      {{"qwen3moe.expert_count=0"}, Code::model_invalid, "qwen3moe.expert_count"},
      {{"qwen3moe.expert_count=3"}, Code::model_invalid, "ffn_gate_inp"},
      {{"qwen3moe.expert_count=4294967295"}, Code::gguf_invalid, "qwen3moe.expert_count"},
      {{"qwen3moe.expert_used_count=0"}, Code::model_invalid, "qwen3moe.expert_used_count"},
      {{"qwen3moe.expert_used_count=5"}, Code::gguf_invalid, "qwen3moe.expert_used_count"},
      {{"qwen3moe.expert_feed_forward_length=0"}, Code::model_invalid, "expert_feed_forward_length"},
      {{"qwen3moe.expert_feed_forward_length=95"}, Code::model_invalid, "ffn_gate_exps"},
      {{"qwen3moe.expert_gating_func=2"}, Code::model_invalid, "expert_gating_func"},
      {{"qwen3moe.expert_weights_scale=0"}, Code::model_invalid, "expert_weights_scale"},
      {{"qwen3moe.expert_weights_norm=2"}, Code::gguf_invalid, "expert_weights_norm"},
      {{"general.architecture=qwen3"}, Code::gguf_invalid, "qwen3.block_count"},
  };
  for (const Row& row : rows) check_refused(file, row);

  // Experts where the architecture has none, and the other way round.
  shape.architecture = "llama";
  check_refused(File(shape), {{"llama.context_length=64"}, Code::model_invalid, "llama.expert_count"});
  check_refused(File(shape), {{"llama.expert_count=0"}, Code::model_invalid, "ffn_gate.weight"});
  shape.architecture = "qwen3moe";
  shape.experts = 0;
  check_refused(File(shape), {{"qwen3moe.context_length=64"}, Code::gguf_invalid, "qwen3moe.expert_count"});
}

TEST(missing_and_spare_tensors) {
  RandomModel qwen;
  qwen.architecture = "qwen2";
  const File with_biases(qwen);
  check_refused(with_biases, {{"qwen2.block_count=1"}, Code::model_invalid, "blk.1."});

  RandomModel gemma;
  gemma.architecture = "gemma3";
  const File no_window(gemma);  // the format requires gemma3.attention.sliding_window
  check_refused(no_window, {{"gemma3.block_count=2"}, Code::gguf_invalid, "sliding_window"});
}

TEST(engine_options_out_of_range) {
  const File file(RandomModel{});
  ModelOptions options;
  options.path = file.path;
  options.device = Device::reference;
  const std::shared_ptr<Model> model = Model::load(options, {});
  class Ignore final : public EventSink {
    void on_events(std::vector<Event>&&) override {}
  } sink;
  const auto code = [&](auto change) {
    EngineOptions engine;
    change(engine);
    try {
      Engine::create(model, {}, engine, sink);
    } catch (...) {
      return describe_current_exception().code();
    }
    return Code::internal;
  };
  CHECK(code([](EngineOptions& e) { e.context_length = -1; }) == Code::invalid_argument);
  CHECK(code([](EngineOptions& e) { e.context_length = INT32_MAX; }) == Code::invalid_argument);
  CHECK(code([](EngineOptions& e) { e.max_concurrent = 0; }) == Code::invalid_argument);
  CHECK(code([](EngineOptions& e) { e.max_queue = -1; }) == Code::invalid_argument);
  CHECK(code([](EngineOptions& e) { e.max_batch_tokens = 1; }) == Code::invalid_argument);
  CHECK(code([](EngineOptions& e) {
          e.context_length = 1 << 24;
          e.kv_tokens = INT32_MAX;
          e.max_batch_tokens = 4096;
        }) == Code::out_of_memory);
  Vocabulary too_large;
  too_large.offsets.resize(202);
  try {
    Engine::create(model, too_large, {}, sink);
    CHECK(false);
  } catch (const Error& e) {
    CHECK(e.code() == Code::model_invalid);
  }
}
