// Finds an adapter's matrices in a GGUF file, or in a safetensors file whose header lib/ has read.
#include <cmath>
#include <set>

#include "native/core/error.h"
#include "native/model/adapter.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

struct TargetName {
  LoraTarget target;
  const char* name;
};
constexpr TargetName kTargets[] = {
    {LoraTarget::q, "attn_q"},           {LoraTarget::k, "attn_k"},      {LoraTarget::v, "attn_v"},
    {LoraTarget::output, "attn_output"}, {LoraTarget::gate, "ffn_gate"}, {LoraTarget::up, "ffn_up"},
    {LoraTarget::down, "ffn_down"},
};

void expect_text(const GgufFile& file, const char* key, const std::string& expected) {
  const std::string value = file.get_string(key, "");
  if (value == expected) return;
  throw Error(Code::adapter_invalid, file.path() + ": " + key +
                                         (file.find(key) ? " is \"" + value + "\"" : " is missing") +
                                         "; expected \"" + expected + "\"");
}

// Collects the pairs of a GGUF file and remembers which tensors have found their place.
class GgufPairs {
 public:
  GgufPairs(std::shared_ptr<const GgufFile> file, AdapterSource& source, float alpha)
      : file_(std::move(file)), source_(source), alpha_(alpha) {}

  void add(int32_t layer, LoraTarget target, const std::string& weight) {
    const TensorInfo* a = file_->tensor(weight + ".lora_a");
    const TensorInfo* b = file_->tensor(weight + ".lora_b");
    if (!a && !b) return;
    if (!a || !b) {
      throw Error(Code::adapter_invalid,
                  file_->path() + ": tensor \"" + weight + (a ? ".lora_b" : ".lora_a") +
                      "\" is missing; expected it beside \"" + (a ? a : b)->name + "\"");
    }
    LoraPairSource& pair = source_.pairs.emplace_back();
    pair.layer = layer;
    pair.target = target;
    pair.a = matrix(*a);
    pair.b = matrix(*b);
    // An alpha of 0 stands for a scale of 1, as in llama.cpp.
    pair.scale = alpha_ == 0 ? 1.0f : alpha_ / float(a->dims[1]);
  }

  void check_all_bound() const {
    for (const TensorInfo& tensor : file_->tensors()) {
      if (bound_.count(&tensor)) continue;
      throw Error(
          Code::adapter_invalid,
          file_->path() + ": tensor \"" + tensor.name +
              "\" has no place; expected LoRA pairs of attention, feed-forward layers and output head "
              "alone (such as \"blk.0.attn_q.weight.lora_a\"), for layers that the model has");
    }
  }

 private:
  LoraMatrix matrix(const TensorInfo& tensor) {
    bound_.insert(&tensor);
    if (tensor.dims[2] != 1 || tensor.dims[3] != 1)
      throw Error(Code::adapter_invalid, file_->path() + ": tensor \"" + tensor.name + "\" has " +
                                             std::to_string(tensor.n_dims) + " dimensions; expected 2");
    const auto read = [file = file_, &tensor](void* dst) { file->read(tensor, 0, tensor.bytes, dst); };
    return {tensor.name, tensor.type, tensor.dims[1], tensor.dims[0], read};
  }

  const std::shared_ptr<const GgufFile> file_;
  AdapterSource& source_;
  const float alpha_;
  std::set<const TensorInfo*> bound_;
};

const kernels::QuantType* safetensors_type(const std::string& name) {
  using kernels::TypeId;
  for (const TypeId id : {TypeId::f32, TypeId::f16, TypeId::bf16}) {
    const kernels::QuantType* type = kernels::quant_type(uint32_t(id));
    if (name == type->name) return type;
  }
  return nullptr;
}

LoraMatrix safetensors_matrix(const std::shared_ptr<const platform::File>& file,
                              const SafetensorsEntry& entry) {
  const auto refuse = [&](const std::string& text) {
    throw Error(Code::adapter_invalid, file->path() + ": tensor \"" + entry.name + "\" " + text);
  };
  const kernels::QuantType* type = safetensors_type(entry.type);
  if (!type) {
    refuse("has type " + entry.type + "; expected F32, F16 or BF16");
    return {};
  }
  if (entry.rows < 1 || entry.cols < 1 || entry.rows > INT32_MAX || entry.cols > INT32_MAX)
    refuse("has an impossible shape");
  const uint64_t bytes = uint64_t(entry.rows) * uint64_t(entry.cols) * type->block_bytes;  // below 2^64
  if (entry.offset > file->size() || bytes > file->size() - entry.offset)
    refuse("ends after the file; is the download complete?");
  const auto read = [file, offset = entry.offset, bytes](void* dst) { file->read(offset, dst, bytes); };
  return {entry.name, type, entry.rows, entry.cols, read};
}

}  // namespace

AdapterSource gguf_adapter(std::shared_ptr<const GgufFile> file, const Model& model) {
  expect_text(*file, "general.type", "adapter");
  expect_text(*file, "adapter.type", "lora");
  expect_text(*file, "general.architecture", model.hyper().architecture);
  if (file->find("adapter.alora.invocation_tokens")) {
    throw Error(Code::adapter_invalid,
                file->path() +
                    ": adapter.alora.invocation_tokens is set; expected a LoRA adapter that acts on "
                    "every token");
  }
  AdapterSource source;
  source.path = file->path();
  source.check_unchanged = [file] { file->check_unchanged(); };
  GgufPairs pairs(file, source, float(file->get_float("adapter.lora.alpha")));
  for (int32_t l = 0; l < model.hyper().layers; ++l) {
    for (const TargetName& t : kTargets)
      pairs.add(l, t.target, "blk." + std::to_string(l) + "." + t.name + ".weight");
  }
  pairs.add(0, LoraTarget::head, "output.weight");
  pairs.check_all_bound();
  return source;
}

AdapterSource safetensors_adapter(const std::string& path, uint64_t file_bytes,
                                  const std::vector<SafetensorsPair>& pairs) {
  const auto file = std::make_shared<const platform::File>(platform::File::open(path));
  if (file->size() != file_bytes) {
    throw Error(Code::file_changed, path + ": has " + std::to_string(file->size()) + " bytes, and had " +
                                        std::to_string(file_bytes) + " before; load it again");
  }
  AdapterSource source;
  source.path = path;
  source.split_rope = true;
  source.check_unchanged = [file] { file->check_unchanged(); };
  for (const SafetensorsPair& pair : pairs) {
    source.pairs.push_back({pair.layer, pair.target, float(pair.scale), safetensors_matrix(file, pair.a),
                            safetensors_matrix(file, pair.b)});
  }
  return source;
}

}  // namespace inhouse
