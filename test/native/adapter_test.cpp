// LoRA adapters against the same weights merged into the model, on every path; in one batch; and files that
// are none.
#include "native/model/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>

#include "kernels/quant/half.h"
#include "native/engine/engine.h"
#include "native/model/forward.h"
#include "test/native/check.h"
#include "test/native/gguf_writer.h"
#include "test/native/random_model.h"
#include "test/native/temp_path.h"

using namespace inhouse;
using namespace inhouse::test;
using kernels::TypeId;

namespace {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes = "") : path(temp_path("adapter")) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  ~TemporaryFile() { std::filesystem::remove(path); }
  std::string bytes() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  const std::string path;
};

std::shared_ptr<const Model> load_model(const std::string& path, Device device, CpuOptions cpu = {}) {
  ModelOptions options;
  options.path = path;
  options.device = device;
  options.cpu = cpu;
  return Model::load(options, {});
}

// One low-rank pair in float32: a [rank, in], b [out, rank].
struct Pair {
  std::string weight;  // "blk.0.attn_q.weight"
  int64_t rank, in, out;
  std::vector<float> a, b;
};

// What is changed of a model of this shape, every layer in its own way; heads: where output.weight stands.
std::vector<Pair> random_pairs(const RandomModel& m, int64_t rank, uint64_t seed, bool heads = false) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  const int64_t q = int64_t(m.heads) * m.head_dim, kv = int64_t(m.kv_heads) * m.head_dim;
  std::vector<Pair> pairs;
  const auto add = [&](const std::string& weight, int64_t in, int64_t out, int64_t r) {
    Pair pair{weight, r, in, out, std::vector<float>(size_t(r * in)), std::vector<float>(size_t(out * r))};
    for (float& x : pair.a) x = normal(random) / std::sqrt(float(in));
    for (float& x : pair.b) x = 0.3f * normal(random);
    pairs.push_back(std::move(pair));
  };
  for (uint32_t l = 0; l < m.layers; ++l) {
    const std::string blk = "blk." + std::to_string(l) + ".";
    add(blk + "attn_q.weight", m.width, q, rank);
    if (l != 1) add(blk + "attn_k.weight", m.width, kv, rank + 3);  // ranks may differ, pairs may be missing
    add(blk + "attn_v.weight", m.width, kv, rank);
    add(blk + "attn_output.weight", q, m.width, rank);
    if (m.experts) continue;
    if (l != 0) add(blk + "ffn_gate.weight", m.width, m.ffn_width, rank);
    add(blk + "ffn_up.weight", m.width, m.ffn_width, rank);
    add(blk + "ffn_down.weight", m.ffn_width, m.width, rank);
  }
  if (heads) add("output.weight", m.width, m.vocabulary, rank);
  return pairs;
}

std::string blocks(const std::vector<float>& values, TypeId type) {
  std::string out;
  for (const float value : values) {
    if (type == TypeId::f32) out += f32(value);
    if (type == TypeId::f16) out += u16(kernels::float_to_half(value));
    if (type == TypeId::bf16) out += u16(kernels::float_to_bf16(value));
  }
  return out;
}

struct Header {
  std::string architecture = "llama", general_type = "adapter", adapter_type = "lora";
  float alpha = 16;
};

std::string adapter_bytes(const std::vector<Pair>& pairs, const Header& header, TypeId type = TypeId::f32) {
  GgufBytes file;
  file.entries = {entry_text("general.architecture", header.architecture),
                  entry_text("general.type", header.general_type),
                  entry_text("adapter.type", header.adapter_type),
                  entry("adapter.lora.alpha", GgufType::f32, f32(header.alpha))};
  std::string data;
  const auto add = [&](const std::string& name, int64_t cols, int64_t rows,
                       const std::vector<float>& values) {
    data.resize((data.size() + 31) / 32 * 32);
    file.tensors.push_back(tensor(name, {uint64_t(cols), uint64_t(rows)}, uint32_t(type), data.size()));
    data += blocks(values, type);
  };
  for (const Pair& p : pairs) {
    add(p.weight + ".lora_a", p.in, p.rank, p.a);
    add(p.weight + ".lora_b", p.rank, p.out, p.b);
  }
  std::string out = file.build();
  out.resize((out.size() + 31) / 32 * 32);
  data.resize((data.size() + 31) / 32 * 32);
  return out + data;
}

std::shared_ptr<const Adapter> load_adapter(const std::shared_ptr<const Model>& model,
                                            const std::string& bytes) {
  return Adapter::load(model, gguf_adapter(open_in_memory("a.gguf", {{"a.gguf", bytes}}), *model), {});
}

// The file of a float32 model with scale * B A added to its weights, summed in double.
std::string merged(const TemporaryFile& base, const std::vector<Pair>& pairs, float alpha, double scale) {
  std::string bytes = base.bytes();
  const std::shared_ptr<GgufFile> file = GgufFile::open(base.path);
  for (const Pair& p : pairs) {
    const TensorInfo* tensor = file->tensor(p.weight);
    for (int64_t o = 0; o < p.out; ++o) {
      for (int64_t i = 0; i < p.in; ++i) {
        double sum = 0;
        for (int64_t r = 0; r < p.rank; ++r)
          sum += double(p.b[size_t(o * p.rank + r)]) * double(p.a[size_t(r * p.in + i)]);
        char* at = bytes.data() + tensor->offset + uint64_t(o * p.in + i) * 4;
        float weight;
        std::memcpy(&weight, at, 4);
        weight = float(double(weight) + scale * double(alpha) / double(p.rank) * sum);
        std::memcpy(at, &weight, 4);
      }
    }
  }
  return bytes;
}

struct Sequence {
  std::vector<int32_t> tokens;
  const Adapter* adapter = nullptr;
  float scale = 1;
  bool last_only = false;  // logits of the last token alone
};

std::vector<int32_t> some_tokens(int32_t count, int32_t salt) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((i * 37 + salt * 101 + 5) % 200);
  return tokens;
}

// Logits of each sequence, all computed in one step.
std::vector<std::vector<float>> logits_of(const Model& model, const std::vector<Sequence>& sequences) {
  const HyperParameters& h = model.hyper();
  std::vector<int32_t> tokens, positions, outputs;
  std::vector<std::vector<int32_t>> blocks_of(sequences.size());
  std::vector<std::vector<const int32_t*>> tables(sequences.size());
  std::vector<SequenceSlice> slices;
  int32_t blocks_used = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Sequence& sequence = sequences[s];
    const int32_t count = int32_t(sequence.tokens.size());
    for (int32_t b = 0; b * kKvBlockTokens < count; ++b) blocks_of[s].push_back(blocks_used++);
    tables[s].assign(h.kv_groups.size(), blocks_of[s].data());
    slices.push_back({int32_t(tokens.size()), count, 0, tables[s].data(), sequence.adapter, sequence.scale});
    for (int32_t i = 0; i < count; ++i) {
      if (!sequence.last_only || i + 1 == count) outputs.push_back(int32_t(tokens.size()));
      tokens.push_back(sequence.tokens[size_t(i)]);
      positions.push_back(i);
    }
  }
  std::vector<std::unique_ptr<KvPool>> pools;
  for (const KvGroup& group : h.kv_groups)
    pools.push_back(model.backend().make_kv_pool(
        {group.layers, h.kv_heads, h.head_dim, h.head_dim_v, KvType::f32, KvType::f32, group.window},
        blocks_used));
  constexpr int32_t kRows = 7;  // of logits at a time
  ForwardPass pass(model, int32_t(tokens.size()), kRows);
  model.backend().begin_step();
  CHECK(pass.run({tokens, positions, slices, outputs}, pools, std::atomic<bool>(false)));
  std::vector<float> all;
  for (int32_t first = 0; first < int32_t(outputs.size()); first += kRows) {
    const std::span<const float> some = pass.logits(first, std::min(kRows, int32_t(outputs.size()) - first));
    all.insert(all.end(), some.begin(), some.end());
  }
  model.backend().end_step();
  std::vector<std::vector<float>> result;
  auto from = all.begin();
  for (const Sequence& sequence : sequences) {
    const auto to = from + int64_t(sequence.last_only ? 1 : sequence.tokens.size()) * h.vocabulary;
    result.emplace_back(from, to);
    from = to;
  }
  return result;
}

std::vector<float> logits_of(const Model& model, const Sequence& sequence) {
  return logits_of(model, std::vector<Sequence>{sequence})[0];
}

// The norm of the difference over the norm of what is expected.
double error_of(const std::vector<float>& given, const std::vector<float>& expected) {
  CHECK_EQ(given.size(), expected.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(double(given[i]) - double(expected[i]), 2);
    size += std::pow(double(expected[i]), 2);
  }
  return std::sqrt(difference / size);
}

void check_below(const std::string& what, double error, double most) {
  if (!(error < most))
    fail(__FILE__, __LINE__, what + ": error " + std::to_string(error / most) + " times what is allowed");
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

RandomModel shape_of(const std::string& architecture) {
  RandomModel shape;
  shape.architecture = architecture;
  shape.layers = 3;
  shape.tied = architecture == "gemma3";
  if (architecture == "gemma3") shape.window = 8;
  if (architecture == "qwen3moe") shape.experts = 4, shape.experts_used = 2;
  return shape;
}

// Rows of each head from pairs to halves: what converters to GGUF have undone.
std::vector<float> deinterleave(const std::vector<float>& rows, int64_t head_dim, int64_t cols) {
  std::vector<float> out(rows.size());
  const int64_t half = head_dim / 2;
  for (int64_t r = 0; r < int64_t(rows.size()) / cols; ++r) {
    const int64_t d = r % head_dim, to = r - d + d % 2 * half + d / 2;
    std::copy_n(rows.begin() + r * cols, cols, out.begin() + to * cols);
  }
  return out;
}

}  // namespace

TEST(an_adapter_equals_the_merged_weights) {
  for (const char* architecture : {"llama", "qwen2", "qwen3", "qwen3moe", "gemma3"}) {
    const RandomModel shape = shape_of(architecture);
    const TemporaryFile base;
    write_random_model(shape, base.path);
    const std::vector<Pair> pairs = random_pairs(shape, 8, 5, !shape.tied);
    const std::string bytes = adapter_bytes(pairs, {architecture});
    for (const float scale : {1.0f, -0.5f}) {
      const TemporaryFile whole(merged(base, pairs, 16, double(scale)));
      const Sequence plain{some_tokens(40, 1)};
      const std::vector<float> expected = logits_of(*load_model(whole.path, Device::reference), plain);
      for (const Device device : {Device::reference, Device::cpu}) {
        const std::shared_ptr<const Model> model = load_model(base.path, device);
        const std::shared_ptr<const Adapter> adapter = load_adapter(model, bytes);
        CHECK_EQ(adapter->rank(), 11);
        CHECK(adapter->bytes() > 0);
        const std::string what = std::string(architecture) + " " + model->backend().name();
        const std::vector<float> given = logits_of(*model, {plain.tokens, adapter.get(), scale});
        check_below(what, error_of(given, expected), 1e-5);
        // The adapter matters: without it the answer is another.
        CHECK(error_of(logits_of(*model, plain), expected) > 0.05);
        // Past the last layer's attention only the rows of outputs are left.
        const std::vector<float> last = logits_of(*model, {plain.tokens, adapter.get(), scale, true});
        CHECK(same_bits(last, {given.end() - int64_t(shape.vocabulary), given.end()}));
      }
    }
  }
}

TEST(on_quantized_weights_the_cpu_is_as_close_as_without_an_adapter) {
  for (const TypeId type : {TypeId::q8_0, TypeId::q4_1, TypeId::q4_k}) {
    RandomModel shape = shape_of("llama");
    shape.width = 256;
    shape.ffn_width = 512;
    shape.head_dim = 64;
    shape.matrix_type = type;
    const TemporaryFile base;
    write_random_model(shape, base.path);
    const std::string bytes = adapter_bytes(random_pairs(shape, 16, 6, true), {});
    const auto reference = load_model(base.path, Device::reference), cpu = load_model(base.path, Device::cpu);
    const auto exact = load_adapter(reference, bytes), fast = load_adapter(cpu, bytes);
    const Sequence plain{some_tokens(60, 2)};
    const double without = error_of(logits_of(*cpu, plain), logits_of(*reference, plain));
    const double with = error_of(logits_of(*cpu, {plain.tokens, fast.get()}),
                                 logits_of(*reference, {plain.tokens, exact.get()}));
    check_below(kernels::quant_type(uint32_t(type))->name, with, 1.25 * without);
  }
}

TEST(half_precision_and_quantized_adapters) {
  const RandomModel shape = shape_of("qwen2");
  const TemporaryFile base;
  write_random_model(shape, base.path);
  for (const TypeId type : {TypeId::f16, TypeId::bf16}) {
    std::vector<Pair> pairs = random_pairs(shape, 5, 7, true);
    const std::string bytes = adapter_bytes(pairs, {"qwen2"}, type);
    for (Pair& p : pairs) {
      for (auto* values : {&p.a, &p.b}) {
        const std::string raw = blocks(*values, type);
        kernels::quant_type(uint32_t(type))->decode(raw.data(), values->data(), int64_t(values->size()));
      }
    }
    const std::string exact = adapter_bytes(pairs, {"qwen2"});
    for (const Device device : {Device::reference, Device::cpu}) {
      const auto model = load_model(base.path, device);
      const auto narrow = load_adapter(model, bytes), wide = load_adapter(model, exact);
      CHECK(narrow->bytes() < wide->bytes());
      // Where the processor multiplies BF16 itself, activations are rounded to it as well.
      const auto got = logits_of(*model, {some_tokens(20, 3), narrow.get()}),
                 expected = logits_of(*model, {some_tokens(20, 3), wide.get()});
      if (device == Device::cpu && type == TypeId::bf16) {
        check_below("BF16", error_of(got, expected), 3e-2);
      } else {
        CHECK(same_bits(got, expected));
      }
    }
  }
  // Quantized ones become float32.
  const int64_t width = shape.width;
  const kernels::QuantType& q8 = *kernels::quant_type(uint32_t(TypeId::q8_0));
  Pair pair{"blk.0.attn_output.weight", 32, width, width, {}, {}};
  std::string raw[2];
  std::vector<float>* decoded[2] = {&pair.a, &pair.b};
  for (int i = 0; i < 2; ++i) {
    raw[i].resize(size_t(32 * width / 32 * q8.block_bytes));
    random_blocks(q8, 32 * width, 0.1f, uint64_t(i), reinterpret_cast<uint8_t*>(raw[i].data()));
    decoded[i]->resize(size_t(32 * width));
    q8.decode(raw[i].data(), decoded[i]->data(), 32 * width);
  }
  GgufBytes file;
  file.entries = {entry_text("general.architecture", "qwen2"), entry_text("general.type", "adapter"),
                  entry_text("adapter.type", "lora"), entry("adapter.lora.alpha", GgufType::f32, f32(16))};
  file.tensors = {
      tensor(pair.weight + ".lora_a", {uint64_t(width), 32}, uint32_t(TypeId::q8_0), 0),
      tensor(pair.weight + ".lora_b", {32, uint64_t(width)}, uint32_t(TypeId::q8_0), raw[0].size())};
  CHECK_EQ(raw[0].size() % 32, 0u);
  std::string bytes = file.build();
  bytes.resize((bytes.size() + 31) / 32 * 32);
  const auto model = load_model(base.path, Device::cpu);
  const auto quantized = load_adapter(model, bytes + raw[0] + raw[1]);
  const auto wide = load_adapter(model, adapter_bytes({pair}, {"qwen2"}));
  CHECK(same_bits(logits_of(*model, {some_tokens(9, 3), quantized.get()}),
                  logits_of(*model, {some_tokens(9, 3), wide.get()})));
}

TEST(adapters_in_one_batch_do_not_touch_each_other) {
  RandomModel shape = shape_of("llama");
  const TemporaryFile base;
  write_random_model(shape, base.path);
  for (const Device device : {Device::reference, Device::cpu}) {
    for (const int32_t threads : {1, 2}) {
      CpuOptions cpu;
      cpu.threads = threads;
      const auto model = load_model(base.path, device, cpu);
      const auto one = load_adapter(model, adapter_bytes(random_pairs(shape, 4, 11, true), {}));
      const auto two = load_adapter(model, adapter_bytes(random_pairs(shape, 20, 12), {}, TypeId::f16));
      CHECK(one->id() != two->id());
      const std::vector<Sequence> sequences = {
          {some_tokens(1, 1), one.get(), 1},       {some_tokens(33, 2), nullptr, 1, true},
          {some_tokens(5, 3), two.get(), 1},       {some_tokens(70, 4), two.get(), 1, true},
          {some_tokens(1, 5), two.get(), 2, true}, {some_tokens(17, 6), one.get(), -1},
          {some_tokens(17, 6), nullptr, 1},        {some_tokens(3, 7), one.get(), 0},
      };
      const auto together = logits_of(*model, sequences);
      for (size_t s = 0; s < sequences.size(); ++s)
        CHECK(same_bits(together[s], logits_of(*model, sequences[s])));
      CHECK(!same_bits(together[5], together[6]));
      CHECK(same_bits(together[7], logits_of(*model, {some_tokens(3, 7)})));
    }
  }
}

TEST(ranks_too_large_for_all_rows_at_once) {
  RandomModel shape = shape_of("llama");
  shape.layers = 1;
  const TemporaryFile base;
  write_random_model(shape, base.path);
  const auto model = load_model(base.path, Device::cpu);
  const std::string bytes = adapter_bytes(random_pairs(shape, 6000, 13), {"llama", "adapter", "lora", 100});
  const auto adapter = load_adapter(model, bytes);
  CHECK_EQ(adapter->rank(), 6003);
  const std::vector<float> all = logits_of(*model, {some_tokens(120, 1), adapter.get()});
  const std::vector<float> first = logits_of(*model, {some_tokens(1, 1), adapter.get()});
  CHECK(same_bits(first, {all.begin(), all.begin() + int64_t(shape.vocabulary)}));
}

TEST(mapped_models_take_adapters_too) {
  const RandomModel shape = shape_of("llama");
  const TemporaryFile base;
  write_random_model(shape, base.path);
  const std::string bytes = adapter_bytes(random_pairs(shape, 8, 14, true), {});
  CpuOptions mapped;
  mapped.repack = false;
  for (const Device device : {Device::reference, Device::cpu}) {
    const auto model = load_model(base.path, device), other = load_model(base.path, device, mapped);
    const auto packed = load_adapter(model, bytes), kept = load_adapter(other, bytes);
    CHECK_EQ(packed->bytes(), kept->bytes());
    CHECK(same_bits(logits_of(*model, {some_tokens(20, 1), packed.get()}),
                    logits_of(*other, {some_tokens(20, 1), kept.get()})));
  }
}

namespace {

// The pairs as PEFT writes them: one file of raw tensors, with rows of Q and K in halves.
struct Safetensors {
  std::string bytes = std::string(16, 'x');  // in place of a header
  std::vector<SafetensorsPair> pairs;

  Safetensors(const std::vector<Pair>& from, const RandomModel& m, float alpha) {
    static const std::pair<const char*, LoraTarget> targets[] = {
        {"attn_q", LoraTarget::q},      {"attn_k", LoraTarget::k},      {"attn_v", LoraTarget::v},
        {"attn_o", LoraTarget::output}, {"ffn_gate", LoraTarget::gate}, {"ffn_up", LoraTarget::up},
        {"ffn_down", LoraTarget::down}, {"output", LoraTarget::head}};
    for (const Pair& p : from) {
      SafetensorsPair& pair = pairs.emplace_back();
      for (const auto& [name, target] : targets) {
        if (p.weight.find(std::string(name)) == std::string::npos) continue;
        pair.target = target;
        break;
      }
      if (pair.target != LoraTarget::head) pair.layer = p.weight[4] - '0';
      pair.scale = double(alpha) / double(p.rank);
      const bool rotated = pair.target == LoraTarget::q || pair.target == LoraTarget::k;
      pair.a = {p.weight + ".A", "F32", p.rank, p.in, bytes.size()};
      bytes += blocks(p.a, TypeId::f32);
      pair.b = {p.weight + ".B", "F32", p.out, p.rank, bytes.size()};
      bytes += blocks(rotated && m.architecture == "llama" ? deinterleave(p.b, m.head_dim, p.rank) : p.b,
                      TypeId::f32);
    }
  }
};

}  // namespace

TEST(safetensors_give_what_gguf_gives) {
  for (const char* architecture : {"llama", "qwen2"}) {
    const RandomModel shape = shape_of(architecture);
    const TemporaryFile base;
    write_random_model(shape, base.path);
    const std::vector<Pair> pairs = random_pairs(shape, 8, 15, true);
    const Safetensors peft(pairs, shape, 16);
    const TemporaryFile file(peft.bytes);
    const auto model = load_model(base.path, Device::reference);
    const auto given =
        Adapter::load(model, safetensors_adapter(file.path, peft.bytes.size(), peft.pairs), {});
    const auto expected = load_adapter(model, adapter_bytes(pairs, {architecture}));
    CHECK(same_bits(logits_of(*model, {some_tokens(20, 1), given.get()}),
                    logits_of(*model, {some_tokens(20, 1), expected.get()})));
  }
}

TEST(the_engine_takes_adapters_of_its_model_alone) {
  const RandomModel shape = shape_of("llama");
  const TemporaryFile base;
  write_random_model(shape, base.path);
  ModelOptions options;
  options.path = base.path;
  options.device = Device::reference;
  const std::shared_ptr<Model> model = Model::load(options, {}), other = Model::load(options, {});
  const std::string bytes = adapter_bytes(random_pairs(shape, 8, 16), {});
  class Ignore final : public EventSink {
    void on_events(std::vector<Event>&&) override {}
  } sink;
  const auto engine = Engine::create(model, {}, {}, sink);
  RequestSpec spec;
  spec.prompt = {1, 2, 3};
  spec.max_tokens = 2;
  spec.adapter = load_adapter(other, bytes);
  check_error("another model's", Code::invalid_argument, {"another model"}, [&] { engine->submit(spec); });
  spec.adapter = load_adapter(model, bytes);
  spec.adapter_scale = NAN;
  check_error("no number", Code::invalid_argument, {"scale"}, [&] { engine->submit(spec); });
  spec.adapter_scale = 1;
  engine->submit(spec);
}

TEST(files_that_are_no_adapter_of_the_model) {
  const RandomModel shape = shape_of("llama");
  const TemporaryFile base;
  write_random_model(shape, base.path);
  const auto model = load_model(base.path, Device::reference);
  const std::vector<Pair> good = random_pairs(shape, 4, 17);
  const auto refused = [&](const char* what, const std::string& bytes, const std::vector<std::string>& parts,
                           Code code = Code::adapter_invalid) {
    check_error(what, code, parts, [&] { load_adapter(model, bytes); });
  };
  const auto with = [&](auto change) {
    std::vector<Pair> pairs = good;
    change(pairs[0]);
    return adapter_bytes(pairs, {});
  };
  CHECK(load_adapter(model, adapter_bytes(good, {})) != nullptr);
  refused("a model", adapter_bytes(good, {"llama", "model"}), {"general.type", "\"model\"", "\"adapter\""});
  refused("a control vector", adapter_bytes(good, {"llama", "adapter", "control_vector"}), {"adapter.type"});
  refused("other architecture", adapter_bytes(good, {"qwen2"}), {"general.architecture", "qwen2", "llama"});
  refused("nothing in it", adapter_bytes({}, {}), {"no LoRA matrices"});
  refused("alpha infinite", adapter_bytes(good, {"llama", "adapter", "lora", INFINITY}),
          {"adapter.lora.alpha"}, Code::gguf_invalid);
  refused("the base model", base.bytes(), {"general.type is missing"});

  refused("a layer too many", with([](Pair& p) { p.weight = "blk.3.attn_q.weight"; }), {"blk.3.attn_q"});
  refused("a number of another spelling", with([](Pair& p) { p.weight = "blk.00.attn_q.weight"; }),
          {"blk.00"});
  refused("embeddings", with([](Pair& p) { p.weight = "token_embd.weight"; }), {"token_embd"});
  refused("norms", with([](Pair& p) { p.weight = "blk.0.attn_norm.weight"; }), {"attn_norm"});
  refused("experts", with([](Pair& p) { p.weight = "blk.0.ffn_up_exps.weight"; }), {"ffn_up_exps"});
  refused("too narrow", with([](Pair& p) {
            p.in -= 1;
            p.a.resize(size_t(p.rank * p.in));
          }),
          {"attn_q.weight.lora_a", "[4, 63]", "[4, 64]"});
  refused("too tall", with([](Pair& p) {
            p.out += 1;
            p.b.resize(size_t(p.rank * p.out));
          }),
          {"attn_q.weight.lora_b", "[65, 4]", "[64, 4]"});

  const auto header = [](std::vector<std::string> tensors, uint64_t data) {
    GgufBytes file;
    file.entries = {entry_text("general.architecture", "llama"), entry_text("general.type", "adapter"),
                    entry_text("adapter.type", "lora"), entry("adapter.lora.alpha", GgufType::f32, f32(16))};
    file.tensors = std::move(tensors);
    file.data = data;
    return file;
  };
  const std::string a = "blk.0.attn_v.weight.lora_a", b = "blk.0.attn_v.weight.lora_b";
  refused("half a pair", header({tensor(a, {64, 4}, 0, 0)}, 1024).build(), {"lora_b\" is missing", a});
  refused("the other half", header({tensor(b, {4, 32}, 0, 0)}, 512).build(), {"lora_a\" is missing", b});
  refused("ranks differ", header({tensor(a, {64, 4}, 0, 0), tensor(b, {5, 32}, 0, 1024)}, 1024 + 640).build(),
          {b, "[32, 5]", "[32, 4]"});
  refused("three dimensions",
          header({tensor(a, {32, 2, 4}, 0, 0), tensor(b, {4, 32}, 0, 1024)}, 1536).build(),
          {a, "3 dimensions"});
  refused("a rank beyond all use",
          header({tensor(a, {64, 16385}, 0, 0), tensor(b, {16385, 32}, 0, 64 * 16385 * 4)}, 96 * 16385 * 4)
              .build(),
          {a, "rank 16385", "16384"});
  refused("cut short", header({tensor(a, {64, 4}, 0, 0), tensor(b, {4, 32}, 0, 1024)}, 1500).build(), {b},
          Code::gguf_truncated);
  GgufBytes no_alpha = header({tensor(a, {64, 4}, 0, 0), tensor(b, {4, 32}, 0, 1024)}, 1536);
  no_alpha.entries.pop_back();
  refused("no alpha", no_alpha.build(), {"adapter.lora.alpha"}, Code::gguf_invalid);
  GgufBytes activated = header({tensor(a, {64, 4}, 0, 0), tensor(b, {4, 32}, 0, 1024)}, 1536);
  activated.entries.push_back(entry_array("adapter.alora.invocation_tokens", GgufType::u32, 1, u32(1)));
  refused("an activated one", activated.build(), {"adapter.alora.invocation_tokens"});

  const RandomModel experts = shape_of("qwen3moe");
  const TemporaryFile mixture;
  write_random_model(experts, mixture.path);
  const auto moe = load_model(mixture.path, Device::reference);
  check_error("dense pairs for experts", Code::adapter_invalid, {"ffn_gate", "experts"}, [&] {
    std::vector<Pair> pairs = random_pairs(shape, 4, 17);
    std::erase_if(pairs, [](const Pair& p) { return p.weight.find("ffn_gate") == std::string::npos; });
    load_adapter(moe, adapter_bytes(pairs, {"qwen3moe"}));
  });

  // A change of any byte is refused or changes numbers; nothing worse.
  const std::string whole = adapter_bytes(good, {});
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = whole;
    for (uint64_t n = random() % 3 + 1; n-- > 0;) bytes[random() % 3000] = char(random());
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    try {
      load_adapter(model, bytes);
    } catch (const Error&) {
    }
  }
}

TEST(safetensors_that_do_not_fit) {
  const RandomModel shape = shape_of("llama");
  const TemporaryFile base;
  write_random_model(shape, base.path);
  const auto model = load_model(base.path, Device::reference);
  const Safetensors good(random_pairs(shape, 4, 18), shape, 8);
  const TemporaryFile file(good.bytes);
  const uint64_t size = good.bytes.size();
  const auto refused = [&](const char* what, const std::vector<std::string>& parts, auto change) {
    std::vector<SafetensorsPair> pairs = good.pairs;
    change(pairs[0]);
    check_error(what, Code::adapter_invalid, parts,
                [&] { Adapter::load(model, safetensors_adapter(file.path, size, pairs), {}); });
  };
  const std::string a = "attn_q.weight.A", b = "attn_q.weight.B";
  refused("past the end", {a, "ends after"}, [&](SafetensorsPair& p) { p.a.offset = size - 4; });
  refused("far past the end", {a, "ends after"}, [&](SafetensorsPair& p) { p.a.offset = UINT64_MAX - 8; });
  refused("no type of weights", {a, "I64"}, [](SafetensorsPair& p) { p.a.type = "I64"; });
  refused("quantized", {a, "Q8_0"}, [](SafetensorsPair& p) { p.a.type = "Q8_0"; });
  refused("no rows", {a, "impossible"}, [](SafetensorsPair& p) { p.a.rows = 0; });
  refused("fewer than none", {b, "impossible"}, [](SafetensorsPair& p) { p.b.cols = -4; });
  refused("huge", {b, "ends after"}, [](SafetensorsPair& p) { p.b.rows = p.b.cols = INT32_MAX; });
  refused("past all counting", {b, "impossible"}, [](SafetensorsPair& p) { p.b.rows = INT64_MAX; });
  refused("another shape", {b, "[4, 64]", "[64, 4]"},
          [](SafetensorsPair& p) { std::swap(p.b.rows, p.b.cols); });
  refused("a layer too many", {a, "layer 3"}, [](SafetensorsPair& p) { p.layer = 3; });
  refused("a layer before the first", {a, "layer -1"}, [](SafetensorsPair& p) { p.layer = -1; });
  refused("twice", {"already"}, [](SafetensorsPair& p) { p.layer = 2; });
  refused("scale", {a, "scale"}, [](SafetensorsPair& p) { p.scale = NAN; });
  refused("scale beyond float", {a, "scale"}, [](SafetensorsPair& p) { p.scale = 1e300; });
  check_error("another size", Code::file_changed, {file.path},
              [&] { safetensors_adapter(file.path, size + 1, good.pairs); });
  check_error("no file", Code::file_not_found, {"absent"},
              [&] { safetensors_adapter(file.path + ".absent", size, good.pairs); });

  const std::atomic<bool> cancelled{true};
  LoadControl control;
  control.cancelled = &cancelled;
  check_error("cancelled", Code::aborted, {},
              [&] { Adapter::load(model, safetensors_adapter(file.path, size, good.pairs), control); });
  AdapterSource changed = safetensors_adapter(file.path, size, good.pairs);
  std::ofstream(file.path, std::ios::binary | std::ios::app) << "more";
  check_error("written to", Code::file_changed, {file.path}, [&] { Adapter::load(model, changed, {}); });
}
