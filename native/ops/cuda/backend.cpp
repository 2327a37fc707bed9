// The CUDA device: the op table over the kernels of the image, on one GPU. Ops run asynchronously on one
// stream.
#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/args.h"
#include "native/core/error.h"
#include "native/ops/backend.h"
#include "native/ops/cuda/cache.h"
#include "native/ops/cuda/plan.h"
#include "native/ops/cuda/weight.h"

namespace inhouse {
namespace {

using namespace cuda;
using namespace kernels::cuda;

const CudaWeight& of(const Weight& weight) {
  return static_cast<const CudaWeight&>(weight);
}
Codebook codebook(const CudaWeight& weight) {
  Codebook book{weight.multiplier, weight.zero_point, {}};
  std::copy_n(weight.lookup, 4, book.lookup);
  return book;
}
template <class T>
uint64_t bytes_of(const std::vector<T>& values) {
  return values.size() * sizeof(T);
}

// The kernels by what they are made for; the numbers are those of kernels/cuda/list.h.
struct KernelTable {
  static constexpr int kProducts = 4;  // for 8, 16, 32 and 64 rows at a time
  std::array<std::array<Kernel, kProducts>, kCudaFormats> product;
  std::array<Kernel, kCudaFormats> embed;
  std::array<std::array<std::array<Kernel, std::size(kHeadDims)>, 2>, 2> attention;
  std::array<Kernel, std::size(kHeadDims)> combine_attention;
  std::array<Kernel, 2> store_k, store_v;
  Kernel rms_norm{"inhouse_rms_norm"}, convert{"inhouse_convert"}, rope_table{"inhouse_rope_table"},
      rope{"inhouse_rope"}, gated_silu{"inhouse_gated_silu"}, gated_gelu{"inhouse_gated_gelu"},
      add_scaled{"inhouse_add_scaled"}, softcap{"inhouse_softcap"}, gather{"inhouse_gather"},
      choose_experts{"inhouse_choose_experts"}, sort_by_expert{"inhouse_sort_by_expert"},
      combine_experts{"inhouse_combine_experts"};

  KernelTable() {
    const auto name = [](const char* base, std::initializer_list<int> numbers) {
      std::string whole = std::string("inhouse_").append(base);
      for (const int number : numbers) whole.append("_").append(std::to_string(number));
      return Kernel{whole};
    };
    for (int f = 0; f < kCudaFormats; ++f) {
      for (int p = 0; p < kProducts; ++p) product[size_t(f)][size_t(p)] = name("product", {f, 1 << p});
      embed[size_t(f)] = name("embed", {f});
    }
    for (size_t d = 0; d < std::size(kHeadDims); ++d) {
      for (int k = 0; k < 2; ++k)
        for (int v = 0; v < 2; ++v)
          attention[size_t(k)][size_t(v)][d] = name("attention", {k, v, kHeadDims[d]});
      combine_attention[d] = name("combine_attention", {kHeadDims[d]});
    }
    for (int t = 0; t < 2; ++t) {
      store_k[size_t(t)] = name("store_k", {t});
      store_v[size_t(t)] = name("store_v", {t});
    }
  }
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options) : device_(Device::open(options)) {}

  const char* name() const override { return "cuda"; }
  std::string description() const override { return "cuda (" + device_->name() + ")"; }
  std::string layout() const override { return device_->identity(); }
  std::string arithmetic(bool) const override { return "cuda sm_" + std::to_string(device_->capability()); }
  uint64_t available_memory() const override { return device_->free_bytes(); }

  float* allocate(uint64_t floats) override {
    Memory memory = device_->allocate(floats * sizeof(float), "activations");
    float* at = memory.as<float>();
    activations_.emplace(at, std::move(memory));
    return at;
  }
  void release(float* memory) override { activations_.erase(memory); }

  std::unique_ptr<Weight> load(const GgufFile& file, const TensorInfo& tensor, WeightUse use,
                               const LoadControl& control) override {
    return load_cuda_weight(*device_, file, tensor, use, control);
  }
  std::unique_ptr<KvPool> make_kv_pool(const KvGroupSpec& spec, int32_t blocks) override {
    if (std::max(spec.head_dim_k, spec.head_dim_v) > kHeadDims[std::size(kHeadDims) - 1])
      throw Error(Code::model_invalid, "device \"cuda\" has no attention for heads of " +
                                           std::to_string(std::max(spec.head_dim_k, spec.head_dim_v)) +
                                           " numbers; use device \"cpu\"");
    return std::make_unique<CudaKvPool>(device_, spec, blocks);
  }

  void embed(const Weight& table, std::span<const int32_t> tokens, float scale, float* out) override {
    ++step_;
    const CudaWeight& w = of(table);
    const EmbedArgs args{
        w.memory.as<uint8_t>(), codebook(w), w.panel_bytes, w.cols, copy_in(tokens_, tokens), scale, out};
    launch(kernels_.embed[size_t(w.format)], int64_t(tokens.size()), 1, kRowThreads, 0, args);
  }
  void rms_norm(const float* x, const Weight& gain, float eps, int64_t rows, float* out) override {
    const NormArgs args{x, of(gain).memory.as<float>(), eps, gain.cols, out};
    launch(kernels_.rms_norm, rows, 1, kRowThreads, kRowSharedBytes, args);
  }
  void linear(const float* x, int64_t rows, std::span<const Projection> outs, Place) override {
    if (rows == 0) return;
    const int64_t cols = outs[0].weight->cols;
    multiply(outs, convert(x, rows, cols), cols, rows, which_product(rows), {}, 0, nullptr);
  }
  void rope_table(std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
                  float* table) override {
    const RopeTableArgs args{copy_in(positions_, positions), copy_in(frequencies_, inverse_frequencies),
                             int32_t(inverse_frequencies.size()), table};
    launch(kernels_.rope_table, int64_t(positions.size()), 1, kRopeTableThreads, 0, args);
  }
  void rope(float* x, const float* table, int64_t rows, int32_t heads, int32_t head_dim, int32_t dims,
            RopeStyle style) override {
    const RopeArgs args{x, table, heads, head_dim, dims / 2, style == RopeStyle::split};
    launch(kernels_.rope, rows, 1, kRowThreads, 0, args);
  }
  void kv_store(KvPool& pool, int32_t layer, int32_t group, const float* k, const float* v,
                const Batch& batch) override {
    const auto& cache = static_cast<const CudaKvPool&>(pool);
    const KvGroupSpec& spec = pool.spec;
    const GroupPlan& plan = planned(group, batch);
    StoreArgs args{k,
                   spec.head_dim_k,
                   spec.kv_heads,
                   cache.layer(layer),
                   cache.block_stride(),
                   cache.head_stride(),
                   plan.blocks,
                   plan.positions};
    launch(kernels_.store_k[size_t(cache.k_type)], batch.rows(), spec.kv_heads, kStoreThreads, 0, args);
    args.x = v;
    args.dims = spec.head_dim_v;
    args.cache += cache.v_offset();
    launch(kernels_.store_v[size_t(cache.v_type)], batch.rows(), spec.kv_heads, kStoreThreads, 0, args);
  }
  void attention(const KvPool& pool, int32_t layer, int32_t group, const float* q, const Batch& batch,
                 const AttentionParams& params, float* out) override {
    const auto& cache = static_cast<const CudaKvPool&>(pool);
    const KvGroupSpec& spec = pool.spec;
    GroupPlan& plan = planned(group, batch);
    if (plan.attention_step != step_) {
      // Two warps for each of a multiprocessor's four schedulers.
      const AttentionPlan shares =
          plan_attention(batch, plan.host, spec, params.heads, 8 * device_->multiprocessors());
      plan.tiles = copy_in(plan.tiles_memory, std::span(shares.tiles));
      plan.items = copy_in(plan.items_memory, std::span(shares.items));
      plan.sums = copy_in(plan.sums_memory, std::span(shares.sums));
      plan.item_count = int64_t(shares.items.size());
      plan.sum_count = int64_t(shares.sums.size());
      plan.spans = shares.spans;
      plan.states = shares.states;
      plan.attention_step = step_;
    }
    size_t which = 0;
    while (kHeadDims[which] < spec.head_dim_v) ++which;
    const int dv = kHeadDims[which], tiles = head_tiles(params.heads, spec.kv_heads);
    float* states =
        room(states_, uint64_t(plan.states) * uint64_t(tiles) * uint64_t(state_floats(dv)) * sizeof(float))
            .as<float>();
    AttentionArgs args{cache.layer(layer),
                       cache.block_stride(),
                       cache.head_stride(),
                       cache.v_offset(),
                       q,
                       params.heads,
                       spec.kv_heads,
                       spec.head_dim_k,
                       spec.head_dim_v,
                       spec.window,
                       params.scale,
                       params.softcap,
                       plan.tiles,
                       plan.items,
                       plan.tables,
                       plan.spans,
                       states,
                       out};
    launch(kernels_.attention[size_t(cache.k_type)][size_t(cache.v_type)][which], plan.item_count, tiles,
           kWarp, attention_shared_bytes(spec.head_dim_k, dv), args);
    if (plan.sum_count == 0) return;
    args.items = plan.sums;
    launch(kernels_.combine_attention[which], plan.sum_count, tiles, kWarp, combine_shared_bytes(dv), args);
  }
  void gated(Activation act, const float* gate, const float* up, int64_t count, float* out) override {
    elementwise(act == Activation::silu ? kernels_.gated_silu : kernels_.gated_gelu,
                {out, gate, up, count, 0});
  }
  void experts(const float* x, const float* logits, int64_t rows, const Experts& e,
               const ExpertParams& params, Activation act, float* out) override {
    if (rows == 0) return;
    const int64_t width = e.down->rows, ffn = e.gate->rows;
    const auto choices = int32_t(rows * params.used);
    const int which = which_product((choices + params.count - 1) / params.count);
    const int32_t tile_rows = 8 << which, tile_count = most_tiles(choices, params.count, tile_rows);
    const uint64_t each = uint64_t(choices) * 4;
    const Memory& memory = room(routing_, 4 * each + uint64_t(tile_count) * sizeof(RowTile));
    const auto at = [&](uint64_t index) { return memory.as<int32_t>(index * each); };
    const ChooseArgs choose{logits,           int32_t(rows), params.count, params.used,
                            params.normalize, params.scale,  at(0),        reinterpret_cast<float*>(at(1))};
    launch(kernels_.choose_experts, (rows + kRoutingThreads - 1) / kRoutingThreads, 1, kRoutingThreads, 0,
           choose);
    const SortArgs sort{
        choose.experts, choices,   params.count, params.used, at(2), at(3), reinterpret_cast<RowTile*>(at(4)),
        tile_rows,      tile_count};
    launch(kernels_.sort_by_expert, 1, 1, kRoutingThreads, sort_shared_bytes(params.count), sort);
    const Projection gate_up[] = {{e.gate, nullptr, e.gate_rows}, {e.up, nullptr, e.up_rows}};
    multiply(gate_up, convert(x, rows, width), width, rows, which, sort.tiles, tile_count, sort.sources);
    gated(act, e.gate_rows, e.up_rows, choices * ffn, e.gate_rows);
    const Projection down[] = {{e.down, nullptr, e.down_rows}};
    multiply(down, convert(e.gate_rows, choices, ffn), ffn, choices, which, sort.tiles, tile_count, nullptr);
    const CombineArgs combine{e.down_rows, sort.places, choose.weights, params.used, width, out};
    launch(kernels_.combine_experts, rows, 1, kRowThreads, 0, combine);
  }
  void add(float* x, const float* y, int64_t count) override { add_scaled(x, y, 1, count); }
  void add_scaled(float* x, const float* y, float scale, int64_t count) override {
    elementwise(kernels_.add_scaled, {x, x, y, count, scale});
  }
  void gather(const float* x, std::span<const int32_t> rows, int64_t width, float* out) override {
    const GatherArgs args{x, copy_in(gathered_, rows), width, out};
    launch(kernels_.gather, int64_t(rows.size()), 1, kRowThreads, 0, args);
  }
  void softcap(float* x, int64_t count, float cap) override {
    elementwise(kernels_.softcap, {x, x, nullptr, count, cap});
  }

  void begin_step() override {}
  void end_step() override {}
  void synchronize() override { device_->synchronize(); }
  std::span<const float> read(const float* memory, size_t count) override {
    host_.resize(count);
    device_->copy_out(host_.data(), reinterpret_cast<Address>(memory), count * sizeof(float));
    return host_;
  }

 private:
  // Of a group of layers, in the device's memory.
  struct GroupPlan {
    uint64_t step = 0, attention_step = 0;
    CachePlan host;
    const int32_t *blocks = nullptr, *positions = nullptr, *tables = nullptr;
    const AttentionTile* tiles = nullptr;
    const AttentionItem *items = nullptr, *sums = nullptr;
    int64_t item_count = 0, sum_count = 0;
    bool spans = false;
    int32_t states = 0;
    Memory blocks_memory, positions_memory, tables_memory, tiles_memory, items_memory, sums_memory;
  };

  template <class Args>
  void launch(Kernel& kernel, int64_t grid_x, int64_t grid_y, int threads, uint32_t shared_bytes,
              const Args& args) {
    device_->launch(kernel, grid_x, grid_y, threads, shared_bytes, &args);
  }
  void elementwise(Kernel& kernel, const ElementArgs& args) {
    launch(kernel, (args.count + kRowThreads - 1) / kRowThreads, 1, kRowThreads, 0, args);
  }

  // Memory of at least so many bytes; what was in it may be gone.
  Memory& room(Memory& memory, uint64_t bytes) {
    if (memory.bytes() < bytes) {
      memory = Memory();  // before there is more
      memory = device_->allocate(bytes + bytes / 4, "activations");
    }
    return memory;
  }
  template <class T>
  const T* copy_in(Memory& memory, std::span<const T> values) {
    room(memory, values.size_bytes());
    device_->copy_in(memory.address(), values.data(), values.size_bytes());
    return memory.as<T>();
  }

  GroupPlan& planned(int32_t group, const Batch& batch) {
    if (plans_.size() <= size_t(group)) plans_.resize(size_t(group) + 1);
    GroupPlan& plan = plans_[size_t(group)];
    if (plan.step != step_) {
      plan.host = plan_cache(batch, group);
      plan.blocks = copy_in(plan.blocks_memory, std::span<const int32_t>(plan.host.blocks));
      plan.positions = copy_in(plan.positions_memory, std::span<const int32_t>(plan.host.positions));
      plan.tables = copy_in(plan.tables_memory, std::span<const int32_t>(plan.host.tables));
      plan.step = step_;
    }
    return plan;
  }

  // The smallest that takes all rows at once, or the one for the most.
  static int which_product(int64_t rows) {
    int which = 0;
    while (which + 1 < KernelTable::kProducts && rows > (8 << which)) ++which;
    return which;
  }

  ActivationRows convert(const float* x, int64_t rows, int64_t cols) {
    const auto units = uint64_t(units_of(cols)), count = uint64_t(rows);
    const ConvertArgs args{x, cols, room(halves_, count * units * 128).as<uint32_t>(),
                           room(scales_, count * 4).as<float>(), room(sums_, count * units * 16).as<float>()};
    launch(kernels_.convert, rows, 1, kRowThreads, kRowSharedBytes, args);
    return {args.halves, args.scales, args.sums};
  }

  // Products of one input; those of one format in one launch.
  void multiply(std::span<const Projection> outs, const ActivationRows& x, int64_t cols, int64_t rows,
                int which, const RowTile* tiles, int32_t tile_count, const int32_t* sources) {
    std::array<bool, 16> done{};
    for (size_t first = 0; first < outs.size(); ++first) {
      if (done[first]) continue;
      const CudaWeight& like = of(*outs[first].weight);
      ProductArgs args{};
      args.x = x;
      args.x_rows = int32_t(rows);
      args.cols = cols;
      args.panel_bytes = like.panel_bytes;
      args.tiles = tiles;
      args.sources = sources;
      const int nt = 1 << which, at_a_time = product_panels(nt);
      int64_t blocks = 0;
      for (size_t i = first; i < outs.size() && args.count < kMostProducts; ++i) {
        const CudaWeight& w = of(*outs[i].weight);
        if (done[i] || w.format != like.format) continue;
        done[i] = true;
        args.products[args.count++] = {w.memory.as<uint8_t>(),
                                       outs[i].bias ? of(*outs[i].bias).memory.as<float>() : nullptr,
                                       outs[i].out,
                                       codebook(w),
                                       int32_t(w.rows),
                                       int32_t(w.panels())};
        blocks += (w.panels() + at_a_time - 1) / at_a_time;
      }
      const int64_t row_tiles = tiles ? tile_count : (rows + nt * 8 - 1) / (nt * 8);
      launch(kernels_.product[size_t(like.format)][size_t(which)], blocks, row_tiles, kProductThreads,
             product_shared_bytes(nt), args);
    }
  }

  std::shared_ptr<Device> device_;
  KernelTable kernels_;
  std::unordered_map<float*, Memory> activations_;
  uint64_t step_ = 1;
  std::vector<GroupPlan> plans_;
  Memory tokens_, positions_, frequencies_, gathered_, routing_, states_;
  Memory halves_, scales_, sums_;  // of the input of products
  std::vector<float> host_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

}  // namespace inhouse
