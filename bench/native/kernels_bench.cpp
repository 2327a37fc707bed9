// Matrix products beside the machine's limits: matrix-vector against read bandwidth, matrix-matrix against
// the peak of the dot-product instruction, both measured here in the same run.
//
//   inhouse_kernels_bench [--json] [--best] [--isa NAME] [--threads N] [--type NAME,…]
//   inhouse_kernels_bench --list     names the instruction sets that are here, the best first
//
// Of matrix-vector products the bytes are those of the file: types that are rearranged into more than they
// had read more than is counted. Measures every type of weights (or those named) with 1, 2, 4, … and N
// threads (by default as many as the process may use). --best takes the shortest time instead of the median:
// for a machine that others use too.
#include <algorithm>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "bench/native/arguments.h"
#include "bench/native/timing.h"
#include "native/core/error.h"
#include "native/core/thread_pool.h"
#include "native/ops/cpu_limits.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::bench;
using namespace inhouse::test;

namespace {

bool best_of_all = false;  // --best

// The time one call takes: the median (or best) of at least `rounds` calls and 0.15 seconds.
template <class Work>
double typical_seconds(int rounds, Work&& work) {
  std::vector<double> times;
  const double start = now();
  while (int(times.size()) < rounds || (now() - start < (best_of_all ? 0.6 : 0.15) && times.size() < 10000)) {
    const double t = now();
    work();
    times.push_back(now() - t);
  }
  if (best_of_all) return *std::min_element(times.begin(), times.end());
  return median(times);
}

struct Shape {
  int64_t rows, cols;
};

// One shape for each type, and a second for those that most files are made of.
std::vector<Shape> shapes_of(const kernels::QuantType& type) {
  constexpr Shape ffn_in = {8960, 1536}, ffn_out = {1536, 8960};  // Qwen 1.5B
  constexpr Shape small = {1536, 576};                            // SmolLM2 135M
  switch (type.id) {
    case kernels::TypeId::q2_k:
    case kernels::TypeId::q4_k:
    case kernels::TypeId::q6_k:
    case kernels::TypeId::iq4_xs:
      return {ffn_in, ffn_out};
    case kernels::TypeId::q4_1:
    case kernels::TypeId::q5_0:
    case kernels::TypeId::q8_0:
      return {small, ffn_in};
    default:
      return {ffn_in};
  }
}

// What one number of threads reaches.
struct Run {
  int32_t threads;
  CpuLimits limits;
  std::string products;  // JSON, with commas between them
};

struct Options {
  bool list = false;
  bool json = false;
  const kernels::Kernels* kernels = nullptr;
  int32_t most = ThreadPool::available();
  std::vector<const kernels::QuantType*> types;
};

Options read_options(Arguments arguments) {
  Options options;
  std::string isa, names;
  while (const char* argument = arguments.next()) {
    const std::string option = argument;
    if (option == "--list")
      options.list = true;
    else if (option == "--json")
      options.json = true;
    else if (option == "--best")
      best_of_all = true;
    else if (option == "--isa")
      isa = arguments.value(option);
    else if (option == "--threads")
      options.most = number(option, arguments.value(option), 1, 512);
    else if (option == "--type")
      names = arguments.value(option) + ",";
    else
      throw UsageError("no such option: " + option);
  }
  options.kernels = kernels::find_kernels(isa.c_str());
  if (!options.kernels) throw UsageError("--isa: instruction set \"" + isa + "\" is not here");
  for (size_t from = 0, to = 0; (to = names.find(',', from)) != std::string::npos; from = to + 1)
    options.types.push_back(&type_named("--type", names.substr(from, to - from)));
  if (!names.empty()) return options;
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  options.types.assign(types, types + count);
  return options;
}

// Products of one matrix with every number of threads.
void measure(const Options& options, const kernels::QuantType& type, Shape s, std::span<Run> runs) {
  if (best_of_all) s.rows = std::min<int64_t>(s.rows, 384);  // short enough to be left alone
  Random random(7);
  const auto file = random_tensor(type, s.rows, s.cols, random);
  const auto loader = cpu(options.kernels->name, options.most);
  // Copies beyond the caches, visited in turn.
  std::vector<std::unique_ptr<Weight>> copies;
  uint64_t bytes = 0, packed = 0;
  while (packed < uint64_t(beyond_caches(options.most))) {
    copies.push_back(loader->load(*file, file->info, WeightUse::matrix, {}));
    packed += copies.back()->bytes;
    bytes += file->info.bytes;
  }
  const std::vector<float> x = random.normals(512 * s.cols);
  std::vector<float> out(size_t(512 * s.rows), 0.0f);
  for (Run& run : runs) {
    const auto backend = cpu(options.kernels->name, run.threads);
    const auto time = [&](int64_t rows, bool all) {
      backend->begin_step();
      const double t = typical_seconds(3, [&] {
        for (const auto& weight : copies) {
          const Projection p{weight.get(), nullptr, out.data()};
          backend->linear(x.data(), rows, {&p, 1}, Place::ffn_in);
          if (!all) break;
        }
      });
      backend->end_step();
      return t;
    };
    const double macs = double(s.rows) * double(s.cols) * 1e-9, read = run.limits.read_bytes * 1e-9;
    const double peak = (type.id == kernels::TypeId::bf16 ? run.limits.bf16_multiply_adds
                         : type.block_elements == 1       ? run.limits.float_multiply_adds
                                                          : run.limits.dot_multiply_adds) *
                        1e-9;
    const double one = double(bytes) * 1e-9 / time(1, true), four = double(bytes) * 1e-9 / time(4, true);
    const double some = macs * 64 / time(64, false), many = macs * 512 / time(512, false);
    char line[256];
    if (options.json) {
      std::snprintf(line, sizeof line,
                    "%s{\"type\":\"%s\",\"rows\":%d,\"cols\":%d,\"vectorGB\":%.2f,\"fourGB\":%.2f,"
                    "\"batch64GMAC\":%.1f,\"batch512GMAC\":%.1f}",
                    run.products.empty() ? "" : ",", type.name, int(s.rows), int(s.cols), one, four, some,
                    many);
      run.products += line;
      continue;
    }
    std::printf("%-7s %5dx%-5d %7d  %7.1f (%3.0f%%)  %7.1f (%3.0f%%)  %7.0f (%3.0f%%)  %7.0f (%3.0f%%)\n",
                type.name, int(s.rows), int(s.cols), run.threads, one, 100 * one / read, four,
                100 * four / read, some, 100 * some / peak, many, 100 * many / peak);
    std::fflush(stdout);
  }
}

// A limit is the best of all that were measured.
void find_limits(const kernels::Kernels& kernels, Run& run) {
  const CpuLimits now = measure_cpu_limits(kernels, run.threads);
  CpuLimits& best = run.limits;
  best = {std::max(best.read_bytes, now.read_bytes), std::max(best.dot_multiply_adds, now.dot_multiply_adds),
          std::max(best.float_multiply_adds, now.float_multiply_adds),
          std::max(best.bf16_multiply_adds, now.bf16_multiply_adds)};
}

void measure_all(const Options& options) {
  std::vector<Run> runs;
  for (int32_t threads = 1; threads < options.most; threads *= 2) runs.push_back({threads, {}, {}});
  runs.push_back({options.most, {}, {}});
  if (!options.json) std::printf("%s\n", options.kernels->title);
  for (Run& run : runs) {
    find_limits(*options.kernels, run);
    const auto& [read, dot, fma, bf16] = run.limits;
    if (!options.json)
      std::printf("%d thread(s): read %.1f GB/s, 8-bit dot %.0f GMAC/s, float32 %.0f, BF16 %.0f GMAC/s\n",
                  run.threads, read * 1e-9, dot * 1e-9, fma * 1e-9, bf16 * 1e-9);
  }
  if (!options.json)
    std::printf("%-7s %-11s %7s  %-14s  %-14s  %-14s  %s\n", "type", "shape", "threads", "1 row GB/s",
                "4 rows GB/s", "64 rows GMAC/s", "512 rows GMAC/s (shares)");
  for (const kernels::QuantType* type : options.types)
    for (const Shape& shape : shapes_of(*type)) measure(options, *type, shape, runs);
  if (!options.json) return;
  // Once more, because the machine may have been busy the first time.
  for (Run& run : runs) find_limits(*options.kernels, run);
  std::printf("{\"isa\":\"%s\",\"runs\":[", options.kernels->name);
  for (const Run& run : runs) {
    const auto& [read, dot, fma, bf16] = run.limits;
    std::printf(
        "%s{\"threads\":%d,\"readGB\":%.2f,\"dotGMAC\":%.1f,\"fmaGMAC\":%.1f,\"bf16GMAC\":%.1f,"
        "\"products\":[%s]}",
        &run == runs.data() ? "" : ",", run.threads, read * 1e-9, dot * 1e-9, fma * 1e-9, bf16 * 1e-9,
        run.products.c_str());
  }
  std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  return inhouse::bench::run_main(
      argc, argv,
      "inhouse_kernels_bench [--list] [--json] [--best] [--isa NAME] [--threads N] [--type NAME,…]",
      [](Arguments arguments) {
        const Options options = read_options(arguments);
        if (!options.list) return measure_all(options);
        for (const std::string& name : instruction_sets()) std::printf("%s\n", name.c_str());
      });
}
