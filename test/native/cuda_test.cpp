// The CUDA backend against the reference device, op by op on awkward sizes and as whole models; its bits
// under chunking and company; and devices that are missing, full or lost. On the host's twin, or on a GPU
// (cuda_testing.h).
#include "kernels/cuda/pack.h"
#include "native/model/forward.h"
#include "native/ops/cuda/plan.h"
#include "test/native/cuda_testing.h"
#include "test/native/engine_testing.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

// The twin takes its time under the address sanitizer, which follows every fiber's stack.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kSlow = true;
#else
constexpr bool kSlow = false;
#endif

std::unique_ptr<Backend> reference() {
  return make_reference_backend({});
}

// The norm of the difference over the norm of what is expected.
double error_of(std::span<const float> got, std::span<const float> expected) {
  CHECK_EQ(got.size(), expected.size());
  if (got.size() != expected.size()) return INFINITY;
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(double(got[i]) - double(expected[i]), 2);
    size += std::pow(double(expected[i]), 2);
  }
  return std::sqrt(difference / std::max(size, 1e-300));
}
void check_below(const std::string& what, double error, double most) {
  if (!(error <= most))
    fail(__FILE__, __LINE__, what + ": error " + std::to_string(error) + ", allowed " + std::to_string(most));
}

std::vector<const kernels::QuantType*> all_types() {
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  return {types, types + count};
}

}  // namespace

TEST(packed_weights_stand_for_the_numbers_of_the_file) {
  const auto cuda = make_cuda_backend(cuda_device()), plain = reference();
  Random random(1);
  for (const kernels::QuantType* type : all_types()) {
    for (const int64_t cols : {256, 576, 768}) {
      if (cols % type->block_elements != 0) continue;
      const auto file = random_tensor(*type, 35, cols, random);
      const auto weight = cuda->load(*file, file->info, WeightUse::matrix_and_lookup, {});
      const std::vector<int32_t> tokens = {0, 7, 8, 15, 16, 33, 34, 7};
      OnDevice out(*cuda, tokens.size() * size_t(cols));
      cuda->embed(*weight, tokens, 1.5f, out);
      const std::vector<float> all = decode_all(*file), got = out.read();
      for (size_t r = 0; r < tokens.size(); ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          const float expected = all[size_t(tokens[r] * cols + c)] * 1.5f;
          // float32 keeps 22 bits; a GPU may fuse the product with the sum of a minimum.
          if (std::fabs(got[r * size_t(cols) + size_t(c)] - expected) >
              3e-7f * (std::fabs(expected) + 1e-2f)) {
            fail(__FILE__, __LINE__,
                 std::string(type->name) + ", token " + std::to_string(tokens[r]) + ", " + std::to_string(c));
            return;
          }
        }
      }
    }
  }
}

TEST(products_equal_the_references) {
  const auto cuda = make_cuda_backend(cuda_device()), plain = reference();
  Random random(2);
  for (const kernels::QuantType* type : all_types()) {
    const int64_t cols = type->block_elements == 256 ? 768 : 576;
    for (const int64_t rows : {1, 7, 20}) {
      if (kSlow && rows != 7) continue;
      const int64_t out_rows = 40;
      const auto file = random_tensor(*type, out_rows, cols, random);
      const auto weight = cuda->load(*file, file->info, WeightUse::matrix, {});
      const auto exact = plain->load(*file, file->info, WeightUse::matrix, {});
      auto bias_file = random_tensor(*kernels::quant_type(0), 1, out_rows, random);
      const auto bias = cuda->load(*bias_file, bias_file->info, WeightUse::vector, {});
      const auto exact_bias = plain->load(*bias_file, bias_file->info, WeightUse::vector, {});
      const std::vector<float> x = random.normals(rows * cols);
      OnDevice in(*cuda, x), first(*cuda, size_t(rows * out_rows)), second(*cuda, size_t(rows * out_rows));
      const Projection outs[] = {{weight.get(), nullptr, first}, {weight.get(), bias.get(), second}};
      cuda->linear(in, rows, outs, Place::ffn_in);
      std::vector<float> expected(size_t(rows * out_rows));
      const Projection plain_out[] = {{exact.get(), nullptr, expected.data()}};
      plain->linear(x.data(), rows, plain_out, Place::ffn_in);
      check_below(type->name, error_of(first.read(), expected), 6e-4);  // binary16 activations
      const Projection plain_bias[] = {{exact.get(), exact_bias.get(), expected.data()}};
      plain->linear(x.data(), rows, plain_bias, Place::ffn_in);
      check_below(std::string(type->name) + " with bias", error_of(second.read(), expected), 6e-4);
    }
  }
}

TEST(products_have_the_same_bits_in_any_company) {
  const auto cuda = make_cuda_backend(cuda_device());
  Random random(3);
  const auto file = random_tensor(*kernels::quant_type(uint32_t(kernels::TypeId::q4_k)), 33, 1024, random);
  const auto weight = cuda->load(*file, file->info, WeightUse::matrix, {});
  const std::vector<float> x = random.normals(70 * 1024);
  std::vector<float> together;
  for (const int64_t rows : {70, 1, 9, 17, 33}) {
    OnDevice in(*cuda, std::vector<float>(x.end() - rows * 1024, x.end())), out(*cuda, size_t(rows * 33));
    const Projection outs[] = {{weight.get(), nullptr, out}};
    cuda->linear(in, rows, outs, Place::ffn_in);
    const std::vector<float> got = out.read();
    if (together.empty()) together = got;
    CHECK(std::equal(got.begin(), got.end(), together.end() - int64_t(got.size())));
  }
}

TEST(numbers_too_large_or_none_do_not_spread) {
  const auto cuda = make_cuda_backend(cuda_device());
  Random random(4);
  const auto file = random_tensor(*kernels::quant_type(uint32_t(kernels::TypeId::q8_0)), 16, 64, random);
  const auto weight = cuda->load(*file, file->info, WeightUse::matrix, {});
  std::vector<float> x = random.normals(5 * 64);
  for (int i = 0; i < 64; ++i) x[size_t(i)] *= 1e30f;
  x[64 + 5] = INFINITY;
  x[2 * 64 + 9] = NAN;
  for (int i = 0; i < 64; ++i) x[size_t(3 * 64 + i)] = 0;
  for (int i = 0; i < 64; ++i) x[size_t(4 * 64 + i)] *= 1e-30f;
  OnDevice in(*cuda, x), out(*cuda, 5 * 16);
  const Projection outs[] = {{weight.get(), nullptr, out}};
  cuda->linear(in, 5, outs, Place::ffn_in);
  const std::vector<float> got = out.read(), all = decode_all(*file);
  for (int r = 0; r < 5; ++r) {
    for (int n = 0; n < 16; ++n) {
      double expected = 0, size = 0;
      for (int k = 0; k < 64; ++k) {
        expected += double(x[size_t(r * 64 + k)]) * double(all[size_t(n * 64 + k)]);
        size += std::fabs(double(x[size_t(r * 64 + k)]) * double(all[size_t(n * 64 + k)]));
      }
      const float value = got[size_t(r * 16 + n)];
      if (r == 1 || r == 2) {
        CHECK(std::isnan(value));
      } else {
        CHECK(std::fabs(double(value) - expected) <= 1e-3 * size);
      }
    }
  }
}

TEST(row_by_row_ops_equal_the_references) {
  const auto cuda = make_cuda_backend(cuda_device()), plain = reference();
  Random random(5);
  const int64_t rows = 3, width = 2 * 3 * 20;
  const auto gain_file = random_tensor(*kernels::quant_type(0), 1, width, random);
  const auto gain = cuda->load(*gain_file, gain_file->info, WeightUse::vector, {});
  const auto plain_gain = plain->load(*gain_file, gain_file->info, WeightUse::vector, {});
  const std::vector<float> x = random.normals(rows * width), y = random.normals(rows * width);
  std::vector<float> expected(x.size());
  OnDevice in(*cuda, x), other(*cuda, y), out(*cuda, x.size());
  const auto check = [&](const char* what) { check_below(what, error_of(out.read(), expected), 2e-6); };
  cuda->rms_norm(in, *gain, 1e-5f, rows, out);
  plain->rms_norm(x.data(), *plain_gain, 1e-5f, rows, expected.data());
  check("rms_norm");
  for (const Activation act : {Activation::silu, Activation::gelu_tanh}) {
    cuda->gated(act, in, other, rows * width, out);
    plain->gated(act, x.data(), y.data(), rows * width, expected.data());
    check("gated");
  }
  const std::vector<int32_t> picked = {2, 0, 2};
  cuda->gather(in, picked, width, out);
  plain->gather(x.data(), picked, width, expected.data());
  check("gather");
  cuda->add_scaled(out, other, -0.5f, rows * width);
  plain->add_scaled(expected.data(), y.data(), -0.5f, rows * width);
  check("add_scaled");
  cuda->add(out, in, rows * width);
  plain->add(expected.data(), x.data(), rows * width);
  check("add");
  cuda->softcap(out, rows * width, 1.5f);
  plain->softcap(expected.data(), rows * width, 1.5f);
  check("softcap");
  for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::split}) {
    for (const int32_t dims : {20, 12}) {  // six heads of 20
      const std::vector<int32_t> positions = {0, 5, 131'000};
      std::vector<float> frequencies, plain_table(size_t(rows * dims));
      for (int i = 0; i < dims / 2; ++i)
        frequencies.push_back(std::pow(10'000.0f, -2.0f * float(i) / float(dims)));
      OnDevice table(*cuda, size_t(rows * dims));
      cuda->rope_table(positions, frequencies, table);
      for (size_t r = 0; r < positions.size(); ++r) {
        for (size_t i = 0; i < frequencies.size(); ++i) {
          const double angle = double(positions[r]) * double(frequencies[i]);
          plain_table[r * size_t(dims) + i] = float(std::cos(angle));
          plain_table[r * size_t(dims) + frequencies.size() + i] = float(std::sin(angle));
        }
      }
      check_below("rope_table", error_of(table.read(), plain_table), 1e-6);
      cuda->gather(in, std::vector<int32_t>{0, 1, 2}, width, out);
      expected = x;
      cuda->rope(out, table, rows, 6, 20, dims, style);
      plain->rope(expected.data(), plain_table.data(), rows, 6, 20, dims, style);
      check("rope");
    }
  }
}

namespace {

struct Attend {
  int32_t heads, kv_heads, dim_k, dim_v, window;
  KvType type_k, type_v;
  float softcap;
};

// K and V of one sequence, and queries of its last tokens.
struct Text {
  std::vector<float> q, k, v;
  std::vector<int32_t> table;
  int32_t tokens;
};

Text make_text(const Attend& a, int32_t tokens, int32_t first_block, Random& random) {
  Text text{random.normals(int64_t(tokens) * a.heads * a.dim_k),
            random.normals(int64_t(tokens) * a.kv_heads * a.dim_k),
            random.normals(int64_t(tokens) * a.kv_heads * a.dim_v),
            {},
            tokens};
  const int32_t blocks = (tokens + 31) / 32;
  for (int32_t b = 0; b < blocks; ++b) text.table.push_back(first_block + blocks - 1 - b);
  return text;
}

struct Part {
  const Text* text;
  int32_t begin, end;
};

// Stores the K and V of these tokens and attends to all before them, in one step.
std::vector<float> attend(Backend& backend, KvPool& pool, const Attend& a, const std::vector<Part>& parts,
                          bool device, bool queries = true) {
  std::vector<float> q, k, v;
  std::vector<SequenceSlice> slices;
  std::vector<const int32_t*> tables;
  std::vector<int32_t> tokens, positions;
  for (const Part& p : parts) tables.push_back(p.text->table.data());
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& p = parts[i];
    slices.push_back({int32_t(tokens.size()), p.end - p.begin, p.begin, &tables[i]});
    const auto add = [&](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
      to.insert(to.end(), from.begin() + p.begin * width, from.begin() + p.end * width);
    };
    add(q, p.text->q, a.heads * a.dim_k);
    add(k, p.text->k, a.kv_heads * a.dim_k);
    add(v, p.text->v, a.kv_heads * a.dim_v);
    for (int32_t t = p.begin; t < p.end; ++t) tokens.push_back(0), positions.push_back(t);
  }
  const Batch batch{tokens, positions, slices, {}};
  const AttentionParams params{a.heads, 0.2f, a.softcap};
  const size_t numbers = tokens.size() * size_t(a.heads * a.dim_v);
  if (!device) {
    std::vector<float> out(numbers);
    backend.kv_store(pool, 1, 0, k.data(), v.data(), batch);
    if (queries) backend.attention(pool, 1, 0, q.data(), batch, params, out.data());
    return out;
  }
  // A new step begins with an embedding.
  Random random(1);
  static const auto file = random_tensor(*kernels::quant_type(1), 1, 64, random);
  const auto table = backend.load(*file, file->info, WeightUse::lookup, {});
  OnDevice scratch(backend, tokens.size() * 64), on_q(backend, q), on_k(backend, k), on_v(backend, v),
      out(backend, numbers);
  backend.embed(*table, tokens, 1, scratch);
  backend.kv_store(pool, 1, 0, on_k, on_v, batch);
  if (queries) backend.attention(pool, 1, 0, on_q, batch, params, out);
  return out.read();
}

}  // namespace

TEST(attention_equals_the_references) {
  const auto cuda = make_cuda_backend(cuda_device()), plain = reference();
  Random random(6);
  for (const Attend a : {Attend{4, 2, 64, 64, 0, KvType::f16, KvType::f16, 0},
                         Attend{6, 1, 40, 24, 0, KvType::f16, KvType::f16, 0},
                         Attend{12, 2, 128, 128, 0, KvType::q8_0, KvType::q8_0, 0},
                         Attend{3, 3, 80, 80, 50, KvType::f16, KvType::q8_0, 0},
                         Attend{20, 1, 32, 256, 100, KvType::q8_0, KvType::f16, 5}}) {
    const KvGroupSpec spec{2, a.kv_heads, a.dim_k, a.dim_v, a.type_k, a.type_v, a.window};
    const auto pool = cuda->make_kv_pool(spec, 24), exact = plain->make_kv_pool(spec, 24);
    const Text text = make_text(a, 300, 3, random), other = make_text(a, 40, 16, random);
    // A prompt; then a token of it beside another prompt.
    for (const std::vector<Part>& step : {std::vector<Part>{{&text, 0, 37}},
                                          {{&text, 37, 299}},
                                          {{&other, 0, 33}, {&text, 299, 300}},
                                          {{&other, 33, 40}}}) {
      const std::vector<float> got = attend(*cuda, *pool, a, step, true),
                               expected = attend(*plain, *exact, a, step, false);
      check_below("heads of " + std::to_string(a.dim_k) + " and " + std::to_string(a.dim_v),
                  error_of(got, expected), 2e-3);
    }
    // Blocks go to files and back as those of the reference device do.
    std::vector<uint8_t> block(kv_block_file_bytes(spec)), again = block, same = block;
    for (const int32_t b : {3, 8, 16}) {
      pool->export_block(b, block.data());
      exact->export_block(b, same.data());
      if (b != 3) CHECK(block == same);  // 3 is not full: behind its tokens stands nothing in particular
      pool->import_block(20, block.data());
      pool->export_block(20, again.data());
      CHECK(block == again);
    }
  }
}

TEST(attention_has_the_same_bits_however_keys_are_shared_out) {
  const auto cuda = make_cuda_backend(cuda_device());
  Random random(7);
  const Attend a{2, 1, 32, 32, 0, KvType::f16, KvType::f16, 0};
  const KvGroupSpec spec{2, 1, 32, 32, a.type_k, a.type_v, 0};
  const auto pool = cuda->make_kv_pool(spec, 400);
  const int32_t tokens = kSlow ? 600 : 4500;  // more than 32 parts: shared out by spans
  const Text text = make_text(a, tokens, 0, random), small = make_text(a, 300, 150, random);
  attend(*cuda, *pool, a, {{&text, 0, tokens - 1}, {&small, 0, 299}}, true, false);
  const std::vector<float> alone = attend(*cuda, *pool, a, {{&text, tokens - 1, tokens}}, true);
  const std::vector<float> small_alone = attend(*cuda, *pool, a, {{&small, 299, 300}}, true);  // by parts
  std::vector<Text> company;
  for (int32_t i = 0; i < 40; ++i) company.push_back(make_text(a, 1, 200 + i, random));
  std::vector<Part> all = {{&text, tokens - 1, tokens}, {&small, 299, 300}};
  for (const Text& one : company) all.push_back({&one, 0, 1});
  const std::vector<float> together = attend(*cuda, *pool, a, all, true);
  CHECK(std::equal(alone.begin(), alone.end(), together.begin()));
  CHECK(std::equal(small_alone.begin(), small_alone.end(), together.begin() + 64));
}

TEST(what_others_left_in_a_block_is_not_seen) {
  const auto cuda = make_cuda_backend(cuda_device());
  Random random(8);
  for (const KvType type : {KvType::f16, KvType::q8_0}) {
    const Attend a{2, 1, 32, 32, 0, type, type, 0};
    const auto pool = cuda->make_kv_pool({2, 1, 32, 32, type, type, 0}, 2);
    Text wrong = make_text(a, 32, 0, random);
    for (float& value : wrong.v) value = NAN;
    attend(*cuda, *pool, a, {{&wrong, 0, 32}}, true);
    const Text right = make_text(a, 5, 0, random);
    for (const float value : attend(*cuda, *pool, a, {{&right, 0, 5}}, true)) CHECK(std::isfinite(value));
  }
}

TEST(experts_equal_the_references) {
  const auto cuda = make_cuda_backend(cuda_device()), plain = reference();
  Random random(9);
  const int64_t width = 64, ffn = 96, count = 7;
  const auto stack = [&](uint32_t type, int64_t rows, int64_t cols) {
    auto file = random_tensor(*kernels::quant_type(type), rows * count, cols, random);
    file->info.dims[1] = rows;
    file->info.dims[2] = count;
    return file;
  };
  const auto gate = stack(8, ffn, width), up = stack(2, ffn, width), down = stack(8, width, ffn);
  for (const int64_t rows : {1, 30}) {
    for (const ExpertParams params :
         {ExpertParams{int32_t(count), 3, true, 1}, {int32_t(count), 2, false, 2.5f}}) {
      const std::vector<float> x = random.normals(rows * width), logits = random.normals(rows * count);
      const auto choices = size_t(rows * params.used);
      std::vector<std::vector<float>> results;
      for (Backend* backend : {cuda.get(), plain.get()}) {
        std::vector<std::unique_ptr<Weight>> w;
        for (const auto& file : {&gate, &up, &down})
          w.push_back(backend->load(**file, (*file)->info, WeightUse::matrix, {}));
        if (backend == plain.get()) {
          std::vector<float> g(choices * ffn), u(choices * ffn), d(choices * width), out(x.size());
          const Experts e{w[0].get(), w[1].get(), w[2].get(), g.data(), u.data(), d.data()};
          plain->experts(x.data(), logits.data(), rows, e, params, Activation::silu, out.data());
          results.push_back(out);
        } else {
          OnDevice g(*cuda, choices * ffn), u(*cuda, choices * ffn), d(*cuda, choices * width), in(*cuda, x),
              scores(*cuda, logits);
          const Experts e{w[0].get(), w[1].get(), w[2].get(), g, u, d};
          cuda->experts(in, scores, rows, e, params, Activation::silu, in);  // out may be x
          results.push_back(in.read());
        }
      }
      check_below("experts", error_of(results[0], results[1]), 2e-3);
    }
  }
}

namespace {

std::shared_ptr<Model> load_on(const RandomModel& shape, Device device) {
  const std::string path = temp_path("cuda.gguf");
  write_random_model(shape, path);
  ModelOptions options;
  options.path = path;
  options.device = device;
  options.cuda = cuda_device();
  std::shared_ptr<Model> model = Model::load(options, {});
  std::filesystem::remove(path);
  return model;
}

}  // namespace

TEST(whole_models_equal_the_references) {
  for (const RandomModel& shape : shapes()) {
    RequestSpec spec = request(kSlow ? 20 : 150, -1);
    spec.evaluate = spec.evaluate_rows = true;
    EngineOptions options;
    options.kv_type_k = options.kv_type_v = KvType::f16;
    options.max_batch_tokens = 64;
    Rig exact(shape, Device::reference, 2, options), rig(shape, Device::cuda, 1, options);
    const Outcome expected = exact.collector.wait(exact.engine->submit(spec));
    const Outcome got = rig.collector.wait(rig.engine->submit(spec));
    CHECK(!got.error);
    check_below(shape.architecture, error_of(got.rows, expected.rows), 5e-3);
  }
}

TEST(a_request_gets_the_same_bits_alone_and_among_others) {
  for (const RandomModel& shape : {shapes()[2], shapes()[3]}) {
    EngineOptions small;
    small.max_batch_tokens = 23;
    Rig alone(shape, Device::cuda), busy(shape, Device::cuda, 1, small);
    std::vector<RequestSpec> specs;
    std::vector<uint64_t> ids;
    for (int32_t i = 0; i < (kSlow ? 2 : 5); ++i) {
      specs.push_back(request(20 + 15 * i, 6, i % 2 ? 0.9f : 0.0f, i / 2));
      ids.push_back(busy.engine->submit(specs.back()));
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      const Outcome got = busy.collector.wait(ids[i]);
      specs[i].share_prefix = false;
      const Outcome expected = alone.collector.wait(alone.engine->submit(specs[i]));
      CHECK(!got.error && got.tokens == expected.tokens && got.logprobs == expected.logprobs);
    }
  }
}

TEST(devices_that_cannot_be_used_are_refused) {
  if (on_hardware()) return;
  const auto refused = [](const char* wrong, Code code, const std::vector<std::string>& parts,
                          CudaOptions options) {
    const Wrong state(wrong);
    check_error(wrong, code, parts, [&] { make_cuda_backend(options); });
  };
  CudaOptions other = cuda_device(), none = other, far = other, no_image = other;
  other.driver = "/nowhere/libcuda.so.1";
  none.image = "/nowhere/image";
  far.device = 3;
  no_image.image = "";
  refused("", Code::device_unavailable, {"/nowhere/libcuda.so.1", "driver", "\"cpu\""}, other);
  refused("", Code::device_unavailable, {"/nowhere/image", "cannot be read", "\"cpu\""}, none);
  refused("", Code::device_unavailable, {"cuda:3", "1 NVIDIA GPU"}, far);
  refused("", Code::device_unavailable, {"no CUDA kernels"}, no_image);
  refused("devices=0", Code::device_unavailable, {"0 NVIDIA GPUs"}, cuda_device());
  refused("capability=61", Code::device_unavailable, {"6.1", "7.5"}, cuda_device());
  refused("no_image", Code::device_unavailable, {"CUDA 13.0", "INVALID_IMAGE"}, cuda_device());
  const Wrong full("memory=20000");
  check_error("full", Code::out_of_memory, {}, [] { load_on(shapes()[0], Device::cuda); });
}

TEST(a_lost_device_ends_its_requests_and_can_be_used_again) {
  if (on_hardware()) return;
  for (int32_t round = 0; round < 2; ++round) {
    Rig rig(shapes()[0], Device::cuda), bystander(shapes()[0], Device::cuda);
    {
      const Wrong later("lost_after=300");
      const uint64_t first = rig.engine->submit(request(20, 400)),
                     second = rig.engine->submit(request(9, 400));
      for (const uint64_t id : {first, second}) {
        const Outcome outcome = rig.collector.wait(id);
        CHECK(outcome.error && outcome.error->code() == Code::device_lost);
      }
      // Whatever else is on the device is lost with it.
      const Outcome outcome = bystander.collector.wait(bystander.engine->submit(request(9, 4)));
      CHECK(outcome.error && outcome.error->code() == Code::device_lost);
    }
    Rig again(shapes()[0], Device::cuda), exact(shapes()[0], Device::cuda);
    const Outcome got = again.collector.wait(again.engine->submit(request(20, 5)));
    CHECK(!got.error && got.tokens.size() == 5);
  }
}
