#include "native/model/adapter.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>

#include "native/core/checksum.h"
#include "native/core/error.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

struct Shape {
  int64_t in, out;
};

Shape layer_shape(const HyperParameters& h, LoraTarget target) {
  switch (target) {
    case LoraTarget::q:
      return {h.width, int64_t(h.heads) * h.head_dim};
    case LoraTarget::k:
      return {h.width, int64_t(h.kv_heads) * h.head_dim};
    case LoraTarget::v:
      return {h.width, int64_t(h.kv_heads) * h.head_dim_v};
    case LoraTarget::output:
      return {int64_t(h.heads) * h.head_dim_v, h.width};
    case LoraTarget::gate:
    case LoraTarget::up:
      return {h.width, h.ffn_width};
    case LoraTarget::down:
      return {h.ffn_width, h.width};
    case LoraTarget::head:
      break;
  }
  return {h.width, h.vocabulary};
}

uint64_t bytes_of(const kernels::QuantType& type, int64_t rows, int64_t cols) {
  return uint64_t(rows) * (uint64_t(cols) / type.block_elements) * type.block_bytes;
}

std::string shape_text(int64_t rows, int64_t cols) {
  std::string text = "[";
  text += std::to_string(rows) + ", " + std::to_string(cols) + "]";
  return text;
}

[[noreturn]] void refuse(const AdapterSource& source, const LoraMatrix& matrix, const std::string& text) {
  throw Error(Code::adapter_invalid, source.path + ": tensor \"" + matrix.name + "\" " + text);
}

void check_shape(const AdapterSource& source, const LoraMatrix& matrix, int64_t rows, int64_t cols) {
  if (matrix.rows == rows && matrix.cols == cols) return;
  refuse(source, matrix,
         "has shape " + shape_text(matrix.rows, matrix.cols) + "; expected " + shape_text(rows, cols) +
             " for this model");
}

void check_pair(const AdapterSource& source, const LoraPairSource& pair, const HyperParameters& h) {
  if (pair.target != LoraTarget::head && (pair.layer < 0 || pair.layer >= h.layers)) {
    refuse(source, pair.a,
           "is for layer " + std::to_string(pair.layer) + "; expected one of the model's " +
               std::to_string(h.layers) + ", counted from 0");
  }
  const bool ffn = pair.target >= LoraTarget::gate && pair.target <= LoraTarget::down;
  if (ffn && h.experts.count > 0)
    refuse(
        source, pair.a,
        "is for a feed-forward layer, but the model's are mixtures of experts, which adapters do not reach");
  const int64_t rank = pair.a.rows;
  if (rank < 1 || rank > kMaxLoraRank) {
    refuse(source, pair.a,
           "has rank " + std::to_string(rank) + "; expected 1 to " + std::to_string(kMaxLoraRank));
  }
  const Shape shape = layer_shape(h, pair.target);
  check_shape(source, pair.a, rank, shape.in);
  check_shape(source, pair.b, shape.out, rank);
  for (const LoraMatrix* m : {&pair.a, &pair.b}) {
    if (m->cols % m->type->block_elements != 0)
      refuse(source, *m, std::string("has rows that are no whole number of blocks of ") + m->type->name);
  }
  if (!std::isfinite(pair.scale))
    refuse(source, pair.a, "has a scale (alpha over rank) that is not a finite number");
}

// A matrix in memory as a backend reads it.
class MemoryMapping final : public Mapping {
 public:
  explicit MemoryMapping(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {}
  ~MemoryMapping() override {
    if (locked_) platform::unlock_memory(bytes_.data(), bytes_.size());
  }
  const uint8_t* data() const override { return bytes_.data(); }
  uint64_t size() const override { return bytes_.size(); }
  void check() const override {}
  void lock() override {
    const std::lock_guard guard(mutex_);
    if (!locked_) platform::lock_memory(bytes_.data(), bytes_.size());
    locked_ = true;
  }

 private:
  const std::vector<uint8_t> bytes_;
  std::mutex mutex_;
  bool locked_ = false;
};

class MatrixFile final : public GgufFile {
 public:
  MatrixFile(const LoraMatrix& matrix, const kernels::QuantType& type, std::vector<uint8_t> bytes)
      : mapping_(std::make_shared<MemoryMapping>(std::move(bytes))) {
    tensors_.push_back({matrix.name, &type, 2, {matrix.cols, matrix.rows, 1, 1}, 0, 0, mapping_->size()});
  }
  void read(const TensorInfo&, uint64_t offset, uint64_t count, void* dst) const override {
    if (offset > mapping_->size() || count > mapping_->size() - offset)
      throw Error(Code::internal, "read of tensor \"" + tensors_[0].name + "\" out of its bounds");
    std::memcpy(dst, mapping_->data() + offset, count);
  }
  std::shared_ptr<Mapping> map(uint32_t) const override { return mapping_; }
  void check_unchanged() const override {}
  std::string identity() const override { return {}; }

 private:
  std::shared_ptr<MemoryMapping> mapping_;
};

bool is_dense(const kernels::QuantType& type) {
  return type.block_elements == 1;
}

uint64_t loaded_bytes(const LoraMatrix& m) {
  return uint64_t(m.rows) * uint64_t(m.cols) * (is_dense(*m.type) ? m.type->block_bytes : sizeof(float));
}

// Rows of each head from halves (x_0 … x_n, y_0 … y_n) to pairs (x_0, y_0, x_1, …), as converters to GGUF
// bring Q and K for interleaved rope.
std::vector<uint8_t> interleave(const std::vector<uint8_t>& rows, int64_t head_dim, uint64_t row_bytes) {
  std::vector<uint8_t> out(rows.size());
  const int64_t count = int64_t(rows.size() / row_bytes), half = head_dim / 2;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t head = r / head_dim, d = r % head_dim;
    const int64_t from = head * head_dim + d % 2 * half + d / 2;
    std::memcpy(out.data() + uint64_t(r) * row_bytes, rows.data() + uint64_t(from) * row_bytes, row_bytes);
  }
  return out;
}

// head_dim: of the heads whose rows are to be interleaved; 0: none. Takes what it reads up into
// `fingerprint`.
std::unique_ptr<Weight> load_matrix(Backend& backend, const LoraMatrix& matrix, int64_t head_dim,
                                    const LoadControl& control, uint64_t& fingerprint) {
  control.check();
  std::vector<uint8_t> bytes(bytes_of(*matrix.type, matrix.rows, matrix.cols));
  matrix.read(bytes.data());
  fingerprint = checksum64(bytes.data(), bytes.size(), fingerprint);
  fingerprint = text_checksum64(matrix.type->name, fingerprint);
  const kernels::QuantType* type = matrix.type;
  if (!is_dense(*type)) {
    std::vector<uint8_t> floats(loaded_bytes(matrix));
    type->decode(bytes.data(), reinterpret_cast<float*>(floats.data()), matrix.rows * matrix.cols);
    bytes = std::move(floats);
    type = kernels::quant_type(uint32_t(kernels::TypeId::f32));
  }
  if (head_dim > 0) bytes = interleave(bytes, head_dim, bytes_of(*type, 1, matrix.cols));
  const MatrixFile file(matrix, *type, std::move(bytes));
  return backend.load(file, file.tensors()[0], WeightUse::matrix, control);
}

}  // namespace

std::shared_ptr<const Adapter> Adapter::load(const std::shared_ptr<const Model>& model,
                                             const AdapterSource& source, const LoadControl& control) {
  static std::atomic<uint64_t> next_id{1};
  const HyperParameters& h = model->hyper();
  if (source.pairs.empty())
    throw Error(Code::adapter_invalid, source.path + ": holds no LoRA matrices; expected at least one pair");
  uint64_t total = 0;
  for (const LoraPairSource& pair : source.pairs) {
    check_pair(source, pair, h);
    total += loaded_bytes(pair.a) + loaded_bytes(pair.b);
  }
  const uint64_t available = model->backend().available_memory();
  if (available > 0 && total > available) {
    throw Error(Code::out_of_memory, "the adapter " + source.path + " takes " + megabytes(total) + ", with " +
                                         megabytes(available) + " available");
  }
  std::shared_ptr<Adapter> adapter(new Adapter);
  adapter->id_ = next_id++;
  adapter->model_ = model;
  adapter->layers_.resize(size_t(h.layers));
  const bool interleaves = source.split_rope && h.rope_style == RopeStyle::interleaved;
  for (const LoraPairSource& from : source.pairs) {
    LoraPair& pair = adapter->slot(from.layer, from.target);
    if (pair.a) refuse(source, from.a, "is for a layer that has its pair already; expected one");
    const bool rotated = from.target == LoraTarget::q || from.target == LoraTarget::k;
    const uint32_t place[] = {uint32_t(from.layer), uint32_t(from.target), uint32_t(from.a.rows),
                              std::bit_cast<uint32_t>(from.scale), uint32_t(source.split_rope)};
    uint64_t& sum = adapter->fingerprint_;
    sum = checksum64(place, sizeof place, sum);
    pair.a = load_matrix(model->backend(), from.a, 0, control, sum);
    pair.b = load_matrix(model->backend(), from.b, interleaves && rotated ? h.head_dim : 0, control, sum);
    pair.scale = from.scale;
    adapter->rank_ = std::max(adapter->rank_, int32_t(pair.a->rows));
  }
  adapter->bytes_ = total;
  if (source.check_unchanged) source.check_unchanged();
  return adapter;
}

bool Adapter::belongs_to(const std::shared_ptr<const Model>& model) const {
  // By owner, which no later model can share, as it could an address.
  return !model_.owner_before(model) && !model.owner_before(model_);
}

LoraPair& Adapter::slot(int32_t layer, LoraTarget target) {
  return target == LoraTarget::head ? head_ : layers_[size_t(layer)].pairs[size_t(target)];
}

std::span<const LoraPair> Adapter::pairs(int32_t layer, Place place) const {
  std::span<const LoraPair> found;
  const auto some = [&](LoraTarget first, size_t count) {
    return std::span(layers_[size_t(layer)].pairs).subspan(size_t(first), count);
  };
  switch (place) {
    case Place::attention_in:
      found = some(LoraTarget::q, 3);
      break;
    case Place::attention_out:
      found = some(LoraTarget::output, 1);
      break;
    case Place::ffn_in:
      found = some(LoraTarget::gate, 2);
      break;
    case Place::ffn_out:
      found = some(LoraTarget::down, 1);
      break;
    case Place::head:
      found = {&head_, 1};
      break;
    case Place::router:
      break;
  }
  const bool any = std::any_of(found.begin(), found.end(), [](const LoraPair& p) { return p.a != nullptr; });
  return any ? found : std::span<const LoraPair>{};
}

}  // namespace inhouse
