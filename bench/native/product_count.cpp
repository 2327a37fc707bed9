// One matrix product, a number of times: what bench/instructions.mjs counts the instructions of.
//
//   inhouse_product_count ISA TYPE ROWS COLS ACTIVATION_ROWS REPEATS
//
// All work is done by one thread. Two runs with different numbers of repeats differ in that many products and
// nothing else.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr, "usage: inhouse_product_count ISA TYPE ROWS COLS ACTIVATION_ROWS REPEATS\n");
    return 2;
  }
  const kernels::Kernels* k = kernels::find_kernels(argv[1]);
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  const auto type = std::find_if(
      types, types + count, [&](const kernels::QuantType* t) { return std::strcmp(t->name, argv[2]) == 0; });
  const int64_t rows = std::atoll(argv[3]), cols = std::atoll(argv[4]), tokens = std::atoll(argv[5]),
                repeats = std::atoll(argv[6]);
  if (!k || type == types + count || rows < 1 || tokens < 1 || cols < 1 || cols % (*type)->block_elements) {
    std::fprintf(stderr, "no such instruction set here, type or size\n");
    return 2;
  }
  Random random(7);
  const auto file = random_tensor(**type, rows, cols, random);
  auto backend = cpu(k->name, 1);
  const auto weight = backend->load(*file, file->info, WeightUse::matrix, {});
  const std::vector<float> x = random.normals(tokens * cols);
  std::vector<float> out(size_t(tokens * rows), 0.0f);
  backend->begin_step();
  for (int64_t i = 0; i < repeats; ++i) {
    const Projection p{weight.get(), nullptr, out.data()};
    backend->linear(x.data(), tokens, {&p, 1}, Place::ffn_in);
  }
  backend->end_step();
  double sum = 0;
  for (const float value : out) sum += double(value);
  std::printf("%s %s: sum of outputs %g\n", k->name, (*type)->name, sum);
  return 0;
}
