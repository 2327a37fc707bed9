// Elementwise ops, norms, rope and embedding scale on every instruction set here, against double precision.
#include "test/native/check.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

std::unique_ptr<MemoryFile> vector_file(const std::vector<float>& x) {
  auto file = std::make_unique<MemoryFile>();
  file->info = {"vector", kernels::quant_type(0), 1, {int64_t(x.size()), 1, 1, 1}, 0, 0, x.size() * 4};
  file->bytes->resize(x.size() * 4);
  std::memcpy(file->bytes->data(), x.data(), x.size() * 4);
  return file;
}

// Relative to the expected magnitude, in units of 2^-24, with a floor for results near zero.
void check_close(const std::string& what, float got, double expected, double units, double floor = 1e-30) {
  const double error = std::fabs(double(got) - expected),
               allowed = units * 0x1p-24 * std::fabs(expected) + floor;
  if (!(error <= allowed))
    fail(__FILE__, __LINE__, what + ": " + std::to_string(got) + " for " + std::to_string(expected));
}

}  // namespace

TEST(norms_match_double_precision) {
  Random random(21);
  for (const std::string& isa : instruction_sets()) {
    auto backend = cpu(isa);
    for (const int64_t cols : {1, 7, 16, 64, 576, 901}) {
      for (const int64_t rows : {int64_t(1), int64_t(130)}) {
        std::vector<float> x = random.normals(rows * cols), gain = random.normals(cols);
        const auto file = vector_file(gain);
        const auto weight = backend->load(*file, file->info, WeightUse::vector, {});
        std::vector<float> out(x.size());
        backend->rms_norm(x.data(), *weight, 1e-5f, rows, out.data());
        for (int64_t r = 0; r < rows; ++r) {
          double sum = 0;
          for (int64_t c = 0; c < cols; ++c) sum += double(x[size_t(r * cols + c)]) * x[size_t(r * cols + c)];
          for (int64_t c = 0; c < cols; ++c)
            check_close(
                isa + " rms_norm", out[size_t(r * cols + c)],
                x[size_t(r * cols + c)] / std::sqrt(sum / double(cols) + double(1e-5f)) * gain[size_t(c)], 40,
                1e-12);
        }
        backend->rms_norm(x.data(), *weight, 1e-5f, rows, x.data());
        CHECK(std::memcmp(x.data(), out.data(), x.size() * 4) == 0);
      }
    }
  }
}

TEST(activations_match_double_precision) {
  std::vector<float> gate, up;
  for (float g = -100.0f; g <= 100.0f; g += 0.0137f) gate.push_back(g), up.push_back(1.5f);
  for (const float g : {0.0f, -0.0f, 1e-30f, 1e30f, -1e30f, 1e-8f}) gate.push_back(g), up.push_back(1.5f);
  for (const std::string& isa : instruction_sets()) {
    auto backend = cpu(isa);
    std::vector<float> out(gate.size());
    backend->gated(Activation::silu, gate.data(), up.data(), int64_t(gate.size()), out.data());
    for (size_t i = 0; i < gate.size(); ++i)
      check_close(isa + " silu " + std::to_string(gate[i]), out[i],
                  gate[i] / (1 + std::exp(-double(gate[i]))) * 1.5, 8, 2e-36);
    backend->gated(Activation::gelu_tanh, gate.data(), up.data(), int64_t(gate.size()), out.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      const double g = gate[i], t = 0.7978845608028654 * (g + 0.044715 * g * g * g);
      // Far below zero the function is e^2t times g: an error of 2t shows there in full.
      check_close(isa + " gelu " + std::to_string(g), out[i], g / (1 + std::exp(-2 * t)) * 1.5,
                  10 + (isa == "baseline" ? 8 : 4) * std::min(100.0, std::fabs(t)), 2e-36);
    }
    std::vector<float> capped = gate;
    backend->softcap(capped.data(), int64_t(capped.size()), 30.0f);
    for (size_t i = 0; i < gate.size(); ++i)
      check_close(isa + " softcap " + std::to_string(gate[i]), capped[i],
                  30.0 * std::tanh(double(gate[i]) / 30), 6);
    // NaN in, NaN out.
    float nan_gate[3] = {NAN, 1.0f, NAN}, ones[3] = {1, 1, 1}, nan_out[3];
    backend->gated(Activation::silu, nan_gate, ones, 3, nan_out);
    CHECK(std::isnan(nan_out[0]) && !std::isnan(nan_out[1]) && std::isnan(nan_out[2]));
    backend->softcap(nan_gate, 3, 30.0f);
    CHECK(std::isnan(nan_gate[0]) && !std::isnan(nan_gate[1]));
  }
}

TEST(rope_rotates_both_ways) {
  Random random(22);
  for (const std::string& isa : instruction_sets()) {
    auto backend = cpu(isa);
    for (const int32_t dims : {8, 64, 20}) {
      const int32_t heads = 3, head_dim = 64, half = dims / 2;
      const std::vector<int32_t> positions = {0, 1, 77, 131071};
      std::vector<float> frequencies(size_t(half), 0.0f), table(4 * size_t(dims));
      for (int32_t i = 0; i < half; ++i)
        frequencies[size_t(i)] = std::pow(10000.0f, -2.0f * float(i) / float(dims));
      backend->rope_table(positions, frequencies, table.data());
      for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::split}) {
        const std::vector<float> x = random.normals(4 * heads * head_dim);
        std::vector<float> out = x;
        backend->rope(out.data(), table.data(), 4, heads, head_dim, dims, style);
        for (int32_t r = 0; r < 4; ++r)
          for (int32_t h = 0; h < heads; ++h)
            for (int32_t i = 0; i < head_dim; ++i) {
              const size_t base = size_t((r * heads + h) * head_dim);
              if (i >= dims) {
                CHECK(out[base + size_t(i)] == x[base + size_t(i)]);
                continue;
              }
              const bool split = style == RopeStyle::split;
              const int32_t f = split ? i % half : i / 2;
              const bool low = split ? i < half : i % 2 == 0;
              const double angle = double(positions[size_t(r)]) * double(frequencies[size_t(f)]);
              const double a = x[base + size_t(split ? f : 2 * f)],
                           b = x[base + size_t(split ? f + half : 2 * f + 1)];
              const double c = std::cos(angle), s = std::sin(angle);
              check_close(isa + " rope", out[base + size_t(i)], low ? a * c - b * s : b * c + a * s, 0, 3e-6);
            }
      }
    }
  }
}

TEST(sums_and_gathers) {
  Random random(23);
  for (const std::string& isa : instruction_sets()) {
    auto backend = cpu(isa);
    const std::vector<float> a = random.normals(40001), b = random.normals(40001);
    std::vector<float> sum = a;
    backend->add(sum.data(), b.data(), 40001);
    for (size_t i = 0; i < a.size(); ++i) CHECK(sum[i] == a[i] + b[i]);
    const std::vector<int32_t> rows = {2, 0, 7};
    float out[3 * 11];
    backend->gather(a.data(), rows, 11, out);
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 11; ++c) CHECK(out[r * 11 + c] == a[size_t(rows[size_t(r)] * 11 + c)]);
    float* memory = backend->allocate(100);
    CHECK(reinterpret_cast<uintptr_t>(memory) % 64 == 0 && memory[99] == 0.0f);
    backend->release(memory);
  }
}
