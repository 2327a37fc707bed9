#include "test/native/random_model.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "kernels/quant/half.h"
#include "native/io/gguf.h"

namespace inhouse::test {
namespace {

using kernels::TypeId;

// Sets a block's scale (and minimum, to 7 scales) to about `scale`.
void set_scale(TypeId type, uint8_t* block, float scale) {
  const auto put = [&](int offset, float value) {
    const uint16_t half = kernels::float_to_half(value);
    std::memcpy(block + offset, &half, sizeof half);
  };
  switch (type) {
    case TypeId::q4_1:
    case TypeId::q5_1:
      put(0, scale);
      return put(2, -7 * scale);
    case TypeId::q4_k:
    case TypeId::q5_k:
      put(0, scale);
      return put(2, 7 * scale);
    case TypeId::q2_k:
      put(80, scale);
      return put(82, scale);
    case TypeId::q3_k:
      return put(108, scale);
    case TypeId::q6_k:
      return put(208, scale);
    case TypeId::tq1_0:
      return put(52, scale);
    case TypeId::tq2_0:
      return put(64, scale);
    case TypeId::mxfp4:
      block[0] = uint8_t(127 + std::ilogb(scale));
      return;
    case TypeId::nvfp4:
      for (int i = 0; i < 4; ++i) block[i] = uint8_t((7 + std::max(-6, std::ilogb(scale))) << 3 | 3);
      return;
    case TypeId::iq1_m: {
      const uint16_t half = kernels::float_to_half(scale);
      for (int word = 0; word < 4; ++word) {
        uint8_t& high = block[48 + 2 * word + 1];
        high = uint8_t((high & 0x0f) | (half >> (4 * word) & 0xf) << 4);
      }
      return;
    }
    default:
      return put(0, scale);
  }
}

class Writer {
 public:
  explicit Writer(std::ostream& out) : out_(out) {}

  template <class T>
  void raw(T value) {
    out_.write(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& value) {
    raw(uint64_t(value.size()));
    out_.write(value.data(), std::streamsize(value.size()));
  }
  void entry(const std::string& key, uint32_t value) {
    begin(key, GgufType::u32);
    raw(value);
  }
  void entry(const std::string& key, float value) {
    begin(key, GgufType::f32);
    raw(value);
  }
  void entry(const std::string& key, const std::string& value) {
    begin(key, GgufType::string);
    text(value);
  }
  void entry(const std::string& key, const std::vector<std::string>& values) {
    begin(key, GgufType::array);
    raw(uint32_t(GgufType::string));
    raw(uint64_t(values.size()));
    for (const std::string& value : values) text(value);
  }
  uint64_t entries() const { return entries_; }
  void bytes(const void* data, size_t count) {
    out_.write(static_cast<const char*>(data), std::streamsize(count));
  }
  // Does nothing where writing failed, after which there is no position.
  void align(uint64_t to) {
    const auto at = out_.tellp();
    if (at < 0) return;
    for (uint64_t rest = uint64_t(at) % to; rest != 0 && rest < to; ++rest) raw(uint8_t(0));
  }

 private:
  void begin(const std::string& key, GgufType type) {
    text(key);
    raw(uint32_t(type));
    ++entries_;
  }
  std::ostream& out_;
  uint64_t entries_ = 0;
};

// The 256 bytes as byte-level tokenizers write them (those that cannot be seen moved to U+0100 and on), then
// words.
std::vector<std::string> made_up_vocabulary(uint32_t size) {
  std::vector<std::string> tokens;
  const auto utf8 = [](uint32_t point) {
    return point < 0x80 ? std::string(1, char(point))
                        : std::string{char(0xc0 | point >> 6), char(0x80 | (point & 0x3f))};
  };
  uint32_t moved = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool seen = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    tokens.push_back(utf8(seen ? byte : moved++));
  }
  while (tokens.size() < size) tokens.push_back("word" + std::to_string(tokens.size()));
  tokens.resize(size);
  return tokens;
}

void write_metadata(const RandomModel& m, Writer& out) {
  const std::string p = m.architecture + ".";
  out.entry("general.architecture", m.architecture);
  out.entry(p + "block_count", m.layers);
  out.entry(p + "context_length", m.context);
  out.entry(p + "embedding_length", m.width);
  out.entry(p + "feed_forward_length", m.ffn_width);
  out.entry(p + "attention.head_count", m.heads);
  out.entry(p + "attention.head_count_kv", m.kv_heads);
  out.entry(p + "attention.key_length", m.head_dim);
  out.entry(p + "attention.value_length", m.head_dim);
  out.entry(p + "attention.layer_norm_rms_epsilon", 1e-5f);
  out.entry(p + "rope.freq_base", m.rope_base);
  if (m.window) out.entry(p + "attention.sliding_window", m.window);
  if (m.experts) {
    out.entry(p + "expert_count", m.experts);
    out.entry(p + "expert_used_count", m.experts_used);
    out.entry(p + "expert_feed_forward_length", m.ffn_width);
  }
  if (!m.tokenizer) return;
  out.entry("tokenizer.ggml.model", "gpt2");
  out.entry("tokenizer.ggml.pre", "gpt-2");
  out.entry("tokenizer.ggml.tokens", made_up_vocabulary(m.vocabulary));
  out.entry("tokenizer.ggml.merges", std::vector<std::string>{});
  out.entry("tokenizer.ggml.eos_token_id", m.vocabulary - 1);
}

struct Tensor {
  std::string name;
  int64_t cols, rows;  // rows 0: a vector
  TypeId type;
  int64_t stack = 0;  // more than 0: so many matrices
  int64_t elements() const { return cols * std::max<int64_t>(rows, 1) * std::max<int64_t>(stack, 1); }
  uint64_t bytes() const {
    const kernels::QuantType& t = *kernels::quant_type(uint32_t(type));
    if (cols % t.block_elements != 0) throw std::runtime_error(name + ": a row is no whole number of blocks");
    return uint64_t(elements()) / t.block_elements * t.block_bytes;
  }
};

std::vector<Tensor> tensors_of(const RandomModel& m) {
  const bool gemma = m.architecture == "gemma3";
  const int64_t q = int64_t(m.heads) * m.head_dim, kv = int64_t(m.kv_heads) * m.head_dim;
  std::vector<Tensor> all = {{"token_embd.weight", m.width, m.vocabulary, m.embedding_type},
                             {"output_norm.weight", m.width, 0, TypeId::f32}};
  if (!m.tied) all.push_back({"output.weight", m.width, m.vocabulary, m.matrix_type});
  for (uint32_t l = 0; l < m.layers; ++l) {
    const auto add = [&](const char* name, int64_t cols, int64_t rows) {
      all.push_back(
          {"blk." + std::to_string(l) + "." + name, cols, rows, rows ? m.matrix_type : TypeId::f32});
    };
    add("attn_norm.weight", m.width, 0);
    add("attn_q.weight", m.width, q);
    add("attn_k.weight", m.width, kv);
    add("attn_v.weight", m.width, kv);
    if (m.architecture == "qwen2") {
      add("attn_q.bias", q, 0);
      add("attn_k.bias", kv, 0);
      add("attn_v.bias", kv, 0);
    }
    if (gemma || m.architecture.starts_with("qwen3")) {
      add("attn_q_norm.weight", m.head_dim, 0);
      add("attn_k_norm.weight", m.head_dim, 0);
    }
    if (gemma) {
      add("post_attention_norm.weight", m.width, 0);
      add("post_ffw_norm.weight", m.width, 0);
    }
    add("attn_output.weight", q, m.width);
    add("ffn_norm.weight", m.width, 0);
    const std::string of = m.experts ? "_exps.weight" : ".weight";
    for (const char* name : {"ffn_gate", "ffn_up", "ffn_down"}) {
      const bool down = name == std::string("ffn_down");
      add((name + of).c_str(), down ? m.ffn_width : m.width, down ? m.width : m.ffn_width);
      all.back().stack = m.experts;
    }
    if (!m.experts) continue;
    add("ffn_gate_inp.weight", m.width, m.experts);
    all.back().type = TypeId::f32;
  }
  return all;
}

}  // namespace

void random_blocks(const kernels::QuantType& type, int64_t count, float rms, uint64_t seed, uint8_t* blocks) {
  std::mt19937_64 random(seed);
  if (type.id == TypeId::f32 || type.id == TypeId::f16 || type.id == TypeId::bf16) {
    std::normal_distribution<float> normal(0, rms);
    for (int64_t i = 0; i < count; ++i) {
      const float value = normal(random);
      const uint16_t bits =
          type.id == TypeId::f16 ? kernels::float_to_half(value) : kernels::float_to_bf16(value);
      if (type.id == TypeId::f32)
        std::memcpy(blocks + 4 * i, &value, 4);
      else
        std::memcpy(blocks + 2 * i, &bits, 2);
    }
    return;
  }
  const int64_t n = count / type.block_elements;
  const uint64_t bytes = uint64_t(n) * type.block_bytes;
  for (uint64_t i = 0; i < bytes; i += 8) {
    const uint64_t eight = random();
    std::memcpy(blocks + i, &eight, std::min<uint64_t>(8, bytes - i));
  }
  // The scale that gives the wanted size follows from the first block's size at scale 1/16.
  std::vector<float> decoded(type.block_elements);
  std::vector<uint8_t> probe(blocks, blocks + type.block_bytes);
  set_scale(type.id, probe.data(), 0.0625f);
  type.decode(probe.data(), decoded.data(), type.block_elements);
  double sum = 0;
  for (float value : decoded) sum += double(value) * double(value);
  const float scale = 0.0625f * rms / float(std::sqrt(sum / double(decoded.size())) + 1e-6);
  for (int64_t b = 0; b < n; ++b) set_scale(type.id, blocks + b * type.block_bytes, scale);
}

namespace {

void write_model(const RandomModel& m, const std::vector<Tensor>& tensors, const std::string& path) {
  std::ostringstream metadata;
  Writer entries(metadata);
  write_metadata(m, entries);
  errno = 0;
  std::ofstream file(path, std::ios::binary);
  // Said at once: gigabytes may be left to compute.
  const auto check = [&] {
    if (file) return;
    const std::string reason = errno ? std::string(": ") + std::strerror(errno) : "";
    throw std::runtime_error(path + " cannot be written" + reason);
  };
  check();
  Writer out(file);
  out.raw(uint32_t(0x46554747));  // "GGUF"
  out.raw(uint32_t(3));
  out.raw(uint64_t(tensors.size()));
  out.raw(entries.entries());
  const std::string text = metadata.str();
  out.bytes(text.data(), text.size());
  uint64_t offset = 0;
  for (const Tensor& t : tensors) {
    out.text(t.name);
    out.raw(uint32_t(t.stack ? 3 : t.rows ? 2 : 1));
    out.raw(uint64_t(t.cols));
    if (t.rows) out.raw(uint64_t(t.rows));
    if (t.stack) out.raw(uint64_t(t.stack));
    out.raw(uint32_t(t.type));
    out.raw(offset);
    offset += (t.bytes() + 31) / 32 * 32;
  }
  uint64_t seed = m.seed;
  for (const Tensor& t : tensors) {
    out.align(32);
    std::vector<uint8_t> blocks(t.bytes());
    const bool gain = t.rows == 0 && t.name.find("norm") != std::string::npos;
    random_blocks(*kernels::quant_type(uint32_t(t.type)), t.elements(), 1.0f / std::sqrt(float(t.cols)),
                  ++seed, blocks.data());
    if (gain) {
      for (int64_t i = 0; i < t.elements(); ++i) {
        const float one = 1.0f + 0.1f * float(int(i % 7) - 3);
        std::memcpy(blocks.data() + 4 * i, &one, 4);
      }
    }
    out.bytes(blocks.data(), blocks.size());
    check();
  }
  out.align(32);
  file.close();
  check();
}

}  // namespace

void write_random_model(const RandomModel& m, const std::string& path) {
  const std::vector<Tensor> tensors = tensors_of(m);
  for (const Tensor& t : tensors) t.bytes();  // what cannot be is said before anything is written
  const std::filesystem::path target(path);
  if (std::filesystem::exists(target) && !std::filesystem::is_regular_file(target))
    throw std::runtime_error(path + " is in the way: expected a file, or nothing");
  const std::string partial = path + ".partial";
  try {
    write_model(m, tensors, partial);
    std::filesystem::rename(partial, target);
  } catch (...) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(partial, ignored)) std::filesystem::remove(partial, ignored);
    throw;
  }
}

}  // namespace inhouse::test
