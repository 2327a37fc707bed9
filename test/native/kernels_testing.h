// Shared by the kernel tests: deterministic random numbers, a model file in memory, double-precision
// references.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/quant/half.h"
#include "native/core/error.h"
#include "native/ops/backend.h"

namespace inhouse::test {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1dull;
  }
  float uniform() { return float(bits() >> 40) * 0x1p-23f - 1.0f; }                        // [-1, 1)
  float normal() { return (uniform() + uniform() + uniform() + uniform()) * 0.8660254f; }  // variance 1
  std::vector<float> normals(int64_t count) {
    std::vector<float> v(size_t(count), 0.0f);
    for (float& x : v) x = normal();
    return v;
  }

 private:
  uint64_t state_;
};

// One tensor that lives in memory.
class MemoryFile final : public GgufFile {
 public:
  std::shared_ptr<std::vector<uint8_t>> bytes = std::make_shared<std::vector<uint8_t>>();
  TensorInfo info{};

  void read(const TensorInfo&, uint64_t offset, uint64_t count, void* dst) const override {
    std::memcpy(dst, bytes->data() + offset, count);
  }
  std::shared_ptr<Mapping> map(uint32_t) const override {
    class View final : public Mapping {
     public:
      explicit View(std::shared_ptr<std::vector<uint8_t>> b) : bytes_(std::move(b)) {}
      const uint8_t* data() const override { return bytes_->data(); }
      uint64_t size() const override { return bytes_->size(); }
      void check() const override {}
      void lock() override {}

     private:
      std::shared_ptr<std::vector<uint8_t>> bytes_;
    };
    return std::make_shared<View>(bytes);
  }
  void check_unchanged() const override {}
  std::string identity() const override { return "memory"; }
};

// Random blocks of a type whose scales are small ordinary numbers: random bytes, or all `fill` where it is
// not negative, then the 16-bit scale fields are overwritten. [rows, cols]
inline std::unique_ptr<MemoryFile> random_tensor(const kernels::QuantType& type, int64_t rows, int64_t cols,
                                                 Random& random, int fill = -1) {
  using kernels::TypeId;
  auto file = std::make_unique<MemoryFile>();
  file->info = {"test", &type, 2, {cols, rows, 1, 1}, 0, 0, 0};
  const int64_t blocks = rows * cols / type.block_elements;
  file->info.bytes = uint64_t(blocks) * type.block_bytes;
  file->bytes->resize(file->info.bytes);
  for (uint8_t& b : *file->bytes) b = fill < 0 ? uint8_t(random.bits() >> 32) : uint8_t(fill);
  const auto half = [&](uint8_t* at) {
    const uint16_t h = kernels::float_to_half(0.01f + 0.01f * std::fabs(random.uniform()));
    std::memcpy(at, &h, 2);
  };
  for (int64_t i = 0; i < blocks; ++i) {
    uint8_t* b = file->bytes->data() + uint64_t(i) * type.block_bytes;
    const float value = random.normal() * 0.1f;
    const uint16_t f16 = kernels::float_to_half(value), bf16 = kernels::float_to_bf16(value);
    switch (type.id) {
      case TypeId::f32:
        std::memcpy(b, &value, 4);
        break;
      case TypeId::f16:
        std::memcpy(b, &f16, 2);
        break;
      case TypeId::bf16:
        std::memcpy(b, &bf16, 2);
        break;
      case TypeId::q4_1:
      case TypeId::q5_1:
      case TypeId::q4_k:
      case TypeId::q5_k:
        half(b), half(b + 2);
        break;
      case TypeId::q2_k:
        half(b + 80), half(b + 82);
        break;
      case TypeId::q3_k:
        half(b + 108);
        break;
      case TypeId::q6_k:
        half(b + 208);
        break;
      case TypeId::tq1_0:
        half(b + 52);
        break;
      case TypeId::tq2_0:
        half(b + 64);
        break;
      case TypeId::mxfp4:
        b[0] = uint8_t(118 + random.bits() % 4);
        break;
      case TypeId::nvfp4:
        for (int g = 0; g < 4; ++g) b[g] &= 0x3f;
        break;
      case TypeId::iq1_m:  // d = 2^-7 or so, spread over the top nibbles
        for (int w = 0; w < 4; ++w)
          b[48 + 2 * w + 1] = uint8_t((b[48 + 2 * w + 1] & 15) | (0x2000 >> 4 * w & 15) << 4);
        b[48 + 7] = uint8_t((b[48 + 7] & 15) | 0x20);
        break;
      default:
        half(b);
        break;
    }
  }
  return file;
}

inline std::vector<float> decode_all(const MemoryFile& file) {
  std::vector<float> w(size_t(file.info.dims[0] * file.info.dims[1]), 0.0f);
  file.info.type->decode(file.bytes->data(), w.data(), int64_t(w.size()));
  return w;
}

inline std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  int count = 0;
  const kernels::Implementation* all = kernels::implementations(&count);
  for (int i = 0; i < count; ++i)
    if (all[i].supported) names.push_back(all[i].kernels->name);
  return names;
}

// Does the instruction set round the activations of such a matrix to BF16?
inline bool rounds_to_bf16(const std::string& isa, kernels::TypeId type) {
  return isa == "avx512bf16" && type == kernels::TypeId::bf16;
}

inline std::unique_ptr<Backend> cpu(const std::string& isa, int32_t threads = 2, bool repack = true) {
  CpuOptions options;
  options.threads = threads;
  options.instruction_set = isa;
  options.repack = repack;
  return make_cpu_backend(options);
}

}  // namespace inhouse::test
