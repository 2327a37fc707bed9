// Matrix products of every type on every instruction set here, against double precision over decoded weights.
#include "test/native/check.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

std::vector<float> product(Backend& backend, const Weight& weight, const Weight* bias,
                           const std::vector<float>& x, int64_t rows, Place place = Place::ffn_in) {
  std::vector<float> out(size_t(rows * weight.rows), -77.0f);
  const Projection p{&weight, bias, out.data()};
  backend.linear(x.data(), rows, {&p, 1}, place);
  backend.synchronize();
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

// Rounding to 8 bits moves an activation by at most half its step, absmax / 254, a second plane by 1 / levels
// of that; float32 sums add a little. levels = 0: float32 activations.
void check_against_double(const std::string& what, const std::vector<float>& out, const std::vector<float>& w,
                          const std::vector<float>& x, int64_t rows, int64_t n, int64_t k, const float* bias,
                          double levels) {
  int bad = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      double sum = bias ? bias[c] : 0.0, bound = 0.0, magnitude = bias ? std::fabs(bias[c]) : 0.0;
      for (int64_t k0 = 0; k0 < k; k0 += 32) {
        double most = 0;
        for (int64_t i = k0; i < std::min(k, k0 + 32); ++i)
          most = std::max(most, double(std::fabs(x[size_t(r * k + i)])));
        for (int64_t i = k0; i < std::min(k, k0 + 32); ++i) {
          const double weight = w[size_t(c * k + i)];
          sum += weight * x[size_t(r * k + i)];
          bound += std::fabs(weight) * most / 254.0;
          magnitude += std::fabs(weight) * most;
        }
      }
      const double tolerance = (levels > 0 ? bound * 1.001 / levels : 0.0) + magnitude * 1e-5 + 1e-6;
      const double got = out[size_t(r * n + c)];
      if (!(std::fabs(got - sum) <= tolerance) && ++bad == 1)
        fail(__FILE__, __LINE__,
             what + ": row " + std::to_string(r) + " column " + std::to_string(c) + ": " +
                 std::to_string(got) + " for " + std::to_string(sum) + " within " +
                 std::to_string(tolerance));
    }
  }
}

// As BF16 matrices take activations where the processor has a dot product of them.
std::vector<float> rounded_to_bf16(std::vector<float> x) {
  for (float& number : x) number = kernels::bf16_to_float(kernels::float_to_bf16(number));
  return x;
}

std::vector<float> head_rows(const std::vector<float>& x, int64_t rows, int64_t k) {
  return {x.begin(), x.begin() + rows * k};
}

}  // namespace

TEST(every_type_matches_double_precision) {
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  Random random(2);
  for (uint32_t t = 0; t < count; ++t) {
    const kernels::QuantType& type = *types[t];
    const bool quantized = type.block_elements > 1;
    struct Shape {
      int64_t n, k;
    };
    std::vector<Shape> shapes = {{1, 32}, {5, 576}, {33, 896}, {17, 4864}};
    if (type.block_elements == 64) shapes = {{1, 64}, {5, 576}, {33, 896}};
    if (type.block_elements == 256) shapes = {{1, 256}, {17, 768}, {33, 2304}};
    if (!quantized) shapes = {{1, 7}, {3, 1}, {5, 576}, {33, 131}, {70, 300}, {18, 513}, {20, 1055}};
    for (const Shape& s : shapes) {
      const auto file = random_tensor(type, s.n, s.k, random);
      const std::vector<float> w = decode_all(*file), x = random.normals(100 * s.k), b = random.normals(s.n);
      MemoryFile bias_file;
      bias_file.info = {"bias", kernels::quant_type(0), 1, {s.n, 1, 1, 1}, 0, 0, uint64_t(s.n) * 4};
      bias_file.bytes->resize(size_t(s.n) * 4);
      std::memcpy(bias_file.bytes->data(), b.data(), size_t(s.n) * 4);
      std::vector<float> first;
      for (const std::string& isa : instruction_sets()) {
        auto backend = cpu(isa);
        const auto weight = backend->load(*file, file->info, WeightUse::matrix, {});
        const auto bias = backend->load(bias_file, bias_file.info, WeightUse::vector, {});
        const std::string what =
            std::string(type.name) + " " + isa + " " + std::to_string(s.n) + "x" + std::to_string(s.k);
        const std::vector<float> all = product(*backend, *weight, bias.get(), x, 100);
        const bool rounds = rounds_to_bf16(isa, type.id);
        const std::vector<float> exact = rounds ? rounded_to_bf16(x) : x;
        check_against_double(what, all, w, exact, 100, s.n, s.k, b.data(), quantized ? 1.0 : 0.0);
        // The same bits for fewer rows, one thread, and from the file's own blocks.
        for (const int64_t rows : {1, 2, 3, 5, 7, 8, 22, 61}) {
          const auto some = product(*backend, *weight, bias.get(), head_rows(x, rows, s.k), rows);
          if (!same_bits(some, head_rows(all, rows, s.n)))
            fail(__FILE__, __LINE__, what + ": bits change with " + std::to_string(rows) + " rows");
        }
        auto single = cpu(isa, 1);
        if (!same_bits(all, product(*single, *weight, bias.get(), x, 100)))
          fail(__FILE__, __LINE__, what + ": bits change with threads");
        auto mapped = cpu(isa, 2, false);
        const auto view = mapped->load(*file, file->info, WeightUse::matrix, {});
        CHECK_EQ(view->bytes, 0u);
        if (!same_bits(all, product(*mapped, *view, bias.get(), x, 100)) ||
            !same_bits(head_rows(all, 1, s.n), product(*mapped, *view, bias.get(), head_rows(x, 1, s.k), 1)))
          fail(__FILE__, __LINE__, what + ": bits change without repacking");
        // Two planes of activations: the same rules, and nearly the exact product.
        const auto fine = product(*backend, *weight, bias.get(), x, 100, Place::head);
        check_against_double(what + " two planes", fine, w, exact, 100, s.n, s.k, b.data(),
                             quantized ? 254.0 : 0.0);
        for (const int64_t rows : {1, 2, 3, 33})
          if (!same_bits(head_rows(fine, rows, s.n),
                         product(*backend, *weight, bias.get(), head_rows(x, rows, s.k), rows, Place::head)))
            fail(__FILE__, __LINE__, what + ": bits of two planes change with rows");
        // Instruction sets with fused multiply-adds agree to the bit, where they round the same.
        if (isa == "baseline" || rounds) continue;
        if (first.empty()) first = all;
        if (!same_bits(first, all)) fail(__FILE__, __LINE__, what + ": bits change with the instruction set");
      }
    }
  }
}

// Codes at the ends of their ranges on both sides, all of one sign: the largest sums there are, which 16-bit
// sums must hold.
TEST(the_largest_sums_do_not_saturate) {
  constexpr int64_t n = 17, k = 768, rows = 40;
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  Random random(8);
  std::vector<float> x(size_t(rows * k));
  for (size_t i = 0; i < x.size(); ++i) x[i] = i / size_t(k) % 2 ? -3.0f : 3.0f;
  for (uint32_t t = 0; t < count; ++t) {
    const kernels::QuantType& type = *types[t];
    if (type.block_elements == 1) continue;
    for (const int fill : {0x00, 0xff, 0x7f, 0x80, 0x0f, 0xf0}) {
      const auto file = random_tensor(type, n, k, random, fill);
      const std::vector<float> w = decode_all(*file);
      for (const std::string& isa : instruction_sets()) {
        auto backend = cpu(isa);
        const auto weight = backend->load(*file, file->info, WeightUse::matrix, {});
        for (const int64_t some : {int64_t(1), int64_t(7), rows})
          check_against_double(std::string(type.name) + " " + isa + " of bytes " + std::to_string(fill),
                               product(*backend, *weight, nullptr, head_rows(x, some, k), some), w, x, some,
                               n, k, nullptr, 1.0);
      }
    }
  }
}

// Several strips of panels, several chunks of K and more rows than a work item has, all at once: too much for
// the reference, so that rows are held against products of one row.
TEST(large_products_have_the_bits_of_single_rows) {
  Random random(6);
  const int64_t n = 400, rows = 300;
  for (const kernels::TypeId id : {kernels::TypeId::q4_0, kernels::TypeId::q8_0, kernels::TypeId::q5_1,
                                   kernels::TypeId::q4_k, kernels::TypeId::q6_k, kernels::TypeId::f16}) {
    const kernels::QuantType& type = *kernels::quant_type(uint32_t(id));
    const int64_t k = type.block_elements == 256 ? 4608 : 4864;
    const auto file = random_tensor(type, n, k, random);
    const std::vector<float> x = random.normals(rows * k);
    for (const std::string& isa : instruction_sets()) {
      auto backend = cpu(isa);
      const auto weight = backend->load(*file, file->info, WeightUse::matrix, {});
      for (const Place place : {Place::ffn_in, Place::head}) {  // one plane of activations, and two
        const std::vector<float> all = product(*backend, *weight, nullptr, x, rows, place);
        for (int64_t r = 0; r < rows; r += r >= 188 && r < 196 ? 1 : 37) {
          const std::vector<float> row(x.begin() + r * k, x.begin() + (r + 1) * k);
          const std::vector<float> out(all.begin() + r * n, all.begin() + (r + 1) * n);
          if (!same_bits(out, product(*backend, *weight, nullptr, row, 1, place)))
            fail(__FILE__, __LINE__,
                 std::string(type.name) + " " + isa + ": row " + std::to_string(r) + " differs alone");
        }
      }
    }
  }
}

TEST(projections_share_their_input) {
  Random random(3);
  const int64_t k = 768;
  std::vector<std::unique_ptr<MemoryFile>> files;
  for (const kernels::TypeId id : {kernels::TypeId::q4_k, kernels::TypeId::q6_k, kernels::TypeId::q8_0,
                                   kernels::TypeId::q5_0, kernels::TypeId::f16, kernels::TypeId::q2_k})
    files.push_back(random_tensor(*kernels::quant_type(uint32_t(id)), 50, k, random));
  for (const std::string& isa : instruction_sets()) {
    auto backend = cpu(isa);
    for (const int64_t rows : {int64_t(1), int64_t(40)}) {
      const std::vector<float> x = random.normals(rows * k);
      std::vector<std::unique_ptr<Weight>> weights;
      std::vector<std::vector<float>> alone, together;
      std::vector<Projection> outs;
      for (const auto& file : files) {
        weights.push_back(backend->load(*file, file->info, WeightUse::matrix, {}));
        alone.push_back(product(*backend, *weights.back(), nullptr, x, rows, Place::attention_in));
        together.emplace_back(alone.back().size());
      }
      for (size_t i = 0; i < files.size(); ++i)
        outs.push_back({weights[i].get(), nullptr, together[i].data()});
      backend->linear(x.data(), rows, outs, Place::attention_in);
      for (size_t i = 0; i < files.size(); ++i)
        if (!same_bits(alone[i], together[i]))
          fail(__FILE__, __LINE__, isa + ": projection " + std::to_string(i) + " changes in company");
    }
  }
}

TEST(extreme_activations_stay_defined) {
  Random random(4);
  for (const kernels::TypeId id : {kernels::TypeId::q4_k, kernels::TypeId::f16, kernels::TypeId::bf16}) {
    const auto file = random_tensor(*kernels::quant_type(uint32_t(id)), 20, 512, random);
    for (const std::string& isa : instruction_sets()) {
      auto backend = cpu(isa);
      const auto weight = backend->load(*file, file->info, WeightUse::matrix, {});
      for (const float extreme : {1e30f, 1e-38f, 1e-45f, 0.0f, INFINITY, -INFINITY, NAN}) {
        std::vector<float> x(5 * 512, extreme);
        for (int i = 0; i < 512; ++i) x[512 + size_t(i)] = 0.5f;
        const auto out = product(*backend, *weight, nullptr, x, 5);
        for (int c = 0; c < 20; ++c) {
          CHECK(std::isfinite(out[20 + size_t(c)]));
          CHECK_EQ(std::isfinite(out[size_t(c)]), std::isfinite(extreme));
        }
      }
    }
  }
}

// A matrix of one 1: what comes out is what became of the activation.
TEST(activations_of_bf16_matrices_are_exact_or_rounded_to_nearest_even) {
  MemoryFile one;
  one.info = {"one", kernels::quant_type(uint32_t(kernels::TypeId::bf16)), 2, {1, 1, 1, 1}, 0, 0, 2};
  *one.bytes = {0x80, 0x3f};
  const std::vector<float> x = {1.0f,        1.00390625f, 1.01171875f, -1.00390625f, -1.01171875f,
                                1.00390637f, 0.1f,        3.0e38f,     3.4e38f,      -3.4e38f,
                                1e-37f,      0.0f,        -INFINITY,   INFINITY,     NAN};
  const auto rows = int64_t(x.size());
  for (const std::string& isa : instruction_sets()) {
    auto backend = cpu(isa);
    const auto weight = backend->load(one, one.info, WeightUse::matrix, {});
    const bool rounds = rounds_to_bf16(isa, kernels::TypeId::bf16);
    const std::vector<float> expected = rounds ? rounded_to_bf16(x) : x;
    const std::vector<float> out = product(*backend, *weight, nullptr, x, rows);
    for (size_t r = 0; r < x.size(); ++r)
      CHECK(out[r] == expected[r] || (std::isnan(out[r]) && std::isnan(expected[r])));
  }
}

TEST(unknown_instruction_set_is_refused) {
  try {
    cpu("mmx");
    CHECK(false);
  } catch (const Error& e) {
    CHECK(e.code() == Code::device_unavailable);
    CHECK(e.message().find("baseline") != std::string::npos);
  }
}

TEST(loading_can_be_cancelled_and_reports_progress) {
  Random random(5);
  const auto file = random_tensor(*kernels::quant_type(uint32_t(kernels::TypeId::q8_0)), 300, 576, random);
  auto backend = cpu("");
  std::atomic<uint64_t> done{0};
  LoadControl control;
  control.progress = [&](uint64_t bytes) { done += bytes; };
  backend->load(*file, file->info, WeightUse::matrix, control);
  CHECK_EQ(done.load(), file->info.bytes);
  std::atomic<bool> cancelled{true};
  control.cancelled = &cancelled;
  try {
    backend->load(*file, file->info, WeightUse::matrix, control);
    CHECK(false);
  } catch (const Error& e) {
    CHECK(e.code() == Code::aborted);
  }
}
