// The decoders bit for bit against the Python gguf package (test/golden/quant.bin, scripts/golden/quant.py).
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "kernels/quant/half.h"
#include "kernels/quant/types.h"
#include "test/native/check.h"

using namespace inhouse::kernels;

namespace {

uint64_t mix(uint64_t index) {
  uint64_t z = (index + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

std::vector<uint8_t> random_bytes(uint64_t seed, size_t count) {
  std::vector<uint8_t> out((count + 7) / 8 * 8);
  for (size_t i = 0; i < out.size() / 8; ++i) {
    const uint64_t word = mix(i + (seed << 32));
    std::memcpy(&out[i * 8], &word, 8);
  }
  out.resize(count);
  return out;
}

uint32_t bits(float value) {
  return std::isnan(value) ? 0x7fc00000u : bits_of_float(value);
}

std::vector<uint32_t> decoded(const QuantType& type, const std::vector<uint8_t>& blocks) {
  const size_t count = blocks.size() / type.block_bytes * type.block_elements;
  std::vector<float> values(count);
  type.decode(blocks.data(), values.data(), int64_t(count));
  std::vector<uint32_t> out;
  for (const float value : values) out.push_back(bits(value));
  return out;
}

uint64_t checksum(const std::vector<uint32_t>& words) {
  uint64_t sum = 0;
  for (size_t i = 0; i < words.size(); ++i) sum += words[i] * mix(i);
  return sum;
}

std::vector<uint32_t> random_words(char seed) {
  const std::vector<uint8_t> bytes = random_bytes(uint64_t(seed), size_t(4) << 20);
  std::vector<uint32_t> words(bytes.size() / 4);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

std::vector<uint32_t> encoded(uint32_t encoder) {
  std::vector<uint32_t> out;
  if (encoder == 0x1003) {
    std::vector<float> values;
    for (const uint32_t word : random_words('q')) {
      values.push_back(float_of_bits((word & 0x8007ffffu) | (112 + (word >> 23) % 24) << 23));
    }
    std::vector<uint16_t> blocks(values.size() / 32 * sizeof(BlockQ8_0) / 2);
    encode_q8_0(values.data(), blocks.data(), int64_t(values.size()));
    out.assign(blocks.begin(), blocks.end());
  } else {
    const bool half = encoder == 0x1001;
    for (const uint32_t word : random_words(half ? 'f' : 'b')) {
      const float value = float_of_bits(word);
      const uint16_t result = half ? float_to_half(value) : float_to_bf16(value);
      if (std::isnan(value)) CHECK(std::isnan(half ? half_to_float(result) : bf16_to_float(result)));
      out.push_back(std::isnan(value) ? half ? 0x7e00u : 0x7fc0u : result);
    }
  }
  return out;
}

struct Reader {
  std::string bytes;
  size_t at = 0;
  template <class T>
  T take() {
    T value = {};
    copy(&value, sizeof value);
    return value;
  }
  void copy(void* dst, size_t count) {
    if (count > bytes.size() - at) return inhouse::test::fail(__FILE__, __LINE__, "quant.bin is too short");
    std::memcpy(dst, bytes.data() + at, count);
    at += count;
  }
};

}  // namespace

TEST(decoding_equals_the_reference_bit_for_bit) {
  std::ifstream file("test/golden/quant.bin", std::ios::binary);
  Reader in{{std::istreambuf_iterator<char>(file), {}}};
  char magic[4] = {};
  in.copy(magic, 4);
  CHECK(std::memcmp(magic, "IHQG", 4) == 0);
  const uint32_t count = in.take<uint32_t>();
  uint32_t known = 0, types_seen = 0;
  quant_types(&known);
  for (uint32_t i = 0; i < count && in.at < in.bytes.size(); ++i) {
    const uint32_t id = in.take<uint32_t>(), shown = in.take<uint32_t>(), hashed = in.take<uint32_t>();
    in.take<uint32_t>();
    const uint64_t expected_sum = in.take<uint64_t>();
    if (id > 0x1000) {
      if (checksum(encoded(id)) != expected_sum) CHECK_EQ(std::string("encoder"), std::to_string(id));
      continue;
    }
    const QuantType* type = quant_type(id);
    CHECK(type != nullptr);
    if (!type) return;
    ++types_seen;
    std::vector<uint8_t> blocks(size_t(shown) * type->block_bytes);
    in.copy(blocks.data(), blocks.size());
    std::vector<uint32_t> expected(size_t(shown) * type->block_elements);
    in.copy(expected.data(), expected.size() * 4);
    const std::vector<uint32_t> got = decoded(*type, blocks);
    for (size_t k = 0; k < got.size(); ++k) {
      if (got[k] == expected[k]) continue;
      CHECK_EQ(std::string(type->name) + " element " + std::to_string(k) + " " + std::to_string(got[k]),
               std::to_string(expected[k]));
      break;
    }
    std::vector<uint8_t> many = random_bytes(id + 100, size_t(hashed) * type->block_bytes);
    if (type->id == TypeId::f16) {  // all values there are
      for (uint32_t v = 0; v < 65536; ++v) many[v * 2] = uint8_t(v), many[v * 2 + 1] = uint8_t(v >> 8);
    }
    if (checksum(decoded(*type, many)) != expected_sum) CHECK_EQ(type->name, std::string("checksum"));
  }
  CHECK_EQ(types_seen, known);
  CHECK_EQ(in.at, in.bytes.size());
}

TEST(every_half_survives_the_way_there_and_back) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float value = half_to_float(uint16_t(h));
    if (std::isnan(value)) {
      CHECK(std::isnan(half_to_float(float_to_half(value))));
      continue;
    }
    if (float_to_half(value) != h) CHECK_EQ(float_to_half(value), h);
  }
}

TEST(halves_round_to_nearest_even) {
  // Between neighbours: the middle goes to the even one, a little off the middle to the nearer one.
  for (uint32_t h = 0; h < 0x7c00; ++h) {
    const float low = half_to_float(uint16_t(h));
    const float high = h == 0x7bff ? 65536.0f : half_to_float(uint16_t(h + 1));
    const float middle = (low + high) / 2;  // exact: both have few digits
    const uint16_t even = uint16_t(h % 2 ? h + 1 : h);
    bool good = float_to_half(middle) == even && float_to_half(std::nextafterf(middle, 0.0f)) == h &&
                float_to_half(std::nextafterf(middle, 1e9f)) == h + 1;
    good &= float_to_half(-middle) == (even | 0x8000);
    if (!good) CHECK_EQ(std::string("rounding above"), std::to_string(h));
  }
  CHECK_EQ(float_to_half(1e30f), 0x7c00);
  CHECK_EQ(float_to_half(-std::numeric_limits<float>::infinity()), 0xfc00);
  CHECK_EQ(float_to_half(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(q8_0_keeps_what_it_cannot_hold_visible) {
  float values[32] = {};
  BlockQ8_0 block;
  const auto decoded_at = [&](int i) {
    encode_q8_0(values, &block, 32);
    float out[32];
    decode_q8_0(&block, out, 32);
    return out[i];
  };
  CHECK_EQ(decoded_at(0), 0.0f);
  values[5] = 1e-42f;  // subnormal: too small for the scale
  CHECK_EQ(decoded_at(5), 0.0f);
  values[5] = -127.0f;
  CHECK_EQ(decoded_at(5), -127.0f);
  CHECK_EQ(decoded_at(4), 0.0f);
  values[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(decoded_at(0)));
  values[7] = -std::numeric_limits<float>::infinity();
  CHECK(std::isnan(decoded_at(31)));
}

TEST(q4_0_rounds_to_the_nearest_of_sixteen) {
  float values[32] = {}, out[32];
  BlockQ4_0 block;
  const auto round_trip = [&] {
    encode_q4_0(values, &block, 32);
    decode_q4_0(&block, out, 32);
  };
  round_trip();
  for (const float x : out) CHECK_EQ(x, 0.0f);
  // The greatest magnitude becomes -8 steps exactly, of whichever sign; what would be 8 steps becomes 7.
  for (int i = 0; i < 32; ++i) values[i] = float(i) - 8;
  for (int i = 16; i < 32; ++i) values[i] = 0.5f * float(i - 24);
  values[15] = 8;  // as great as the first, which counts
  round_trip();
  CHECK_EQ(block.d, float_to_half(1.0f));
  for (int i = 0; i < 15; ++i) CHECK_EQ(out[i], values[i]);
  CHECK_EQ(out[15], 7.0f);
  for (int i = 16; i < 32; ++i) CHECK_EQ(out[i], std::floor(values[i] + 0.5f));
  for (float& x : values) x = -x;
  round_trip();
  CHECK_EQ(block.d, float_to_half(-1.0f));
  CHECK_EQ(out[0], 8.0f);
  values[3] = 1e-42f;
  for (float& x : values) x = x == 1e-42f ? x : 0;
  round_trip();
  CHECK_EQ(out[3], 0.0f);
  values[7] = std::numeric_limits<float>::quiet_NaN();
  round_trip();
  CHECK(std::isnan(out[0]) && std::isnan(out[31]));
  values[7] = -std::numeric_limits<float>::infinity();
  round_trip();
  CHECK(std::isnan(out[0]) && std::isnan(out[31]));
}

TEST(types_have_their_sizes_and_names) {
  uint32_t count = 0;
  const QuantType* const* types = quant_types(&count);
  CHECK_EQ(count, 26u);
  for (uint32_t i = 0; i < count; ++i) {
    CHECK(quant_type(uint32_t(types[i]->id)) == types[i]);
    CHECK(types[i]->block_elements > 0 && types[i]->block_bytes > 0 && types[i]->name[0] != 0);
  }
  for (const uint32_t id : {4u, 5u, 9u, 15u, 24u, 28u, 31u, 38u, 41u, 0xffffffffu}) {
    CHECK(quant_type(id) == nullptr);
  }
}
