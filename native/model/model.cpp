#include "native/model/model.h"

#include <set>

#include "native/core/error.h"
#include "native/model/fingerprint.h"
#include "native/model/weight_store.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

std::unique_ptr<Backend> make_backend(const ModelOptions& options) {
  switch (options.device) {
    case Device::cpu:
      return make_cpu_backend(options.cpu);
    case Device::cuda:
      return make_cuda_backend(options.cuda);
    case Device::reference:
      return make_reference_backend(options.cpu);
  }
  throw Error(Code::device_unavailable, "unknown device");
}

// Finds tensors by name, checks their shapes and collects what is to be read. Every tensor of the file must
// have a place, so that a model with parts this version does not know is refused and not run wrongly.
class Binder {
 public:
  explicit Binder(const GgufFile& file) : file_(file) {}

  const TensorInfo* find(const std::string& name) {
    const TensorInfo* tensor = file_.tensor(name);
    if (tensor) bound_.insert(name);
    return tensor;
  }

  void vector(const std::string& name, int64_t width, const Weight** slot) {
    const TensorInfo& tensor = expect(name, {width, 1, 1, 1});
    requests_.push_back({&tensor, WeightUse::vector, slot});
  }
  void vector_if_present(const std::string& name, int64_t width, const Weight** slot) {
    if (file_.tensor(name)) vector(name, width, slot);
  }
  void matrix(const std::string& name, int64_t cols, int64_t rows, WeightUse use, const Weight** slot) {
    matrices(name, cols, rows, 1, use, slot);
  }
  void stack(const std::string& name, int64_t cols, int64_t rows, int64_t count, const Weight** slot) {
    matrices(name, cols, rows, count, WeightUse::matrix, slot);
  }

  void check_all_bound() const {
    for (const TensorInfo& tensor : file_.tensors()) {
      if (!bound_.count(tensor.name)) {
        throw Error(Code::model_invalid, "tensor \"" + tensor.name + "\" has no place in architecture \"" +
                                             file_.get_string("general.architecture") +
                                             "\"; the file is of a variant that this version does not run");
      }
    }
  }

  const std::vector<WeightRequest>& requests() const { return requests_; }

 private:
  void matrices(const std::string& name, int64_t cols, int64_t rows, int64_t count, WeightUse use,
                const Weight** slot) {
    const TensorInfo& tensor = expect(name, {cols, rows, count, 1});
    requests_.push_back({&tensor, use, slot});
  }
  const TensorInfo& expect(const std::string& name, const int64_t (&dims)[4]) {
    const TensorInfo* tensor = find(name);
    if (!tensor) throw Error(Code::model_invalid, "tensor \"" + name + "\" is missing");
    for (int d = 0; d < 4; ++d) {
      if (tensor->dims[d] == dims[d]) continue;
      throw Error(Code::model_invalid, "tensor \"" + name + "\" has shape " + shape(tensor->dims) +
                                           "; expected " + shape(dims) + " by the hyperparameters");
    }
    return *tensor;
  }

  static std::string shape(const int64_t (&dims)[4]) {
    int n = 4;
    while (n > 1 && dims[n - 1] == 1) --n;
    std::string text = "[";
    for (int d = 0; d < n; ++d) text += (d ? ", " : "") + std::to_string(dims[d]);
    return text + "]";
  }

  const GgufFile& file_;
  std::set<std::string> bound_;
  std::vector<WeightRequest> requests_;
};

void bind_layer(Binder& binder, const HyperParameters& h, int32_t index, LayerWeights& layer) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const auto name = [&](const char* part) { return prefix + part; };
  const int64_t q_width = int64_t(h.heads) * h.head_dim;
  const int64_t k_width = int64_t(h.kv_heads) * h.head_dim;
  const int64_t v_width = int64_t(h.kv_heads) * h.head_dim_v;
  const WeightUse m = WeightUse::matrix;
  binder.vector(name("attn_norm.weight"), h.width, &layer.attention_norm);
  binder.matrix(name("attn_q.weight"), h.width, q_width, m, &layer.wq);
  binder.matrix(name("attn_k.weight"), h.width, k_width, m, &layer.wk);
  binder.matrix(name("attn_v.weight"), h.width, v_width, m, &layer.wv);
  if (h.qkv_bias) {
    binder.vector(name("attn_q.bias"), q_width, &layer.bq);
    binder.vector(name("attn_k.bias"), k_width, &layer.bk);
    binder.vector(name("attn_v.bias"), v_width, &layer.bv);
  } else {
    binder.vector_if_present(name("attn_q.bias"), q_width, &layer.bq);
    binder.vector_if_present(name("attn_k.bias"), k_width, &layer.bk);
    binder.vector_if_present(name("attn_v.bias"), v_width, &layer.bv);
  }
  if (h.qk_norm) {
    binder.vector(name("attn_q_norm.weight"), h.head_dim, &layer.q_norm);
    binder.vector(name("attn_k_norm.weight"), h.head_dim, &layer.k_norm);
  }
  binder.matrix(name("attn_output.weight"), int64_t(h.heads) * h.head_dim_v, h.width, m, &layer.wo);
  binder.vector(name("ffn_norm.weight"), h.width, &layer.ffn_norm);
  if (h.experts.count > 0) {
    binder.matrix(name("ffn_gate_inp.weight"), h.width, h.experts.count, m, &layer.router);
    binder.stack(name("ffn_gate_exps.weight"), h.width, h.ffn_width, h.experts.count, &layer.gate);
    binder.stack(name("ffn_up_exps.weight"), h.width, h.ffn_width, h.experts.count, &layer.up);
    binder.stack(name("ffn_down_exps.weight"), h.ffn_width, h.width, h.experts.count, &layer.down);
  } else {
    binder.matrix(name("ffn_gate.weight"), h.width, h.ffn_width, m, &layer.gate);
    binder.matrix(name("ffn_up.weight"), h.width, h.ffn_width, m, &layer.up);
    binder.matrix(name("ffn_down.weight"), h.ffn_width, h.width, m, &layer.down);
  }
  if (h.post_norms) {
    binder.vector(name("post_attention_norm.weight"), h.width, &layer.attention_post_norm);
    binder.vector(name("post_ffw_norm.weight"), h.width, &layer.ffn_post_norm);
  }
}

// Llama 3.1 and later keep the divisors of their rope frequencies in a tensor.
std::vector<float> read_rope_factors(Binder& binder, const GgufFile& file, int32_t rope_dims) {
  const TensorInfo* tensor = binder.find("rope_freqs.weight");
  if (!tensor) return {};
  if (tensor->elements() != rope_dims / 2 || tensor->dims[0] != rope_dims / 2) {
    throw Error(Code::model_invalid, "tensor \"rope_freqs.weight\" has " +
                                         std::to_string(tensor->elements()) + " elements; expected " +
                                         std::to_string(rope_dims / 2));
  }
  std::vector<uint8_t> blocks(tensor->bytes);
  file.read(*tensor, 0, tensor->bytes, blocks.data());
  std::vector<float> factors(size_t(tensor->elements()));
  tensor->type->decode(blocks.data(), factors.data(), tensor->elements());
  for (float factor : factors) {
    if (!(factor > 0))
      throw Error(Code::model_invalid, "tensor \"rope_freqs.weight\" holds a factor that is not positive");
  }
  return factors;
}

std::shared_ptr<const GgufFile> open_file(const ModelOptions& options) {
  std::shared_ptr<GgufFile> file = GgufFile::open(options.path);
  for (const std::string& assignment : options.overrides) file->override_metadata(assignment);
  return file;
}

}  // namespace

std::unique_ptr<Model> Model::load(const ModelOptions& options, const LoadControl& control) {
  const std::shared_ptr<const GgufFile> file = options.file ? options.file : open_file(options);
  std::unique_ptr<Model> model(new Model);
  HyperParameters& hyper = model->hyper_;
  hyper = read_hyperparameters(*file);
  model->backend_ = make_backend(options);
  if (options.wrap) model->backend_ = options.wrap(std::move(model->backend_));

  Binder binder(*file);
  const TensorInfo* embedding = file->tensor("token_embd.weight");
  if (!embedding) throw Error(Code::model_invalid, "tensor \"token_embd.weight\" is missing");
  if (embedding->dims[1] > INT32_MAX)
    throw Error(Code::model_invalid, "tensor \"token_embd.weight\" is too tall");
  hyper.vocabulary = int32_t(embedding->dims[1]);
  const bool tied = !file->tensor("output.weight");
  binder.matrix("token_embd.weight", hyper.width, hyper.vocabulary,
                tied ? WeightUse::matrix_and_lookup : WeightUse::lookup, &model->token_embedding);
  model->layers.resize(size_t(hyper.layers));
  for (int32_t l = 0; l < hyper.layers; ++l) bind_layer(binder, hyper, l, model->layers[size_t(l)]);
  binder.vector("output_norm.weight", hyper.width, &model->output_norm);
  if (!tied) binder.matrix("output.weight", hyper.width, hyper.vocabulary, WeightUse::matrix, &model->output);
  hyper.rope_factors = read_rope_factors(binder, *file, hyper.rope_dims);
  binder.check_all_bound();

  model->store_ = WeightStore::shared(*file, model->backend_->layout());
  const bool copied = options.device == Device::cuda || options.cpu.repack;
  const uint64_t available = copied ? model->backend_->available_memory() : 0;
  const char* advice = options.device == Device::cpu
                           ? "use a smaller quantization, or repack: false to compute from the mapped file"
                           : "use a smaller quantization";
  model->store_->load(*file, *model->backend_, binder.requests(), available, advice, control);
  if (tied) model->output = model->token_embedding;
  bool bf16 = false;
  for (const TensorInfo& tensor : file->tensors()) {
    model->parameters_ += uint64_t(tensor.elements());
    bf16 |= tensor.type->id == kernels::TypeId::bf16 && tensor.n_dims > 1;
  }
  model->fingerprint_ = fingerprint_of(*file);
  model->arithmetic_ = model->backend_->arithmetic(bf16);
  return model;
}

// On a thread of its own (see JobGroup::retire): trimming walks the whole heap of the process.
Model::~Model() {
  store_.reset();
  backend_.reset();
  platform::trim_memory();
}

uint64_t Model::weight_bytes() const {
  return store_->bytes();
}

void Model::check_file() const {
  store_->check_mappings();
}

}  // namespace inhouse
