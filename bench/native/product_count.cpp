// One matrix product, a number of times: what bench/instructions.mjs counts the instructions of.
//
//   inhouse_product_count ISA TYPE ROWS COLS ACTIVATION_ROWS REPEATS
//
// All work is done by one thread. Two runs with different numbers of repeats differ in that many products and
// nothing else.
#include <cstdio>

#include "bench/native/arguments.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

void multiply(bench::Arguments arguments) {
  const auto size = [&](const char* name) { return bench::number(name, arguments.value(name), 1, 1 << 24); };
  const std::string isa = arguments.value("ISA");
  const kernels::Kernels* const kernels = kernels::find_kernels(isa.c_str());
  if (!kernels) throw bench::UsageError("ISA: instruction set \"" + isa + "\" is not here");
  const kernels::QuantType& type = bench::type_named("TYPE", arguments.value("TYPE"));
  const int64_t rows = size("ROWS"), cols = size("COLS"), tokens = size("ACTIVATION_ROWS"),
                repeats = size("REPEATS");
  if (cols % type.block_elements != 0)
    throw bench::UsageError("COLS: expected a multiple of " + std::to_string(type.block_elements));
  Random random(7);
  const auto file = random_tensor(type, rows, cols, random);
  auto backend = cpu(kernels->name, 1);
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
  std::printf("%s %s: sum of outputs %g\n", kernels->name, type.name, sum);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_main(argc, argv, "inhouse_product_count ISA TYPE ROWS COLS ACTIVATION_ROWS REPEATS",
                         multiply);
}
