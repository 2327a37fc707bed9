// Mixtures of experts: the choice, and their products of every type on every instruction set here against the
// reference device.
#include "native/ops/routing.h"
#include "test/native/check.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

constexpr int64_t kRows = 50;
constexpr int32_t kExperts = 7;

// [kExperts] matrices.
std::unique_ptr<MemoryFile> random_stack(const kernels::QuantType& type, int64_t rows, int64_t cols,
                                         Random& random) {
  auto file = random_tensor(type, kExperts * rows, cols, random);
  file->info.n_dims = 3;
  file->info.dims[1] = rows;
  file->info.dims[2] = kExperts;
  return file;
}

struct Layer {
  Layer(const kernels::QuantType& in, const kernels::QuantType& out, int64_t width_, int64_t ffn_,
        Random& random)
      : width(width_),
        ffn(ffn_),
        bf16(in.id == kernels::TypeId::bf16 || out.id == kernels::TypeId::bf16),
        gate(random_stack(in, ffn, width, random)),
        up(random_stack(in, ffn, width, random)),
        down(random_stack(out, width, ffn, random)) {}

  // Rows [first, first + rows) of x [kRows, width] with logits [kRows, kExperts].
  std::vector<float> run(Backend& backend, const std::vector<float>& x, const std::vector<float>& logits,
                         int64_t first, int64_t rows, const ExpertParams& params) const {
    const auto load = [&](const MemoryFile& file) {
      return backend.load(file, file.info, WeightUse::matrix, {});
    };
    const auto g = load(*gate), u = load(*up), d = load(*down);
    const size_t all = size_t(rows * params.used);
    std::vector<float> hidden(all * size_t(ffn)), more(hidden.size()), parts(all * size_t(width));
    std::vector<float> out(x.begin() + first * width, x.begin() + (first + rows) * width);
    backend.experts(out.data(), logits.data() + first * kExperts, rows,
                    {g.get(), u.get(), d.get(), hidden.data(), more.data(), parts.data()}, params,
                    Activation::silu, out.data());
    backend.synchronize();
    return out;
  }

  int64_t width, ffn;
  bool bf16;  // any of the matrices
  std::unique_ptr<MemoryFile> gate, up, down;
};

double relative_error(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (double(got[i]) - expected[i]) * (double(got[i]) - expected[i]);
    size += double(expected[i]) * expected[i];
  }
  return std::sqrt(error / size);
}

bool same_bits(const std::vector<float>& some, const std::vector<float>& all, int64_t from) {
  return std::memcmp(some.data(), all.data() + from, some.size() * sizeof(float)) == 0;
}

// Rounding x and the hidden row to BF16 costs up to 2^-9 of each number, and the gate doubles it at most.
constexpr double kBf16Tolerance = 4 * 0x1p-9;

// All instruction sets against the reference; the same bits whatever else is in the step, on one thread, from
// the mapped file, and on every instruction set with fused multiply-adds that rounds the same.
void check_layer(const std::string& what, const Layer& layer, const ExpertParams& params, double tolerance,
                 Random& random) {
  const std::vector<float> x = random.normals(kRows * layer.width), logits = random.normals(kRows * kExperts);
  const std::vector<float> expected = layer.run(*make_reference_backend({}), x, logits, 0, kRows, params);
  std::vector<float> first;
  for (const std::string& isa : instruction_sets()) {
    const auto backend = cpu(isa);
    const std::vector<float> all = layer.run(*backend, x, logits, 0, kRows, params);
    const bool rounds = layer.bf16 && rounds_to_bf16(isa, kernels::TypeId::bf16);
    const double error = relative_error(all, expected);
    if (!(error < std::max(tolerance, rounds ? kBf16Tolerance : 0.0)))
      fail(__FILE__, __LINE__, what + " " + isa + " is off by " + std::to_string(error));
    for (const auto& [from, rows] : {std::pair{0, 1}, {17, 1}, {20, 2}, {3, 11}, {25, 25}})
      if (!same_bits(layer.run(*backend, x, logits, from, rows, params), all, from * layer.width))
        fail(__FILE__, __LINE__, what + " " + isa + ": bits change with " + std::to_string(rows) + " rows");
    CHECK(same_bits(layer.run(*cpu(isa, 1), x, logits, 0, kRows, params), all, 0));
    CHECK(same_bits(layer.run(*cpu(isa, 2, false), x, logits, 0, kRows, params), all, 0));
    if (isa == "baseline" || rounds) continue;
    if (first.empty()) first = all;
    if (!same_bits(first, all, 0)) fail(__FILE__, __LINE__, what + ": bits change with the instruction set");
  }
}

}  // namespace

TEST(every_type_agrees_with_the_reference) {
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  Random random(31);
  for (uint32_t t = 0; t < count; ++t) {
    const kernels::QuantType& type = *types[t];
    const auto block = int64_t(type.block_elements);
    // A stack of floats may have matrices that are no whole number of panels. Rounding x and the hidden row
    // to 8 bits each costs about 0.6% of their size.
    const bool quantized = block > 1;
    const Layer layer(type, type, quantized ? std::max<int64_t>(block, 96 / block * block) : 40,
                      quantized ? block : 24, random);
    check_layer(type.name, layer, {kExperts, 3, true, 1.0f}, quantized ? 0.02 : 1e-5, random);
  }
}

TEST(types_may_differ_and_all_experts_may_be_used) {
  Random random(32);
  const auto type = [](kernels::TypeId id) -> const kernels::QuantType& {
    return *kernels::quant_type(uint32_t(id));
  };
  using kernels::TypeId;
  const Layer quantized_in(type(TypeId::q4_k), type(TypeId::f16), 256, 40, random);
  check_layer("q4_k to f16", quantized_in, {kExperts, kExperts, false, 2.5f}, 0.02, random);
  const Layer quantized_out(type(TypeId::bf16), type(TypeId::q8_0), 40, 64, random);
  check_layer("bf16 to q8_0", quantized_out, {kExperts, 1, true, 1.0f}, 0.02, random);
}

TEST(the_highest_logits_are_chosen_and_ties_go_to_the_lower_index) {
  const auto chosen = [](const std::vector<float>& logits, int32_t used) {
    Routing routing;
    routing.begin(1, {int32_t(logits.size()), used, true, 1.0f});
    routing.choose(0, logits.data());
    routing.sort();
    std::string experts;
    for (const int32_t place : routing.places())
      experts += std::to_string(routing.groups()[size_t(place)].matrix);
    return experts;
  };
  CHECK_EQ(chosen({1, 5, 3, 5, 2}, 3), std::string("132"));
  CHECK_EQ(chosen({0, 0, 0, 0}, 2), std::string("01"));
  CHECK_EQ(chosen({-3, -1, -2}, 3), std::string("120"));
  CHECK_EQ(chosen({7}, 1), std::string("0"));
  CHECK_EQ(chosen({NAN, NAN, NAN}, 2), std::string("01"));
  CHECK_EQ(chosen({1, NAN, 2, INFINITY}, 2), std::string("01"));
}

TEST(rows_are_sorted_by_expert) {
  const ExpertParams params{4, 2, false, 3.0f};
  const float logits[3][4] = {{1, 2, 0, 0}, {0, 9, 0, 8}, {2, 1, -5, -5}};
  Routing routing;
  for (int round = 0; round < 2; ++round) {  // also with what an earlier step left
    routing.begin(3, params);
    for (int r = 2; r >= 0; --r) routing.choose(r, logits[r]);
    routing.sort();
    CHECK_EQ(routing.groups().size(), 3u);
    const int64_t groups[3][3] = {{0, 0, 2}, {1, 2, 5}, {3, 5, 6}};
    for (size_t g = 0; g < 3; ++g) {
      CHECK_EQ(routing.groups()[g].matrix, groups[g][0]);
      CHECK_EQ(routing.groups()[g].begin, groups[g][1]);
      CHECK_EQ(routing.groups()[g].end, groups[g][2]);
    }
    const std::vector<int32_t> places(routing.places().begin(), routing.places().end());
    const std::vector<int32_t> sources(routing.sources().begin(), routing.sources().end());
    CHECK(places == std::vector<int32_t>({2, 0, 3, 5, 1, 4}));
    CHECK(sources == std::vector<int32_t>({0, 2, 0, 1, 2, 1}));
    const double best[3][2] = {{2, 1}, {9, 8}, {2, 1}};
    for (int r = 0; r < 3; ++r) {
      double sum = 0;
      for (const float logit : logits[r]) sum += std::exp(double(logit));
      for (int k = 0; k < 2; ++k)
        CHECK(std::fabs(routing.weights()[size_t(2 * r + k)] - 3 * std::exp(best[r][k]) / sum) < 1e-5);
    }
  }
}
