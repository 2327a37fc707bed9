// The SIMD device: the op table over the kernels of one instruction set and the process's thread pool.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <string>

#include "kernels/kernels.h"
#include "native/core/thread_pool.h"
#include "native/ops/cpu_attention.h"
#include "native/ops/cpu_kernels.h"
#include "native/ops/cpu_linear.h"
#include "native/ops/cpu_weight.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

// Numbers below which an elementwise op stays on the calling thread: about ten microseconds of work.
constexpr int64_t kInlineNumbers = 1 << 15;
constexpr int64_t kChunkNumbers = 1 << 14;

const CpuWeight& of(const Weight& weight) {
  return static_cast<const CpuWeight&>(weight);
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options)
      : options_(options),
        threads_(options.threads > 0 ? options.threads : ThreadPool::available()),
        kernels_(choose_kernels(options.instruction_set)),
        linear_(kernels_, threads_),
        attention_(kernels_, threads_) {}

  const char* name() const override { return "cpu"; }
  std::string description() const override {
    return std::string("cpu (") + kernels_.title + "), " + std::to_string(threads_) +
           (threads_ == 1 ? " thread" : " threads");
  }
  // One layout for all instruction sets.
  std::string layout() const override {
    return std::string("cpu") + (options_.repack ? "" : ",mapped") + (options_.lock_memory ? ",locked" : "");
  }

  std::string arithmetic(bool bf16) const override {
    const std::string name = kernels_.name;
    return name == "baseline" || (bf16 && name == "avx512bf16") ? "cpu " + name : "cpu";
  }

  uint64_t available_memory() const override { return platform::memory_info().available; }

  float* allocate(uint64_t floats) override {
    const uint64_t bytes = std::max<uint64_t>(floats, 1) * sizeof(float);
    void* memory = ::operator new(bytes, std::align_val_t(64), std::nothrow);
    if (!memory)
      throw Error(Code::out_of_memory,
                  "activations: the system has no " + std::to_string(bytes) + " bytes left");
    std::memset(memory, 0, bytes);
    return static_cast<float*>(memory);
  }
  void release(float* memory) override { ::operator delete(memory, std::align_val_t(64)); }

  std::unique_ptr<Weight> load(const GgufFile& file, const TensorInfo& tensor, WeightUse use,
                               const LoadControl& control) override {
    return load_cpu_weight(file, tensor, use, control, options_, threads_);
  }
  std::unique_ptr<KvPool> make_kv_pool(const KvGroupSpec& spec, int32_t blocks) override {
    return std::make_unique<CpuKvPool>(spec, blocks);
  }

  void embed(const Weight& table, std::span<const int32_t> tokens, float scale, float* out) override {
    const CpuWeight& weight = of(table);
    share(int64_t(tokens.size()), weight.cols * 4, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        float* row = out + r * weight.cols;
        weight.decode_row(tokens[size_t(r)], row);
        if (scale == 1.0f) continue;
        for (int64_t c = 0; c < weight.cols; ++c) row[c] *= scale;
      }
    });
  }
  void rms_norm(const float* x, const Weight& gain, float eps, int64_t rows, float* out) override {
    const int64_t cols = gain.cols;
    share(rows, cols, [&](int64_t begin, int64_t end) {
      kernels_.rms_norm(x + begin * cols, of(gain).vector(), eps, end - begin, cols, out + begin * cols);
    });
  }
  void linear(const float* x, int64_t rows, std::span<const Projection> outs, Place place) override {
    linear_.run(x, rows, outs, place);
  }
  void rope_table(std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
                  float* table) override {
    // Once per batch, in double: exact range reduction matters more than time.
    const size_t half = inverse_frequencies.size();
    for (const int32_t position : positions) {
      for (size_t i = 0; i < half; ++i) {
        const double angle = double(position) * double(inverse_frequencies[i]);
        table[i] = float(std::cos(angle));
        table[half + i] = float(std::sin(angle));
      }
      table += 2 * half;
    }
  }
  void rope(float* x, const float* table, int64_t rows, int32_t heads, int32_t head_dim, int32_t dims,
            RopeStyle style) override {
    const int64_t width = int64_t(heads) * head_dim;
    share(rows, width, [&](int64_t begin, int64_t end) {
      kernels_.rope(x + begin * width, table + begin * dims, end - begin, heads, head_dim, dims,
                    style == RopeStyle::split);
    });
  }
  void kv_store(KvPool& pool, int32_t layer, int32_t group, const float* k, const float* v,
                const Batch& batch) override {
    attention_.store(static_cast<CpuKvPool&>(pool), layer, group, k, v, batch);
  }
  void attention(const KvPool& pool, int32_t layer, int32_t group, const float* q, const Batch& batch,
                 const AttentionParams& params, float* out) override {
    attention_.run(static_cast<const CpuKvPool&>(pool), layer, group, q, batch, params, out);
  }
  void gated(Activation act, const float* gate, const float* up, int64_t count, float* out) override {
    const auto op = act == Activation::silu ? kernels_.silu : kernels_.gelu_tanh;
    share(count, 4,
          [&](int64_t begin, int64_t end) { op(gate + begin, up + begin, end - begin, out + begin); });
  }
  void experts(const float* x, const float* logits, int64_t rows, const Experts& e,
               const ExpertParams& params, Activation act, float* out) override {
    const int64_t width = e.down->rows, ffn = e.gate->rows, used = params.used, all = rows * used;
    routing_.begin(rows, params);
    share(rows, params.count * 8, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) routing_.choose(r, logits + r * params.count);
    });
    routing_.sort();
    const Projection gate_up[] = {{e.gate, nullptr, e.gate_rows}, {e.up, nullptr, e.up_rows}};
    if (of(*e.gate).packed && of(*e.up).packed) {
      linear_.run(x, rows, routing_.places(), routing_.groups(), gate_up, Place::ffn_in);
    } else {
      gather(x, routing_.sources(), width, e.down_rows);
      linear_.run(e.down_rows, all, {}, routing_.groups(), gate_up, Place::ffn_in);
    }
    gated(act, e.gate_rows, e.up_rows, all * ffn, e.gate_rows);
    const Projection down[] = {{e.down, nullptr, e.down_rows}};
    linear_.run(e.gate_rows, all, {}, routing_.groups(), down, Place::ffn_out);
    share(rows, used * width, [&](int64_t begin, int64_t end) {
      std::fill(out + begin * width, out + end * width, 0.0f);
      for (int64_t i = begin * used; i < end * used; ++i)
        kernels_.add_scaled(out + i / used * width, e.down_rows + routing_.places()[size_t(i)] * width,
                            routing_.weights()[size_t(i)], width);
    });
  }
  void add(float* x, const float* y, int64_t count) override {
    share(count, 1, [&](int64_t begin, int64_t end) { kernels_.add(x + begin, y + begin, end - begin); });
  }
  void add_scaled(float* x, const float* y, float scale, int64_t count) override {
    share(count, 1,
          [&](int64_t begin, int64_t end) { kernels_.add_scaled(x + begin, y + begin, scale, end - begin); });
  }
  void gather(const float* x, std::span<const int32_t> rows, int64_t width, float* out) override {
    for (size_t r = 0; r < rows.size(); ++r)
      std::copy_n(x + rows[r] * width, width, out + int64_t(r) * width);
  }
  void softcap(float* x, int64_t count, float cap) override {
    share(count, 4, [&](int64_t begin, int64_t end) { kernels_.softcap(x + begin, end - begin, cap); });
  }

  void begin_step() override { ThreadPool::shared().begin_step(threads_); }
  void end_step() override { ThreadPool::shared().end_step(); }
  void synchronize() override {}
  std::span<const float> read(const float* memory, size_t count) override { return {memory, count}; }

 private:
  // Calls work(begin, end) over [0, count), on several threads where it is worth it. cost: of one, in
  // numbers.
  template <class Work>
  void share(int64_t count, int64_t cost, Work&& work) {
    if (count * cost < kInlineNumbers || threads_ == 1) {
      work(0, count);
      return;
    }
    const int64_t chunk = std::max<int64_t>(1, kChunkNumbers / cost);
    ThreadPool::shared().run(threads_, (count + chunk - 1) / chunk,
                             [&](int64_t i, int32_t) { work(i * chunk, std::min(count, (i + 1) * chunk)); });
  }

  CpuOptions options_;
  int32_t threads_;
  const kernels::Kernels& kernels_;
  CpuLinear linear_;
  CpuAttention attention_;
  Routing routing_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace inhouse
