// Where the time of a step goes, op by op, beside each op's floor: the bytes it must read over the machine's
// read bandwidth, or its multiply-adds over the peak of the instruction used, whichever takes longer.
//
//   inhouse_profile MODEL [--threads N] [--isa NAME] [--streams N] [--rows N] [--depth N] [--kv
//   f32|f16|q8_0|q4_0]
//                         [--rounds N] [--limits-every N] [--json]
//
// A step carries --rows tokens (default 1) of each of --streams sequences (default 1), all of which come
// after --depth others (default 64). Medians of --rounds steps (default 20); the machine's limits are
// measured between them, before every --limits-every steps (default 5); shares are of their
// medians, as the bandwidth of a shared machine changes for steps and limits alike.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <tuple>

#include "bench/native/arguments.h"
#include "bench/native/timing.h"
#include "native/core/error.h"
#include "native/engine/kv_cache.h"
#include "native/model/forward.h"
#include "native/ops/cpu_kernels.h"
#include "native/ops/cpu_limits.h"
#include "native/ops/cpu_weight.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using inhouse::bench::median;
using inhouse::bench::now;

namespace {

// What one op cost in one step.
struct Cost {
  double seconds = 0, bytes = 0, dots = 0, fmas = 0, bf16s = 0;
  int calls = 0;
};

// Times each op of the backend it stands before.
class Profiler final : public Backend {
 public:
  explicit Profiler(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}
  std::map<std::string, Cost> costs;

  const char* name() const override { return inner_->name(); }
  std::string description() const override { return inner_->description(); }
  std::string layout() const override { return inner_->layout(); }
  std::string arithmetic(bool bf16) const override { return inner_->arithmetic(bf16); }
  uint64_t available_memory() const override { return inner_->available_memory(); }
  float* allocate(uint64_t floats) override { return inner_->allocate(floats); }
  void release(float* memory) override { inner_->release(memory); }
  std::unique_ptr<Weight> load(const GgufFile& file, const TensorInfo& tensor, WeightUse use,
                               const LoadControl& control) override {
    return inner_->load(file, tensor, use, control);
  }
  std::unique_ptr<KvPool> make_kv_pool(const KvGroupSpec& spec, int32_t blocks) override {
    return inner_->make_kv_pool(spec, blocks);
  }

  void embed(const Weight& table, std::span<const int32_t> tokens, float scale, float* out) override {
    time("embed", [&] { inner_->embed(table, tokens, scale, out); });
  }
  void rms_norm(const float* x, const Weight& gain, float eps, int64_t rows, float* out) override {
    time("rms_norm", [&] { inner_->rms_norm(x, gain, eps, rows, out); });
  }
  void linear(const float* x, int64_t rows, std::span<const Projection> outs, Place place) override {
    static const char* const names[] = {"linear attention_in", "linear attention_out", "linear router",
                                        "linear ffn_in",       "linear ffn_out",       "linear head"};
    Cost& cost = time(names[int(place)], [&] { inner_->linear(x, rows, outs, place); });
    for (const Projection& p : outs) count(cost, *p.weight, rows, 1);
  }
  void rope_table(std::span<const int32_t> positions, std::span<const float> frequencies,
                  float* table) override {
    time("rope_table", [&] { inner_->rope_table(positions, frequencies, table); });
  }
  void rope(float* x, const float* table, int64_t rows, int32_t heads, int32_t head_dim, int32_t dims,
            RopeStyle style) override {
    time("rope", [&] { inner_->rope(x, table, rows, heads, head_dim, dims, style); });
  }
  void kv_store(KvPool& pool, int32_t layer, int32_t group, const float* k, const float* v,
                const Batch& batch) override {
    time("kv_store", [&] { inner_->kv_store(pool, layer, group, k, v, batch); });
  }
  void attention(const KvPool& pool, int32_t layer, int32_t group, const float* q, const Batch& batch,
                 const AttentionParams& params, float* out) override {
    Cost& cost = time("attention", [&] { inner_->attention(pool, layer, group, q, batch, params, out); });
    const KvGroupSpec& s = pool.spec;
    const double token_bytes = double(pool.bytes) / (double(pool.blocks) * s.layers * kKvBlockTokens);
    for (const SequenceSlice& slice : batch.slices) {
      for (int32_t i = 0; i < slice.count; ++i) {
        const int32_t keys = slice.position + i + 1;
        cost.fmas += double(s.window > 0 ? std::min(keys, s.window) : keys) * params.heads *
                     (s.head_dim_k + s.head_dim_v);
      }
      const int32_t last = slice.position + slice.count;
      cost.bytes += token_bytes * (s.window > 0 ? std::min(last, s.window + slice.count) : last);
    }
  }
  void gated(Activation act, const float* gate, const float* up, int64_t count, float* out) override {
    time("gated", [&] { inner_->gated(act, gate, up, count, out); });
  }
  void experts(const float* x, const float* logits, int64_t rows, const Experts& experts,
               const ExpertParams& params, Activation act, float* out) override {
    Cost& cost = time("experts", [&] { inner_->experts(x, logits, rows, experts, params, act, out); });
    // As many as differ when each row's are drawn at random, as lib/cli/bench/work.ts has it.
    const double used = params.count * (1 - std::pow(1 - double(params.used) / params.count, double(rows)));
    for (const Weight* weight : {experts.gate, experts.up, experts.down})
      count(cost, *weight, rows * params.used, used);
  }
  void add(float* x, const float* y, int64_t count) override {
    time("add", [&] { inner_->add(x, y, count); });
  }
  void add_scaled(float* x, const float* y, float scale, int64_t count) override {
    time("add_scaled", [&] { inner_->add_scaled(x, y, scale, count); });
  }
  void gather(const float* x, std::span<const int32_t> rows, int64_t width, float* out) override {
    time("gather", [&] { inner_->gather(x, rows, width, out); });
  }
  void softcap(float* x, int64_t count, float cap) override {
    time("softcap", [&] { inner_->softcap(x, count, cap); });
  }
  void begin_step() override { inner_->begin_step(); }
  void end_step() override { inner_->end_step(); }
  void synchronize() override { inner_->synchronize(); }
  std::span<const float> read(const float* memory, size_t count) override {
    return inner_->read(memory, count);
  }

 private:
  template <class Work>
  Cost& time(const char* op, Work&& work) {
    const double start = now();
    work();
    Cost& cost = costs[op];
    cost.seconds += now() - start;
    ++cost.calls;
    return cost;
  }
  // rows: of activations; used: matrices of the stack that are read.
  static void count(Cost& cost, const Weight& weight, int64_t rows, double used) {
    const auto& cpu = static_cast<const CpuWeight&>(weight);
    cost.bytes += used * double(cpu.panels() * cpu.panel_bytes);
    const bool bf16 = !cpu.packed && cpu.dense == kernels::DenseType::bf16;
    (cpu.packed ? cost.dots
     : bf16     ? cost.bf16s
                : cost.fmas) += double(rows) * double(weight.rows) * double(weight.cols);
  }

  std::unique_ptr<Backend> inner_;
};

struct Options {
  ModelOptions model;
  int32_t streams = 1, rows = 1, depth = 64, rounds = 20, limits_every = 5;
  bool json = false;
  KvType kv = KvType::f16;
};

KvType kv_type(std::string_view name) {
  if (name == "f32") return KvType::f32;
  if (name == "f16") return KvType::f16;
  if (name == "q8_0") return KvType::q8_0;
  if (name == "q4_0") return KvType::q4_0;
  throw bench::UsageError("--kv: expected f32, f16, q8_0 or q4_0, got \"" + std::string(name) + "\"");
}

Options read_options(bench::Arguments arguments) {
  Options options;
  options.model.cpu.threads = ThreadPool::available();
  const struct {
    const char* name;
    int32_t *value, min, max;
  } numbers[] = {
      {"--threads", &options.model.cpu.threads, 1, 512},
      {"--streams", &options.streams, 1, 1024},
      {"--rows", &options.rows, 1, 65536},
      {"--depth", &options.depth, 0, 1 << 20},
      {"--rounds", &options.rounds, 1, 100000},
      {"--limits-every", &options.limits_every, 1, 100000},
  };
  while (const char* argument = arguments.next()) {
    const std::string option = argument;
    const auto* const known = std::find_if(std::begin(numbers), std::end(numbers),
                                           [&](const auto& one) { return option == one.name; });
    if (known != std::end(numbers))
      *known->value = bench::number(option, arguments.value(option), known->min, known->max);
    else if (option == "--json")
      options.json = true;
    else if (option == "--isa")
      options.model.cpu.instruction_set = arguments.value(option);
    else if (option == "--kv")
      options.kv = kv_type(arguments.value(option));
    else if (option.starts_with("-"))
      throw bench::UsageError("no such option: " + option);
    else if (options.model.path.empty())
      options.model.path = option;
    else
      throw bench::UsageError("one model is profiled, not " + options.model.path + " and " + option);
  }
  if (options.model.path.empty()) throw bench::UsageError("the model is missing");
  return options;
}

void profile(Options given) {
  ModelOptions& options = given.model;
  const auto [streams, rows, depth, rounds, kv] =
      std::tuple(given.streams, given.rows, given.depth, given.rounds, given.kv);
  Profiler* profiler = nullptr;
  options.wrap = [&](std::unique_ptr<Backend> inner) {
    auto wrapped = std::make_unique<Profiler>(std::move(inner));
    profiler = wrapped.get();
    return wrapped;
  };
  const std::unique_ptr<Model> model = Model::load(options, {});
  const HyperParameters& hyper = model->hyper();
  if (depth + rows > hyper.trained_context)
    std::fprintf(stderr, "the model was trained for contexts of %d tokens, and %d are measured\n",
                 hyper.trained_context, depth + rows);

  const int32_t room = streams * (depth + rows + kKvBlockTokens);
  KvCache cache(*model, kv, kv, {room, streams, room});
  std::vector<BlockTables> tables;
  for (int32_t s = 0; s < streams; ++s) tables.push_back(cache.open(""));
  test::Random random(1);
  for (BlockTables& sequence : tables) {
    cache.extend(sequence, 0, depth + rows);
    if (depth == 0) continue;
    const SequenceSlice slice[] = {{0, depth, 0, sequence.tables.data()}};
    for (size_t g = 0; g < cache.pools().size(); ++g) {
      KvPool& pool = *cache.pools()[g];
      const auto k = random.normals(int64_t(depth) * pool.spec.kv_heads * pool.spec.head_dim_k);
      const auto v = random.normals(int64_t(depth) * pool.spec.kv_heads * pool.spec.head_dim_v);
      for (int32_t layer = 0; layer < pool.spec.layers; ++layer)
        profiler->kv_store(pool, layer, int32_t(g), k.data(), v.data(), {{}, {}, slice, {}});
    }
  }

  std::vector<int32_t> tokens, positions, outputs;
  std::vector<SequenceSlice> slices;
  for (const BlockTables& sequence : tables) {
    slices.push_back({int32_t(tokens.size()), rows, depth, sequence.tables.data()});
    for (int32_t i = 0; i < rows; ++i) {
      tokens.push_back(int32_t(random.bits() % uint64_t(hyper.vocabulary)));
      positions.push_back(depth + i);
    }
    outputs.push_back(int32_t(tokens.size()) - 1);
  }
  const std::atomic<bool> stop = false;
  ForwardPass pass(*model, streams * rows, streams);
  const kernels::Kernels& kernels = choose_kernels(options.cpu.instruction_set);
  std::vector<std::map<std::string, Cost>> steps;
  std::vector<double> totals, reads, dots, fmas, bf16s;
  for (int32_t round = -2; round < rounds; ++round) {
    if (round >= 0 && round % given.limits_every == 0) {
      const CpuLimits limits = measure_cpu_limits(kernels, options.cpu.threads);
      reads.push_back(limits.read_bytes);
      dots.push_back(limits.dot_multiply_adds);
      fmas.push_back(limits.float_multiply_adds);
      bf16s.push_back(limits.bf16_multiply_adds);
    }
    profiler->costs.clear();
    const double start = now();
    profiler->begin_step();
    pass.run({tokens, positions, slices, outputs}, cache.pools(), stop);
    pass.logits(0, streams);
    profiler->end_step();
    if (round < 0) continue;
    totals.push_back(now() - start);
    steps.push_back(profiler->costs);
  }

  const double read = median(reads), dot = median(dots), fma = median(fmas), bf16 = median(bf16s);
  struct Row {
    std::string op;
    int calls;
    double time, floor;
  };
  std::vector<Row> table;
  double floors = 0;
  for (const auto& [op, cost] : steps[0]) {
    std::vector<double> times;
    for (auto& step : steps) times.push_back(step[op].seconds);
    const double floor = std::max(cost.bytes / read, cost.dots / dot + cost.fmas / fma + cost.bf16s / bf16);
    table.push_back({op, cost.calls, median(times), floor});
    floors += floor;
  }
  const double total = median(totals);
  if (given.json) {
    std::printf(
        "{\"readGB\":%.2f,\"dotGMAC\":%.1f,\"fmaGMAC\":%.1f,\"bf16GMAC\":%.1f,\"stepMs\":%.4f,"
        "\"floorMs\":%.4f,\"ops\":[",
        read * 1e-9, dot * 1e-9, fma * 1e-9, bf16 * 1e-9, total * 1e3, floors * 1e3);
    for (const Row& row : table)
      std::printf("%s{\"op\":\"%s\",\"calls\":%d,\"ms\":%.4f,\"floorMs\":%.4f}",
                  &row == table.data() ? "" : ",", row.op.c_str(), row.calls, row.time * 1e3,
                  row.floor * 1e3);
    std::printf("]}\n");
    return;
  }
  std::printf("%s, %d x %d rows at depth %d\n", model->backend().description().c_str(), streams, rows, depth);
  std::printf("read %.1f GB/s, 8-bit dot %.0f GMAC/s, float32 %.0f, BF16 %.0f GMAC/s\n", read * 1e-9,
              dot * 1e-9, fma * 1e-9, bf16 * 1e-9);
  std::printf("%-22s %6s %10s %10s %7s\n", "op", "calls", "ms", "floor ms", "share");
  for (const Row& row : table)
    std::printf("%-22s %6d %10.3f %10.3f %6.0f%%\n", row.op.c_str(), row.calls, row.time * 1e3,
                row.floor * 1e3, 100 * row.floor / row.time);
  std::printf("%-22s %6s %10.3f %10.3f %6.0f%%\n", "step", "", total * 1e3, floors * 1e3,
              100 * floors / total);
  double sum = 0;
  for (const double seconds : totals) sum += seconds;
  std::printf("%.1f tokens/s; %.1f over all rounds\n", streams * rows / total,
              double(streams) * rows * double(totals.size()) / sum);
}

}  // namespace

int main(int argc, char** argv) {
  return inhouse::bench::run_main(
      argc, argv,
      "inhouse_profile MODEL [--threads N] [--isa NAME] [--streams N] [--rows N] [--depth N] "
      "[--kv f32|f16|q8_0|q4_0] [--rounds N] [--limits-every N] [--json]",
      [](bench::Arguments arguments) { profile(read_options(arguments)); });
}
