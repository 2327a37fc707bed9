#include "native/model/hyperparameters.h"

#include <cmath>

#include "native/core/error.h"
#include "native/model/arch/arch.h"

namespace inhouse {
namespace {

struct Architecture {
  const char* name;  // general.architecture
  void (*read)(const GgufFile&, HyperParameters&);
};

constexpr Architecture kArchitectures[] = {
    {"llama", arch::read_llama},       {"qwen2", arch::read_qwen2},   {"qwen3", arch::read_qwen3},
    {"qwen3moe", arch::read_qwen3moe}, {"gemma3", arch::read_gemma3},
};

const Architecture& find_architecture(const std::string& name) {
  std::string known;
  for (const Architecture& a : kArchitectures) {
    if (name == a.name) return a;
    known += (known.empty() ? "" : ", ") + std::string(a.name);
  }
  throw Error(Code::unsupported_architecture,
              "general.architecture is \"" + name + "\"; this version runs " + known);
}

// Bounds that no model comes near, so that products of sizes cannot overflow.
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxHeads = 4096;
constexpr uint64_t kMaxHeadDim = 4096;
constexpr uint64_t kMaxWidth = 1 << 20;
constexpr uint64_t kMaxContext = 1 << 30;
constexpr uint64_t kMaxExperts = 1 << 14;

void require(bool holds, const std::string& message) {
  if (!holds) throw Error(Code::model_invalid, message);
}

int32_t positive(const GgufFile& file, const std::string& key, uint64_t max) {
  const uint64_t value = file.get_uint(key, max);
  require(value > 0, key + " is 0; expected 1 to " + std::to_string(max));
  return int32_t(value);
}

}  // namespace

float arch::positive_float(const GgufFile& file, const std::string& key, double absent) {
  const double value = file.get_float(key, absent);
  require(value > 0 && std::isfinite(float(value)),
          key + " is " + std::to_string(value) + "; expected more than 0");
  return float(value);
}

void arch::read_experts(const GgufFile& file, HyperParameters& hyper) {
  const std::string prefix = hyper.architecture + ".";
  ExpertParams& experts = hyper.experts;
  experts.count = positive(file, prefix + "expert_count", kMaxExperts);
  experts.used = positive(file, prefix + "expert_used_count", uint64_t(experts.count));
  experts.normalize = file.get_bool(prefix + "expert_weights_norm", true);
  experts.scale = positive_float(file, prefix + "expert_weights_scale", 1.0);
  constexpr uint64_t kSoftmax = 1;
  const uint64_t gating = file.get_uint(prefix + "expert_gating_func", UINT32_MAX, kSoftmax);
  require(gating == kSoftmax,
          prefix + "expert_gating_func is " + std::to_string(gating) + "; this version knows 1, the softmax");
  hyper.ffn_width = positive(file, prefix + "expert_feed_forward_length", kMaxWidth);
}

namespace {

using arch::positive_float;

// A number that this version can only handle when all layers agree on it.
int32_t same_in_all_layers(const GgufFile& file, const std::string& key, int32_t layers, uint64_t max) {
  const std::vector<uint64_t> values = file.get_uints(key, uint64_t(layers), max);
  for (uint64_t value : values) {
    require(value == values[0], key + " differs between layers, which this architecture does not allow");
  }
  require(values[0] > 0, key + " is 0; expected 1 to " + std::to_string(max));
  return int32_t(values[0]);
}

// 0, no cap, where absent.
float soft_cap(const GgufFile& file, const std::string& key) {
  return file.find(key) ? positive_float(file, key, 0) : 0.0f;
}

RopeConfig read_rope(const GgufFile& file, const std::string& prefix) {
  RopeConfig rope;
  rope.base = positive_float(file, prefix + "rope.freq_base", 10000.0);
  const std::string type = file.get_string(prefix + "rope.scaling.type", "none");
  if (type == "linear") {
    rope.scale = 1.0f / positive_float(file, prefix + "rope.scaling.factor", 1.0);
  } else {
    require(type == "none",
            prefix + "rope.scaling.type is \"" + type + "\"; this version knows none and linear");
  }
  return rope;
}

// The keys that every architecture here has in common, under its own prefix.
void read_common(const GgufFile& file, HyperParameters& hyper) {
  const std::string prefix = hyper.architecture + ".";
  hyper.layers = positive(file, prefix + "block_count", kMaxLayers);
  hyper.width = positive(file, prefix + "embedding_length", kMaxWidth);
  hyper.trained_context = positive(file, prefix + "context_length", kMaxContext);
  hyper.heads = same_in_all_layers(file, prefix + "attention.head_count", hyper.layers, kMaxHeads);
  const std::string kv_key = prefix + "attention.head_count_kv";
  hyper.kv_heads =
      file.find(kv_key) ? same_in_all_layers(file, kv_key, hyper.layers, kMaxHeads) : hyper.heads;
  require(hyper.heads % hyper.kv_heads == 0, prefix + "attention.head_count (" + std::to_string(hyper.heads) +
                                                 ") is no multiple of head_count_kv (" +
                                                 std::to_string(hyper.kv_heads) + ")");
  hyper.head_dim = int32_t(
      file.get_uint(prefix + "attention.key_length", kMaxHeadDim, uint64_t(hyper.width / hyper.heads)));
  hyper.head_dim_v =
      int32_t(file.get_uint(prefix + "attention.value_length", kMaxHeadDim, uint64_t(hyper.head_dim)));
  require(hyper.head_dim > 0 && hyper.head_dim_v > 0,
          prefix + "attention.key_length and value_length must be positive");
  hyper.norm_epsilon = positive_float(file, prefix + "attention.layer_norm_rms_epsilon", 1e-5);
  hyper.attention_scale = 1.0f / std::sqrt(float(hyper.head_dim));
  hyper.attention_softcap = soft_cap(file, prefix + "attn_logit_softcapping");
  hyper.logit_softcap = soft_cap(file, prefix + "final_logit_softcapping");
  hyper.pooling = Pooling(file.get_uint(prefix + "pooling_type", uint64_t(Pooling::rank), 0));
  hyper.rope_dims =
      int32_t(file.get_uint(prefix + "rope.dimension_count", kMaxHeadDim, uint64_t(hyper.head_dim)));
  require(hyper.rope_dims > 0 && hyper.rope_dims % 2 == 0 && hyper.rope_dims <= hyper.head_dim,
          prefix + "rope.dimension_count is " + std::to_string(hyper.rope_dims) +
              "; expected an even number up to the head size " + std::to_string(hyper.head_dim));
  hyper.ropes = {read_rope(file, prefix)};
  hyper.layer.resize(size_t(hyper.layers));
}

// For architectures that have not read experts.
void read_feed_forward(const GgufFile& file, HyperParameters& hyper) {
  const std::string prefix = hyper.architecture + ".";
  hyper.ffn_width = same_in_all_layers(file, prefix + "feed_forward_length", hyper.layers, kMaxWidth);
  const uint64_t experts = file.get_uint(prefix + "expert_count", kMaxExperts, 0);
  require(experts == 0, prefix + "expert_count is " + std::to_string(experts) +
                            "; this version runs no mixture of experts in this architecture");
}

// Layers with the same window share a group of the KV cache.
void group_layers(HyperParameters& hyper) {
  for (LayerConfig& layer : hyper.layer) {
    size_t g = 0;
    while (g < hyper.kv_groups.size() && hyper.kv_groups[g].window != layer.window) ++g;
    if (g == hyper.kv_groups.size()) hyper.kv_groups.push_back({0, layer.window});
    layer.kv_group = int32_t(g);
    layer.kv_layer = hyper.kv_groups[g].layers++;
  }
}

}  // namespace

HyperParameters read_hyperparameters(const GgufFile& file) {
  HyperParameters hyper;
  hyper.architecture = file.get_string("general.architecture");
  const Architecture& architecture = find_architecture(hyper.architecture);
  read_common(file, hyper);
  architecture.read(file, hyper);
  if (hyper.experts.count == 0) read_feed_forward(file, hyper);
  group_layers(hyper);
  return hyper;
}

}  // namespace inhouse
