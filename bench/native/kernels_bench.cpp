// Matrix products beside the machine's limits: matrix-vector against read bandwidth, matrix-matrix against
// the peak of the dot-product instruction, both measured here in the same run.
//
//   inhouse_kernels_bench [--json] [--best] [--isa NAME] [--threads N] [--type NAME]
//
// --best takes the shortest time instead of the median: for a machine that others use too.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "native/core/thread_pool.h"
#include "native/ops/cpu_limits.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool best_of_all = false;

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
  std::nth_element(times.begin(), times.begin() + int64_t(times.size()) / 2, times.end());
  return times[times.size() / 2];
}

struct Shape {
  const char* model;
  int64_t rows, cols;
};

}  // namespace

int main(int argc, char** argv) {
  bool json = false;
  std::string isa, only;
  int32_t most = std::min(2, ThreadPool::available());
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--json") json = true;
    if (arg == "--best") best_of_all = true;
    if (arg == "--isa" && i + 1 < argc) isa = argv[++i];
    if (arg == "--threads" && i + 1 < argc) most = std::atoi(argv[++i]);
    if (arg == "--type" && i + 1 < argc) only = argv[++i];
  }
  const kernels::Kernels* k = kernels::find_kernels(isa.c_str());
  if (!k) {
    std::fprintf(stderr, "instruction set %s is not here\n", isa.c_str());
    return 2;
  }
  if (json) std::printf("{\"isa\":\"%s\",\"runs\":[", k->name);
  bool first = true;
  for (int32_t threads = 1; threads <= most; threads *= 2) {
    const CpuLimits limits = measure_cpu_limits(*k, threads);
    const double read_gb = limits.read_bytes * 1e-9, dot_gmac = limits.dot_multiply_adds * 1e-9,
                 fma_gmac = limits.float_multiply_adds * 1e-9, bf16_gmac = limits.bf16_multiply_adds * 1e-9;
    if (json) {
      std::printf(
          "%s{\"threads\":%d,\"readGB\":%.2f,\"dotGMAC\":%.1f,\"fmaGMAC\":%.1f,\"bf16GMAC\":%.1f,"
          "\"products\":[",
          first ? "" : ",", threads, read_gb, dot_gmac, fma_gmac, bf16_gmac);
    } else {
      std::printf("%s, %d thread(s): read %.1f GB/s, 8-bit dot %.0f GMAC/s, float32 %.0f, BF16 %.0f GMAC/s\n",
                  k->title, threads, read_gb, dot_gmac, fma_gmac, bf16_gmac);
      std::printf("  %-6s %-12s  %-22s  %-22s %-22s %s\n", "type", "shape", "1 row GB/s (share)",
                  "4 rows GB/s", "64 rows GMAC/s", "512 rows GMAC/s (share)");
    }
    first = false;
    bool first_product = true;
    for (const char* name : {"Q4_1", "Q8_0", "Q4_K", "Q6_K", "Q5_0", "Q2_K", "IQ4_XS", "F16", "BF16"}) {
      if (!only.empty() && only != name) continue;
      uint32_t count = 0;
      const kernels::QuantType* const* types = kernels::quant_types(&count);
      const kernels::QuantType* type = *std::find_if(
          types, types + count, [&](const kernels::QuantType* t) { return std::strcmp(t->name, name) == 0; });
      std::vector<Shape> shapes = {{"Qwen 1.5B ffn_in", 8960, 1536}, {"Qwen 1.5B ffn_out", 1536, 8960}};
      if (type->block_elements == 32)
        shapes = {{"SmolLM2 ffn_in", 1536, 576}, {"Qwen 1.5B ffn_in", 8960, 1536}};
      if (type->block_elements == 1) shapes = {{"Qwen 1.5B ffn_in", 8960, 1536}};
      for (Shape s : shapes) {
        if (best_of_all) s.rows = std::min<int64_t>(s.rows, 384);  // short enough to be left alone
        Random random(7);
        const auto file = random_tensor(*type, s.rows, s.cols, random);
        auto backend = cpu(k->name, threads);
        // Copies beyond the caches, visited in turn.
        std::vector<std::unique_ptr<Weight>> copies;
        uint64_t bytes = 0;
        while (bytes < (best_of_all ? 64u << 20 : 160u << 20)) {
          copies.push_back(backend->load(*file, file->info, WeightUse::matrix, {}));
          bytes += copies.back()->bytes;
        }
        const std::vector<float> x = random.normals(512 * s.cols);
        std::vector<float> out(size_t(512 * s.rows), 0.0f);
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
        const double macs = double(s.rows) * double(s.cols) * 1e-9;
        const double peak = type->id == kernels::TypeId::bf16 ? bf16_gmac
                            : type->block_elements == 1       ? fma_gmac
                                                              : dot_gmac;
        const double one = double(bytes) * 1e-9 / time(1, true), four = double(bytes) * 1e-9 / time(4, true);
        const double some = macs * 64 / time(64, false), many = macs * 512 / time(512, false);
        if (json) {
          std::printf(
              "%s{\"type\":\"%s\",\"rows\":%d,\"cols\":%d,\"vectorGB\":%.2f,\"fourGB\":%.2f,\"batch64GMAC\":%"
              ".1f,"
              "\"batch512GMAC\":%.1f}",
              first_product ? "" : ",", name, int(s.rows), int(s.cols), one, four, some, many);
        } else {
          std::printf(
              "  %-6s %5dx%-6d  %6.1f (%3.0f%%)         %6.1f (%3.0f%%)         %6.0f (%3.0f%%)        %6.0f "
              "(%3.0f%%)\n",
              name, int(s.rows), int(s.cols), one, 100 * one / read_gb, four, 100 * four / read_gb, some,
              100 * some / peak, many, 100 * many / peak);
        }
        first_product = false;
        std::fflush(stdout);
      }
    }
    if (json) std::printf("]}");
  }
  if (json) std::printf("]}\n");
  return 0;
}
