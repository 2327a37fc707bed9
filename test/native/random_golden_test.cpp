// Small random models against `transformers` in float32 (scripts/golden/random_models.py).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/reference.h"
#include "native/model/forward.h"
#include "test/native/check.h"

using namespace inhouse;

namespace {

// A metadata array of 32-bit numbers.
template <class T>
std::vector<T> array(const GgufFile& file, const char* key) {
  const auto& array = *std::get<std::shared_ptr<GgufArray>>(file.find(key)->value);
  std::vector<T> values(size_t(array.count));
  std::memcpy(values.data(), array.bytes.data(), values.size() * sizeof(T));
  return values;
}

// Logits after every token, in one step.
std::vector<float> logits_of(const Model& model, const std::vector<int32_t>& tokens) {
  const HyperParameters& h = model.hyper();
  const int32_t count = int32_t(tokens.size()), blocks = (count + kKvBlockTokens - 1) / kKvBlockTokens;
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<std::unique_ptr<KvPool>> pools;
  for (const KvGroup& group : h.kv_groups)
    pools.push_back(model.backend().make_kv_pool(
        {group.layers, h.kv_heads, h.head_dim, h.head_dim_v, KvType::f32, KvType::f32, group.window},
        blocks));
  const std::vector<const int32_t*> tables(pools.size(), rows.data());
  const SequenceSlice slice{0, count, 0, tables.data()};
  ForwardPass pass(model, count, count);
  CHECK_EQ(pass.bytes(), ForwardPass::bytes_for(model, count, count));
  model.backend().begin_step();
  CHECK(pass.run({tokens, rows, {&slice, 1}, rows}, pools, std::atomic<bool>(false)));
  const std::span<const float> logits = pass.logits(0, count);
  model.backend().end_step();
  return {logits.begin(), logits.end()};
}

// The mean divergence of our distributions from theirs is at most `most`, and the most probable tokens are
// the same.
void check_agreement(const std::string& what, std::vector<float> ours, std::vector<float> theirs,
                     int64_t vocabulary, double most) {
  CHECK_EQ(ours.size(), theirs.size());
  double divergence = 0;
  const int64_t rows = int64_t(ours.size()) / vocabulary;
  for (int64_t r = 0; r < rows; ++r) {
    float* our = ours.data() + r * vocabulary;
    float* their = theirs.data() + r * vocabulary;
    CHECK_EQ(std::max_element(our, our + vocabulary) - our,
             std::max_element(their, their + vocabulary) - their);
    kernels::reference::log_softmax(our, vocabulary);
    kernels::reference::log_softmax(their, vocabulary);
    for (int64_t t = 0; t < vocabulary; ++t)
      divergence += std::exp(double(their[t])) * (double(their[t]) - double(our[t]));
  }
  divergence /= double(rows);
  if (!(divergence <= most)) test::fail(__FILE__, __LINE__, what + ": KL " + std::to_string(divergence));
}

}  // namespace

TEST(the_reference_device_agrees_with_transformers) {
  for (const char* name : {"llama", "qwen3", "qwen3moe"}) {
    ModelOptions options;
    options.path = std::string("test/golden/random-") + name + ".gguf";
    options.file = GgufFile::open(options.path);
    const std::vector<int32_t> tokens = array<int32_t>(*options.file, "inhouse.golden.tokens");
    const std::vector<float> expected = array<float>(*options.file, "inhouse.golden.logits");
    for (const Device device : {Device::reference, Device::cpu}) {
      options.device = device;
      const std::unique_ptr<Model> model = Model::load(options, {});
      check_agreement(std::string(name) + " " + model->backend().name(), logits_of(*model, tokens), expected,
                      model->hyper().vocabulary, 1e-6);
    }
  }
}
