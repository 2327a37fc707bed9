// What a GGUF file says about a model's shape, in one struct for all architectures. An architecture file
// (native/model/arch/) fills it from metadata; the forward pass reads nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "native/ops/backend.h"

namespace inhouse {

// One way to rotate queries and keys; models with local and global layers have two.
struct RopeConfig {
  float base = 10000.0f;
  float scale = 1.0f;  // linear position scaling: angles are multiplied by it
  bool operator==(const RopeConfig&) const = default;
};

struct LayerConfig {
  int32_t window = 0;    // sliding window in tokens, 0: full attention
  int32_t rope = 0;      // index into HyperParameters::ropes
  int32_t kv_group = 0;  // index into HyperParameters::kv_groups
  int32_t kv_layer = 0;  // its place in that group
};

// A set of layers that share a block table; their pools are made from it.
struct KvGroup {
  int32_t layers = 0;
  int32_t window = 0;
};

// How the hidden states of a text's tokens become one vector, as GGUF files number it.
enum class Pooling : uint8_t {
  none,
  mean,
  cls,   // the first token's
  last,  // the last token's
  rank,  // of a reranker: a score, no vector
};

struct HyperParameters {
  std::string architecture;
  int32_t layers = 0;
  int32_t width = 0;      // embedding length
  int32_t ffn_width = 0;  // of each expert where there are some
  ExpertParams experts;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;  // of queries and keys
  int32_t head_dim_v = 0;
  int32_t vocabulary = 0;
  int32_t trained_context = 0;  // tokens
  float norm_epsilon = 0;
  float attention_scale = 0;
  float attention_softcap = 0;      // 0: none
  float logit_softcap = 0;          // 0: none
  Pooling pooling = Pooling::none;  // as the file says; none where it does not
  float embedding_scale = 1;
  Activation activation = Activation::silu;
  RopeStyle rope_style = RopeStyle::interleaved;
  int32_t rope_dims = 0;
  std::vector<RopeConfig> ropes;
  std::vector<float> rope_factors;  // [rope_dims / 2] divisors of the inverse frequencies, or empty
  bool qkv_bias = false;            // must the file carry biases for Q, K, V
  bool qk_norm = false;
  bool post_norms = false;
  std::vector<LayerConfig> layer;  // [layers]
  std::vector<KvGroup> kv_groups;
};

// Reads and checks the hyperparameters of a file. Errors: unsupported_architecture naming it, gguf_invalid
// for a bad value, model_invalid for values that contradict each other.
HyperParameters read_hyperparameters(const GgufFile& file);

}  // namespace inhouse
