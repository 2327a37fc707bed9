// A model: hyperparameters, weights bound to their places, and the backend that runs them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "native/io/gguf.h"
#include "native/model/hyperparameters.h"
#include "native/ops/backend.h"

namespace inhouse {

enum class Device : uint8_t { cpu, cuda, reference };

struct ModelOptions {
  std::shared_ptr<const GgufFile> file;  // open already, with its overrides; then the next two are not used
  std::string path;
  std::vector<std::string> overrides;  // "key=value" metadata overrides
  Device device = Device::cpu;
  CpuOptions cpu;
  CudaOptions cuda;
  // What the model runs on instead of its backend, given that: for profilers. May be empty.
  std::function<std::unique_ptr<Backend>(std::unique_ptr<Backend>)> wrap;
};

// One decoder block's weights; null where the architecture has none.
struct LayerWeights {
  const Weight* attention_norm = nullptr;
  const Weight* wq = nullptr;
  const Weight* wk = nullptr;
  const Weight* wv = nullptr;
  const Weight* bq = nullptr;
  const Weight* bk = nullptr;
  const Weight* bv = nullptr;
  const Weight* q_norm = nullptr;
  const Weight* k_norm = nullptr;
  const Weight* wo = nullptr;
  const Weight* attention_post_norm = nullptr;
  const Weight* ffn_norm = nullptr;
  const Weight* router = nullptr;  // then gate, up and down are stacks, a matrix for each expert
  const Weight* gate = nullptr;
  const Weight* up = nullptr;
  const Weight* down = nullptr;
  const Weight* ffn_post_norm = nullptr;
};

class WeightStore;  // the process-wide shared weights of one file in one layout

class Model {
 public:
  // Opens the file, checks and binds everything, and reads the weights (or shares those another model of the
  // same file in this process holds). Blocking; call it on a thread of its own. Errors: those of GgufFile and
  // Backend, unsupported_architecture, model_invalid, aborted.
  static std::unique_ptr<Model> load(const ModelOptions& options, const LoadControl& control);
  ~Model();

  const HyperParameters& hyper() const { return hyper_; }
  Backend& backend() const { return *backend_; }
  uint64_t parameters() const { return parameters_; }  // elements of all tensors
  // Whether the two are of one file.
  bool shares_weights(const Model& other) const { return store_ == other.store_; }
  uint64_t weight_bytes() const;  // memory the weights hold, shared or not
  // Two models whose K and V may be exchanged have equal ones, and no others by chance: of all metadata, the
  // list of tensors and some bytes of each; and of what computes them (Backend::arithmetic).
  uint64_t fingerprint() const { return fingerprint_; }
  const std::string& arithmetic() const { return arithmetic_; }
  // Throws file_changed where a mapped file became shorter or was written to, so that results are void.
  void check_file() const;
  const Weight* token_embedding = nullptr;
  const Weight* output_norm = nullptr;
  const Weight* output = nullptr;  // the token embedding itself where tied
  std::vector<LayerWeights> layers;

 private:
  Model() = default;
  HyperParameters hyper_;
  std::unique_ptr<Backend> backend_;
  std::shared_ptr<WeightStore> store_;
  uint64_t parameters_ = 0;
  uint64_t fingerprint_ = 0;
  std::string arithmetic_;
};

}  // namespace inhouse
