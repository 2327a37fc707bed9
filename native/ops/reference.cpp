// The reference device: every op in plain C++ and float32, weights decoded from the file's own blocks row by
// row. Nothing here is tuned; the pool only shares rows out, so results do not depend on the thread count.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "kernels/quant/half.h"
#include "kernels/reference.h"
#include "native/core/error.h"
#include "native/core/thread_pool.h"
#include "native/ops/routing.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

namespace ref = kernels::reference;

// Of memory for activations.
constexpr std::align_val_t kAlignment{64};

// The blocks as they stand in the file: a copy, or a view of the mapped file.
class ReferenceWeight final : public Weight {
 public:
  const kernels::QuantType* type = nullptr;
  const uint8_t* data = nullptr;
  uint64_t row_bytes = 0;
  std::vector<uint8_t> copy;
  bool locked = false;

  ~ReferenceWeight() override {
    if (locked) platform::unlock_memory(copy.data(), copy.size());
  }
  void decode_row(int64_t row, float* out) const {
    type->decode(data + uint64_t(row) * row_bytes, out, cols);
  }
  const float* vector() const { return reinterpret_cast<const float*>(data); }
};

const ReferenceWeight& of(const Weight& weight) {
  return static_cast<const ReferenceWeight&>(weight);
}

// One head's numbers, rounded to the type already, as a file's bytes and back; returns the bytes of the row.
int64_t write_row(KvType type, const float* x, int64_t width, uint8_t* row) {
  if (type == KvType::f32) {
    std::memcpy(row, x, size_t(width) * 4);
    return width * 4;
  }
  if (type == KvType::f16) {
    for (int64_t i = 0; i < width; ++i) {
      const uint16_t half = kernels::float_to_half(x[i]);
      std::memcpy(row + i * 2, &half, 2);
    }
    return width * 2;
  }
  const int64_t block = type == KvType::q8_0 ? sizeof(kernels::BlockQ8_0) : sizeof(kernels::BlockQ4_0);
  const auto encode = type == KvType::q8_0 ? kernels::encode_q8_0 : kernels::encode_q4_0;
  int64_t at = 0;
  for (int64_t i = 0; i < width; i += 32, at += block) {
    float padded[32] = {};
    std::copy_n(x + i, std::min<int64_t>(32, width - i), padded);
    alignas(4) uint8_t bytes[sizeof(kernels::BlockQ8_0)];
    encode(padded, bytes, 32);  // what was decoded is encoded as it was
    std::memcpy(row + at, bytes, size_t(block));
  }
  return at;
}
int64_t read_row(KvType type, const uint8_t* row, int64_t width, float* x) {
  if (type == KvType::f32) {
    std::memcpy(x, row, size_t(width) * 4);
    return width * 4;
  }
  if (type == KvType::f16) {
    for (int64_t i = 0; i < width; ++i) {
      uint16_t half;
      std::memcpy(&half, row + i * 2, 2);
      x[i] = kernels::half_to_float(half);
    }
    return width * 2;
  }
  const int64_t block = type == KvType::q8_0 ? sizeof(kernels::BlockQ8_0) : sizeof(kernels::BlockQ4_0);
  const auto decode = type == KvType::q8_0 ? kernels::decode_q8_0 : kernels::decode_q4_0;
  int64_t at = 0;
  for (int64_t i = 0; i < width; i += 32, at += block) {
    alignas(4) uint8_t bytes[sizeof(kernels::BlockQ8_0)];
    std::memcpy(bytes, row + at, size_t(block));
    float padded[32];
    decode(bytes, padded, 32);
    std::copy_n(padded, std::min<int64_t>(32, width - i), x + i);
  }
  return at;
}

// Keys and values are kept as float32, already rounded to the cache's type: [layer][block][token][head][dim].
class ReferenceKvPool final : public KvPool {
 public:
  float* keys = nullptr;
  float* values = nullptr;
  ~ReferenceKvPool() override {
    std::free(keys);
    std::free(values);
  }
  float* key(int32_t layer, int32_t block, int32_t token, int32_t head) const {
    return keys + index(layer, block, token, head) * spec.head_dim_k;
  }
  float* value(int32_t layer, int32_t block, int32_t token, int32_t head) const {
    return values + index(layer, block, token, head) * spec.head_dim_v;
  }
  void export_block(int32_t block, uint8_t* out) const override {
    for (int32_t layer = 0; layer < spec.layers; ++layer) {
      for (int32_t i = 0; i < kKvBlockTokens * spec.kv_heads; ++i)
        out += write_row(spec.type_k, key(layer, block, 0, i), spec.head_dim_k, out);
      for (int32_t i = 0; i < kKvBlockTokens * spec.kv_heads; ++i)
        out += write_row(spec.type_v, value(layer, block, 0, i), spec.head_dim_v, out);
    }
  }
  void import_block(int32_t block, const uint8_t* in) override {
    for (int32_t layer = 0; layer < spec.layers; ++layer) {
      for (int32_t i = 0; i < kKvBlockTokens * spec.kv_heads; ++i)
        in += read_row(spec.type_k, in, spec.head_dim_k, key(layer, block, 0, i));
      for (int32_t i = 0; i < kKvBlockTokens * spec.kv_heads; ++i)
        in += read_row(spec.type_v, in, spec.head_dim_v, value(layer, block, 0, i));
    }
  }

 private:
  int64_t index(int32_t layer, int32_t block, int32_t token, int32_t head) const {
    return ((int64_t(layer) * blocks + block) * kKvBlockTokens + token) * spec.kv_heads + head;
  }
};

// out [width] = x rounded to the cache's type.
void round_to(KvType type, const float* x, int64_t width, float* out) {
  switch (type) {
    case KvType::f32:
      std::copy_n(x, width, out);
      break;
    case KvType::f16:
      for (int64_t i = 0; i < width; ++i) out[i] = kernels::half_to_float(kernels::float_to_half(x[i]));
      break;
    case KvType::q8_0:
    case KvType::q4_0:
      for (int64_t i = 0; i < width; i += 32) {
        // A head size that is no multiple of 32 ends in a block filled up with zeros.
        float padded[32] = {};
        const int64_t n = std::min<int64_t>(32, width - i);
        std::copy_n(x + i, n, padded);
        if (type == KvType::q8_0) {
          kernels::BlockQ8_0 block;
          kernels::encode_q8_0(padded, &block, 32);
          kernels::decode_q8_0(&block, padded, 32);
        } else {
          kernels::BlockQ4_0 block;
          kernels::encode_q4_0(padded, &block, 32);
          kernels::decode_q4_0(&block, padded, 32);
        }
        std::copy_n(padded, n, out + i);
      }
      break;
  }
}

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(const CpuOptions& options)
      : options_(options), threads_(options.threads > 0 ? options.threads : ThreadPool::available()) {}

  const char* name() const override { return "reference"; }
  std::string description() const override {
    return "reference (plain C++, float32), " + std::to_string(threads_) + " threads";
  }
  std::string layout() const override {
    return std::string("reference") + (options_.repack ? "" : ",mapped") +
           (options_.lock_memory ? ",locked" : "");
  }

  std::string arithmetic(bool) const override { return "reference"; }

  uint64_t available_memory() const override { return platform::memory_info().available; }

  float* allocate(uint64_t floats) override {
    const uint64_t bytes = (std::max<uint64_t>(floats, 1) * sizeof(float) + 63) / 64 * 64;
    void* memory = ::operator new(bytes, kAlignment);
    std::memset(memory, 0, bytes);
    return static_cast<float*>(memory);
  }
  void release(float* memory) override { ::operator delete(memory, kAlignment); }

  std::unique_ptr<Weight> load(const GgufFile& file, const TensorInfo& tensor, WeightUse use,
                               const LoadControl& control) override {
    control.check();
    auto weight = std::make_unique<ReferenceWeight>();
    weight->rows = tensor.dims[1];
    weight->stack = tensor.dims[2];
    weight->cols = tensor.dims[0];
    weight->type = tensor.type;
    weight->row_bytes = uint64_t(tensor.dims[0]) / tensor.type->block_elements * tensor.type->block_bytes;
    if (use != WeightUse::vector && !options_.repack) {
      weight->mapping = file.map(tensor.part);
      if (options_.lock_memory) weight->mapping->lock();
      weight->data = weight->mapping->data() + tensor.offset;
      control.report(tensor.bytes);
      return weight;
    }
    weight->copy.resize(tensor.bytes);
    constexpr uint64_t kStep = 8 << 20;
    for (uint64_t at = 0; at < tensor.bytes; at += kStep) {
      control.check();
      const uint64_t count = std::min(kStep, tensor.bytes - at);
      file.read(tensor, at, count, weight->copy.data() + at);
      control.report(count);
    }
    if (use == WeightUse::vector) {
      std::vector<uint8_t> decoded(size_t(tensor.dims[0]) * sizeof(float));
      tensor.type->decode(weight->copy.data(), reinterpret_cast<float*>(decoded.data()), tensor.dims[0]);
      weight->copy = std::move(decoded);
    }
    weight->data = weight->copy.data();
    weight->bytes = weight->copy.size();
    if (options_.lock_memory) {
      platform::lock_memory(weight->copy.data(), weight->copy.size());
      weight->locked = true;
    }
    return weight;
  }

  std::unique_ptr<KvPool> make_kv_pool(const KvGroupSpec& spec, int32_t blocks) override {
    auto pool = std::make_unique<ReferenceKvPool>();
    pool->spec = spec;
    pool->blocks = blocks;
    // Four factors below 2^31: checked in floating point first, so that no product can wrap.
    const double estimate = double(spec.layers) * blocks * kKvBlockTokens * spec.kv_heads *
                            (double(spec.head_dim_k) + spec.head_dim_v) * sizeof(float);
    if (estimate > 1e15) throw std::bad_alloc();
    const uint64_t tokens =
        uint64_t(spec.layers) * uint64_t(blocks) * kKvBlockTokens * uint64_t(spec.kv_heads);
    pool->keys = static_cast<float*>(std::calloc(tokens * uint64_t(spec.head_dim_k), sizeof(float)));
    pool->values = static_cast<float*>(std::calloc(tokens * uint64_t(spec.head_dim_v), sizeof(float)));
    if (!pool->keys || !pool->values) throw std::bad_alloc();
    pool->bytes = tokens * uint64_t(spec.head_dim_k + spec.head_dim_v) * sizeof(float);
    return pool;
  }

  void embed(const Weight& table, std::span<const int32_t> tokens, float scale, float* out) override {
    const int64_t width = table.cols;
    for (size_t r = 0; r < tokens.size(); ++r) {
      float* row = out + int64_t(r) * width;
      of(table).decode_row(tokens[r], row);
      if (scale != 1.0f) {
        for (int64_t i = 0; i < width; ++i) row[i] *= scale;
      }
    }
  }

  void rms_norm(const float* x, const Weight& gain, float eps, int64_t rows, float* out) override {
    const int64_t width = gain.cols;
    for (int64_t r = 0; r < rows; ++r)
      ref::rms_norm(x + r * width, of(gain).vector(), eps, width, out + r * width);
  }

  void linear(const float* x, int64_t rows, std::span<const Projection> outs, Place) override {
    for (const Projection& p : outs) product(x, rows, p, 0);
  }

  void rope_table(std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
                  float* table) override {
    const int64_t half = int64_t(inverse_frequencies.size());
    for (size_t r = 0; r < positions.size(); ++r) {
      ref::rope_table(positions[r], inverse_frequencies.data(), half, table + int64_t(r) * 2 * half);
    }
  }

  void rope(float* x, const float* table, int64_t rows, int32_t heads, int32_t head_dim, int32_t dims,
            RopeStyle style) override {
    for (int64_t r = 0; r < rows; ++r) {
      for (int32_t h = 0; h < heads; ++h) {
        ref::rope(x + (r * heads + h) * head_dim, table + r * dims, dims / 2,
                  style == RopeStyle::interleaved);
      }
    }
  }

  void kv_store(KvPool& pool, int32_t layer, int32_t group, const float* k, const float* v,
                const Batch& batch) override {
    auto& cache = static_cast<ReferenceKvPool&>(pool);
    const KvGroupSpec& spec = pool.spec;
    for (const SequenceSlice& slice : batch.slices) {
      for (int32_t i = 0; i < slice.count; ++i) {
        const int32_t position = slice.position + i;
        const int32_t block = slice.tables[group][position / kKvBlockTokens];
        for (int32_t h = 0; h < spec.kv_heads; ++h) {
          const int64_t head = int64_t(slice.row + i) * spec.kv_heads + h;
          round_to(spec.type_k, k + head * spec.head_dim_k, spec.head_dim_k,
                   cache.key(layer, block, position % kKvBlockTokens, h));
          round_to(spec.type_v, v + head * spec.head_dim_v, spec.head_dim_v,
                   cache.value(layer, block, position % kKvBlockTokens, h));
        }
      }
    }
  }

  void attention(const KvPool& pool, int32_t layer, int32_t group, const float* q, const Batch& batch,
                 const AttentionParams& params, float* out) override {
    for (const SequenceSlice& slice : batch.slices) {
      const int64_t items = int64_t(slice.count) * params.heads;
      scratch_.resize(size_t(threads_) * size_t(slice.position + slice.count));
      ThreadPool::shared().run(threads_, items, [&](int64_t item, int32_t worker) {
        float* scores = scratch_.data() + int64_t(worker) * (slice.position + slice.count);
        attend(static_cast<const ReferenceKvPool&>(pool), layer, slice.tables[group], slice,
               int32_t(item / params.heads), int32_t(item % params.heads), q, params, scores, out);
      });
    }
  }

  void gated(Activation act, const float* gate, const float* up, int64_t count, float* out) override {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = (act == Activation::silu ? ref::silu(gate[i]) : ref::gelu_tanh(gate[i])) * up[i];
    }
  }
  void experts(const float* x, const float* logits, int64_t rows, const Experts& e,
               const ExpertParams& params, Activation act, float* out) override {
    const int64_t width = e.down->rows, ffn = e.gate->rows;
    routing_.begin(rows, params);
    for (int64_t r = 0; r < rows; ++r) routing_.choose(r, logits + r * params.count);
    routing_.sort();
    gather(x, routing_.sources(), width, e.down_rows);
    for (const RowGroup& g : routing_.groups()) {
      const int64_t count = g.end - g.begin;
      float* in_out = e.down_rows + g.begin * width;  // the rows of x make room for the results
      float* gate = e.gate_rows + g.begin * ffn;
      float* up = e.up_rows + g.begin * ffn;
      product(in_out, count, {e.gate, nullptr, gate}, g.matrix);
      product(in_out, count, {e.up, nullptr, up}, g.matrix);
      gated(act, gate, up, count * ffn, gate);
      product(gate, count, {e.down, nullptr, in_out}, g.matrix);
    }
    std::fill_n(out, rows * width, 0.0f);
    for (int64_t i = 0; i < rows * params.used; ++i) {
      const float* part = e.down_rows + routing_.places()[size_t(i)] * width;
      float* sum = out + i / params.used * width;
      for (int64_t c = 0; c < width; ++c) sum[c] += routing_.weights()[size_t(i)] * part[c];
    }
  }
  void add(float* x, const float* y, int64_t count) override {
    for (int64_t i = 0; i < count; ++i) x[i] += y[i];
  }
  void add_scaled(float* x, const float* y, float scale, int64_t count) override {
    for (int64_t i = 0; i < count; ++i) x[i] += scale * y[i];
  }
  void gather(const float* x, std::span<const int32_t> rows, int64_t width, float* out) override {
    for (size_t r = 0; r < rows.size(); ++r)
      std::copy_n(x + rows[r] * width, width, out + int64_t(r) * width);
  }
  void softcap(float* x, int64_t count, float cap) override {
    for (int64_t i = 0; i < count; ++i) x[i] = ref::softcap(x[i], cap);
  }

  void begin_step() override { ThreadPool::shared().begin_step(threads_); }
  void end_step() override { ThreadPool::shared().end_step(); }
  void synchronize() override {}
  std::span<const float> read(const float* memory, size_t count) override { return {memory, count}; }

 private:
  // p.out = x [rows, cols] times one matrix of the weight's stack.
  void product(const float* x, int64_t rows, const Projection& p, int64_t matrix) {
    const ReferenceWeight& weight = of(*p.weight);
    constexpr int64_t kRows = 4;  // of the weight, decoded once and used for every row of x
    const int64_t cols = weight.cols, chunks = (weight.rows + kRows - 1) / kRows;
    scratch_.resize(size_t(threads_) * size_t(kRows * cols));
    ThreadPool::shared().run(threads_, chunks, [&](int64_t chunk, int32_t worker) {
      float* decoded = scratch_.data() + int64_t(worker) * kRows * cols;
      const int64_t first = chunk * kRows, count = std::min(kRows, weight.rows - first);
      for (int64_t n = 0; n < count; ++n)
        weight.decode_row(matrix * weight.rows + first + n, decoded + n * cols);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < count; ++n) {
          const float bias = p.bias ? of(*p.bias).vector()[first + n] : 0.0f;
          p.out[r * weight.rows + first + n] = ref::dot(x + r * cols, decoded + n * cols, cols) + bias;
        }
      }
    });
  }

  // One (token, head): two passes over the visible keys. scores [position + 1] is scratch.
  static void attend(const ReferenceKvPool& cache, int32_t layer, const int32_t* table,
                     const SequenceSlice& slice, int32_t token, int32_t head, const float* q,
                     const AttentionParams& params, float* scores, float* out) {
    const KvGroupSpec& spec = cache.spec;
    const int32_t kv_head = head / (params.heads / spec.kv_heads);
    const int32_t position = slice.position + token;
    const int32_t first = spec.window > 0 ? std::max(0, position + 1 - spec.window) : 0;
    const int64_t row = int64_t(slice.row + token) * params.heads + head;
    for (int32_t p = first; p <= position; ++p) {
      const float* key = cache.key(layer, table[p / kKvBlockTokens], p % kKvBlockTokens, kv_head);
      float score = ref::dot(q + row * spec.head_dim_k, key, spec.head_dim_k) * params.scale;
      if (params.softcap > 0) score = ref::softcap(score, params.softcap);
      scores[p - first] = score;
    }
    ref::softmax(scores, position + 1 - first);
    float* result = out + row * spec.head_dim_v;
    std::fill_n(result, spec.head_dim_v, 0.0f);
    for (int32_t p = first; p <= position; ++p) {
      const float* value = cache.value(layer, table[p / kKvBlockTokens], p % kKvBlockTokens, kv_head);
      for (int32_t d = 0; d < spec.head_dim_v; ++d) result[d] += scores[p - first] * value[d];
    }
  }

  CpuOptions options_;
  int32_t threads_;
  std::vector<float> scratch_;
  Routing routing_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(const CpuOptions& options) {
  return std::make_unique<ReferenceBackend>(options);
}

}  // namespace inhouse
