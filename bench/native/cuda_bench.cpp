// What a GPU does with a model: prompts, decoding at several depths and of several streams, loading; each
// beside its floor by what the device was measured to read and multiply at most.
//
//   inhouse_cuda_bench IMAGE MODEL [--device N] [--rounds N] [--json OUT]
//
// IMAGE: the CUDA kernels (inhouse-cuda.fatbin). Medians of --rounds steps (default 20) after two that do not
// count.
#include <algorithm>
#include <cstdio>
#include <fstream>

#include "bench/native/arguments.h"
#include "bench/native/timing.h"
#include "kernels/cuda/args.h"
#include "native/core/error.h"
#include "native/engine/kv_cache.h"
#include "native/model/forward.h"
#include "native/ops/cuda/device.h"

using namespace inhouse;
using inhouse::bench::median;
using inhouse::bench::now;

namespace {

struct Limits {
  double read_bytes, multiply_adds;  // per second
};

Limits measure(const CudaOptions& options) {
  constexpr uint64_t kBytes = uint64_t(4) << 30;
  constexpr int kRounds = 4096;
  const auto device = cuda::Device::open(options);
  const uint64_t bytes = std::min(kBytes, device->free_bytes() / 2 / 16 * 16);
  const cuda::Memory memory = device->allocate(bytes, "the probe");
  cuda::Kernel read{"inhouse_probe_read"}, multiply{"inhouse_probe_multiply"};
  kernels::cuda::ProbeArgs args{memory.as<uint8_t>(), int64_t(bytes), kRounds, memory.as<uint32_t>()};
  const int blocks = device->multiprocessors() * 8;
  const auto time = [&](cuda::Kernel& kernel) {
    std::vector<double> times;
    for (int round = -2; round < 10; ++round) {
      device->synchronize();
      const double start = now();
      device->launch(kernel, blocks, 1, kernels::cuda::kProbeThreads, 0, &args);
      device->synchronize();
      if (round >= 0) times.push_back(now() - start);
    }
    return *std::min_element(times.begin(), times.end());
  };
  const double products = double(blocks) * (kernels::cuda::kProbeThreads / kernels::cuda::kWarp) * kRounds *
                          kernels::cuda::kProbeSums * 16 * 8 * 16;
  return {double(bytes) / time(read), products / time(multiply)};
}

struct Work {
  const char* name;
  int32_t streams, rows, depth;
};
struct Figure {
  Work work;
  double seconds, floor;
};

Figure run(const Model& model, const Work& work, int32_t rounds, const Limits& limits) {
  const HyperParameters& h = model.hyper();
  const int32_t room = work.streams * (work.depth + work.rows + kKvBlockTokens);
  KvCache cache(model, KvType::f16, KvType::f16, {room, work.streams, room});
  std::vector<BlockTables> tables;
  for (int32_t s = 0; s < work.streams; ++s) tables.push_back(cache.open(""));
  std::vector<int32_t> tokens, positions, outputs;
  std::vector<SequenceSlice> slices;
  for (BlockTables& sequence : tables) {
    cache.extend(sequence, 0, work.depth + work.rows);  // of zeros: how fast it is does not depend on numbers
    slices.push_back({int32_t(tokens.size()), work.rows, work.depth, sequence.tables.data()});
    for (int32_t i = 0; i < work.rows; ++i) {
      tokens.push_back(int32_t(tokens.size() * 7919 % size_t(h.vocabulary)));
      positions.push_back(work.depth + i);
    }
    outputs.push_back(int32_t(tokens.size()) - 1);
  }
  const std::atomic<bool> stop = false;
  ForwardPass pass(model, work.streams * work.rows, work.streams);
  std::vector<double> times;
  for (int32_t round = -2; round < rounds; ++round) {
    const double start = now();
    model.backend().begin_step();
    pass.run({tokens, positions, slices, outputs}, cache.pools(), stop);
    pass.logits(0, work.streams);
    model.backend().end_step();
    if (round >= 0) times.push_back(now() - start);
  }
  double weights = 0, rows = double(work.streams) * work.rows;
  const auto product = [&](const Weight* w, double used, double head_rows) {
    if (!w) return 0.0;
    weights += double(w->bytes) * std::min(1.0, used / double(w->stack));
    return head_rows * double(w->rows) * double(w->cols);
  };
  double products = product(model.output, 1, work.streams);
  for (const LayerWeights& l : model.layers) {
    for (const Weight* w : {l.wq, l.wk, l.wv, l.wo, l.router}) products += product(w, 1, rows);
    const double used = std::max(1, h.experts.used);
    for (const Weight* w : {l.gate, l.up, l.down}) products += product(w, used * rows, rows * used);
  }
  const double keys = double(work.streams) * (work.depth + work.rows);
  const double cache_bytes = keys * 2.0 * (h.head_dim + h.head_dim_v) * h.kv_heads * h.layers;
  const double pairs = rows * (work.depth + work.rows * 0.5) * h.heads * h.layers;
  products += pairs * (h.head_dim + h.head_dim_v);
  const double floor = std::max((weights + cache_bytes) / limits.read_bytes, products / limits.multiply_adds);
  return {work, median(times), floor};
}

void measure_model(bench::Arguments arguments) {
  CudaOptions options;
  std::string path, json;
  int32_t rounds = 20;
  while (const char* argument = arguments.next()) {
    const std::string option = argument;
    if (option == "--device")
      options.device = bench::number(option, arguments.value(option), 0, 1024);
    else if (option == "--rounds")
      rounds = bench::number(option, arguments.value(option), 1, 100'000);
    else if (option == "--json")
      json = arguments.value(option);
    else if (option.starts_with("-"))
      throw bench::UsageError("no such option: " + option);
    else
      (options.image.empty() ? options.image : path) = option;
  }
  if (path.empty()) throw bench::UsageError("the image or the model is missing");
  const Limits limits = measure(options);
  ModelOptions model_options;
  model_options.path = path;
  model_options.device = Device::cuda;
  model_options.cuda = options;
  const double start = now();
  const std::unique_ptr<Model> model = Model::load(model_options, {});
  const double load = now() - start;
  std::printf("%s\n%s: %.1f GB of weights, loaded in %.2f s\nread %.0f GB/s, %.0f T multiply-adds/s\n\n",
              model->backend().description().c_str(), path.c_str(), double(model->weight_bytes()) * 1e-9,
              load, limits.read_bytes * 1e-9, limits.multiply_adds * 1e-12);
  std::printf("%-28s %12s %10s %10s %6s\n", "work", "tokens/s", "ms", "floor ms", "share");
  const Work works[] = {
      {"decode at depth 64", 1, 1, 64},
      {"decode at depth 512", 1, 1, 512},
      {"decode at depth 16384", 1, 1, 16384},
      {"prompt of 512", 1, 512, 0},
      {"prompt of 2048", 1, 2048, 0},
      {"8 streams at depth 512", 8, 1, 512},
      {"32 streams at depth 512", 32, 1, 512},
      {"64 streams at depth 512", 64, 1, 512},
      {"128 streams at depth 512", 128, 1, 512},
      {"256 streams at depth 512", 256, 1, 512},
  };
  std::string rows;
  for (const Work& work : works) {
    if (work.depth + work.rows > model->hyper().trained_context) continue;
    const Figure figure = run(*model, work, rounds, limits);
    const double rate = work.streams * work.rows / figure.seconds;
    std::printf("%-28s %12.1f %10.3f %10.3f %5.0f%%\n", work.name, rate, figure.seconds * 1e3,
                figure.floor * 1e3, 100 * figure.floor / figure.seconds);
    std::fflush(stdout);
    char row[256];
    std::snprintf(row, sizeof row,
                  "%s\n    {\"work\": \"%s\", \"tokensPerSecond\": %.2f, \"seconds\": %.6f, \"floor\": %.6f}",
                  rows.empty() ? "" : ",", work.name, rate, figure.seconds, figure.floor);
    rows += row;
  }
  if (json.empty()) return;
  std::ofstream out(json);
  out << "{\n  \"device\": \"" << model->backend().description() << "\",\n  \"model\": \""
      << path.substr(path.find_last_of('/') + 1) << "\",\n  \"rounds\": " << rounds
      << ",\n  \"loadSeconds\": " << load << ",\n  \"weightBytes\": " << model->weight_bytes()
      << ",\n  \"readBytes\": " << limits.read_bytes << ",\n  \"multiplyAdds\": " << limits.multiply_adds
      << ",\n  \"figures\": [" << rows << "\n  ]\n}\n";
  if (!out.flush()) throw std::runtime_error(json + " could not be written");
}

}  // namespace

int main(int argc, char** argv) {
  return inhouse::bench::run_main(
      argc, argv, "inhouse_cuda_bench IMAGE MODEL [--device N] [--rounds N] [--json OUT]", measure_model);
}
