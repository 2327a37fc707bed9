// Writes a GGUF model of a known shape with random weights and a made-up vocabulary: for measuring sizes and
// types beyond the files at hand. What it says is noise; how long it takes is real.
//
//   inhouse_make_model --shape NAME --type TYPE [--embedding-type TYPE] [--NUMBER N …] OUT.gguf
//
// TYPE is a GGUF type (q4_k, f16, …), the embedding's by default that of the matrices. NUMBER is one of the
// shape's: layers (few stand for many where memory ends), width, ffn-width, heads, kv-heads, head-dim,
// vocabulary, context, window.
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>

#include "test/native/random_model.h"

using inhouse::test::RandomModel;
namespace kernels = inhouse::kernels;

namespace {

struct Shape {
  const char* name;
  RandomModel model;
};

// clang-format off
const Shape shapes[] = {
    {"smollm2-135m", {.architecture = "llama", .layers = 30, .width = 576, .ffn_width = 1536, .heads = 9,
                      .kv_heads = 3, .head_dim = 64, .vocabulary = 49152, .context = 8192}},
    {"llama-3.2-1b", {.architecture = "llama", .layers = 16, .width = 2048, .ffn_width = 8192, .heads = 32,
                      .kv_heads = 8, .head_dim = 64, .vocabulary = 128256, .context = 131072,
                      .rope_base = 500000}},
    {"llama-3.1-8b", {.architecture = "llama", .layers = 32, .width = 4096, .ffn_width = 14336, .heads = 32,
                      .kv_heads = 8, .head_dim = 128, .vocabulary = 128256, .context = 131072,
                      .rope_base = 500000, .tied = false}},
    {"qwen2.5-1.5b", {.architecture = "qwen2", .layers = 28, .width = 1536, .ffn_width = 8960, .heads = 12,
                      .kv_heads = 2, .head_dim = 128, .vocabulary = 151936, .context = 32768,
                      .rope_base = 1000000}},
    {"gemma-3-1b", {.architecture = "gemma3", .layers = 26, .width = 1152, .ffn_width = 6912, .heads = 4,
                    .kv_heads = 1, .head_dim = 256, .vocabulary = 262144, .context = 32768, .window = 512,
                    .rope_base = 1000000}},
    {"qwen3-30b-a3b", {.architecture = "qwen3moe", .layers = 48, .width = 2048, .ffn_width = 768, .heads = 32,
                       .kv_heads = 4, .head_dim = 128, .vocabulary = 151936, .context = 40960, .experts = 128,
                       .experts_used = 8, .rope_base = 1000000, .tied = false}},
};
const struct {
  const char* name;
  uint32_t RandomModel::*value;
} numbers[] = {
    {"--layers", &RandomModel::layers},         {"--width", &RandomModel::width},
    {"--ffn-width", &RandomModel::ffn_width},   {"--heads", &RandomModel::heads},
    {"--kv-heads", &RandomModel::kv_heads},     {"--head-dim", &RandomModel::head_dim},
    {"--vocabulary", &RandomModel::vocabulary}, {"--context", &RandomModel::context},
    {"--experts", &RandomModel::experts},       {"--experts-used", &RandomModel::experts_used},
    {"--window", &RandomModel::window},
};
// clang-format on

const RandomModel& shape_named(const std::string& name) {
  std::string known;
  for (const Shape& shape : shapes) {
    if (name == shape.name) return shape.model;
    known += std::string(known.empty() ? "" : ", ") + shape.name;
  }
  throw std::runtime_error("--shape is one of " + known);
}

kernels::TypeId type_named(std::string name) {
  for (char& c : name) c = char(std::toupper(static_cast<unsigned char>(c)));
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  for (uint32_t i = 0; i < count; ++i)
    if (name == types[i]->name) return types[i]->id;
  throw std::runtime_error("no such type: " + name);
}

void set_number(RandomModel& model, std::string_view option, const std::string& value) {
  for (const auto& number : numbers) {
    if (option != number.name) continue;
    model.*number.value = uint32_t(std::stoul(value));
    return;
  }
  throw std::runtime_error("no such option: " + std::string(option));
}

void make(int argc, char** argv) {
  if (argc < 6 || argc % 2 != 0 || std::string_view(argv[1]) != "--shape")
    throw std::runtime_error(
        "usage: inhouse_make_model --shape NAME --type TYPE [--embedding-type TYPE] [--NUMBER N …] OUT.gguf");
  RandomModel model = shape_named(argv[2]);
  model.tokenizer = true;
  std::string type, embedding_type;
  for (int i = 3; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--type")
      type = value;
    else if (option == "--embedding-type")
      embedding_type = value;
    else
      set_number(model, option, value);
  }
  model.matrix_type = type_named(type);
  model.embedding_type = embedding_type.empty() ? model.matrix_type : type_named(embedding_type);
  inhouse::test::write_random_model(model, argv[argc - 1]);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    make(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
