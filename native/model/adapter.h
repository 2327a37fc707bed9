// LoRA adapters: pairs of narrow matrices that a request adds to a model's linear layers, so that a layer
// W x becomes W x + scale * B (A x) (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "native/model/model.h"

namespace inhouse {

// The linear layers that an adapter can change; those that share an input stand together.
enum class LoraTarget : uint8_t { q, k, v, output, gate, up, down, head };
inline constexpr int32_t kLayerTargets = 7;  // all but the head

// Rows of A, and columns of B, at most: more than any layer's width among the models there are.
inline constexpr int32_t kMaxLoraRank = 16384;

// One matrix of an adapter as a file has it, row by row, the columns running fastest.
struct LoraMatrix {
  std::string name;  // of the tensor, for messages
  const kernels::QuantType* type = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  std::function<void(void* dst)> read;  // all of its bytes
};

struct LoraPairSource {
  int32_t layer = 0;  // of no meaning for the head
  LoraTarget target = LoraTarget::q;
  float scale = 1;
  LoraMatrix a;  // [rank, in]
  LoraMatrix b;  // [out, rank]
};

// Where an adapter is read from.
struct AdapterSource {
  std::string path;  // for messages
  std::vector<LoraPairSource> pairs;
  // Rows of Q and K stand as rope rotates halves of a head, as PEFT has them, though the model's may not.
  bool split_rope = false;
  std::function<void()> check_unchanged;  // throws file_changed; may be empty
};

// The pairs that a GGUF file of type "adapter" holds, for a model of this kind. Errors: adapter_invalid
// naming the key or tensor, gguf_invalid.
AdapterSource gguf_adapter(std::shared_ptr<const GgufFile> file, const Model& model);

// One tensor of a safetensors file, as its header has it.
struct SafetensorsEntry {
  std::string name;
  std::string type;  // "F32", "F16", "BF16"
  int64_t rows = 0;
  int64_t cols = 0;
  uint64_t offset = 0;  // of its first byte in the file
};
struct SafetensorsPair {
  int32_t layer = 0;
  LoraTarget target = LoraTarget::q;
  double scale = 1;
  SafetensorsEntry a, b;
};

// The pairs of a safetensors file of `file_bytes` bytes whose header has been read already. Errors:
// adapter_invalid naming the tensor, file_changed where its size is another, file_not_found, file_read.
AdapterSource safetensors_adapter(const std::string& path, uint64_t file_bytes,
                                  const std::vector<SafetensorsPair>& pairs);

struct LoraPair {
  std::unique_ptr<Weight> a;  // [rank, in]; null where the adapter leaves the layer as it is
  std::unique_ptr<Weight> b;  // [out, rank]
  float scale = 1;
};

// A loaded adapter. Never changes; shared by whoever may still compute with it.
class Adapter {
 public:
  // Checks every pair against the model and has its backend read the matrices, in float32, F16 or BF16 (other
  // types become float32). Blocking; call it on a thread of its own. Errors: adapter_invalid, out_of_memory,
  // file_changed, file_read, aborted.
  static std::shared_ptr<const Adapter> load(const std::shared_ptr<const Model>& model,
                                             const AdapterSource& source, const LoadControl& control);

  uint64_t id() const { return id_; }                    // of no other adapter of this process, ever
  uint64_t fingerprint() const { return fingerprint_; }  // of what it holds, the same in every process
  int32_t rank() const { return rank_; }                 // the largest
  uint64_t bytes() const { return bytes_; }              // memory of its matrices
  bool belongs_to(const std::shared_ptr<const Model>& model) const;

  // One for each product of the layer at this place (Q, K, V; gate, up; …). Empty where none is changed.
  std::span<const LoraPair> pairs(int32_t layer, Place place) const;

 private:
  Adapter() = default;
  struct Layer {
    std::array<LoraPair, kLayerTargets> pairs;
  };
  LoraPair& slot(int32_t layer, LoraTarget target);

  uint64_t id_ = 0;
  uint64_t fingerprint_ = 0;
  int32_t rank_ = 0;
  uint64_t bytes_ = 0;
  std::weak_ptr<const Model> model_;  // not owned: an adapter must not keep a model's memory
  std::vector<Layer> layers_;
  LoraPair head_;
};

}  // namespace inhouse
