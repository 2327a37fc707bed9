// Writes a GGUF model of a known shape with random weights and a made-up vocabulary: for measuring sizes and
// types beyond the files at hand. What it says is noise; how long it takes is real.
//
//   inhouse_make_model --shape NAME --type TYPE [--embedding-type TYPE] [--NUMBER N …] OUT.gguf
//
// TYPE is a GGUF type (q4_k, f16, …), the embedding's by default that of the matrices. NUMBER is one of the
// shape's: layers (few stand for many where memory ends), width, ffn-width, heads, kv-heads, head-dim,
// vocabulary, context, and where the shape has them experts, experts-used, window. OUT.gguf appears when it
// is whole.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "bench/native/arguments.h"
#include "test/native/random_model.h"

using inhouse::test::RandomModel;
using namespace inhouse::bench;

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
  int32_t min, max;
} numbers[] = {
    {"--layers", &RandomModel::layers, 1, 1024},
    {"--width", &RandomModel::width, 1, 1 << 20},
    {"--ffn-width", &RandomModel::ffn_width, 1, 1 << 20},
    {"--heads", &RandomModel::heads, 1, 4096},
    {"--kv-heads", &RandomModel::kv_heads, 1, 4096},
    {"--head-dim", &RandomModel::head_dim, 2, 4096},
    {"--vocabulary", &RandomModel::vocabulary, 257, 1 << 24},  // the bytes, and one more to end a text
    {"--context", &RandomModel::context, 1, 1 << 20},
    {"--experts", &RandomModel::experts, 1, 4096},
    {"--experts-used", &RandomModel::experts_used, 1, 4096},
    {"--window", &RandomModel::window, 1, 1 << 20},
};
// clang-format on

const RandomModel& shape_named(std::string_view name) {
  std::string known;
  for (const Shape& shape : shapes) {
    if (name == shape.name) return shape.model;
    known += std::string(known.empty() ? "" : ", ") + shape.name;
  }
  throw UsageError("--shape: expected one of " + known + ", got \"" + std::string(name) + "\"");
}

void set_number(RandomModel& model, const std::string& option, Arguments& arguments) {
  for (const auto& [name, value, min, max] : numbers) {
    if (option != name) continue;
    // Those that the shape does not have are 0.
    if (model.*value == 0) throw UsageError(option + ": a " + model.architecture + " model has none");
    model.*value = uint32_t(number(option, arguments.value(option), min, max));
    return;
  }
  throw UsageError("no such option: " + option);
}

void check(const RandomModel& model) {
  if (model.heads % model.kv_heads != 0) throw UsageError("--heads must be a multiple of --kv-heads");
  if (model.head_dim % 2 != 0) throw UsageError("--head-dim must be even");
  if (model.experts_used > model.experts) throw UsageError("--experts-used must be at most --experts");
}

// Rows of matrices are whole blocks. `mended`: the options that change `columns`, and `of`, the one that
// names the type.
void check_blocks(const inhouse::kernels::QuantType& type, uint64_t columns, const std::string& mended,
                  const std::string& of) {
  const uint64_t block = uint64_t(type.block_elements);
  if (columns % block == 0) return;
  throw UsageError(mended + ": " + type.name + " needs a multiple of " + std::to_string(block) + ", not " +
                   std::to_string(columns) + "; give another " + mended.substr(0, mended.find(' ')) +
                   ", or with " + of + " a type of smaller blocks, such as Q8_0 or F16");
}

void check_blocks(const RandomModel& model, const inhouse::kernels::QuantType& type,
                  const inhouse::kernels::QuantType& embedding_type) {
  check_blocks(type, model.width, "--width", "--type");
  check_blocks(type, model.ffn_width, "--ffn-width", "--type");
  check_blocks(type, uint64_t(model.heads) * model.head_dim, "--heads times --head-dim", "--type");
  check_blocks(embedding_type, model.width, "--width", "--embedding-type");
}

std::string unfinished;

// Files of gigabytes are not left behind.
void end_early(int signal) {
  std::remove(unfinished.c_str());
  std::_Exit(128 + signal);
}

void make(Arguments arguments) {
  const char* const first = arguments.next();
  if (!first || std::string_view(first) != "--shape") throw UsageError("--shape: expected it first");
  RandomModel model = shape_named(arguments.value("--shape"));
  model.tokenizer = true;
  const inhouse::kernels::QuantType *type = nullptr, *embedding_type = nullptr;
  std::string path;
  while (const char* argument = arguments.next()) {
    const std::string option = argument;
    if (option == "--type")
      type = &type_named(option, arguments.value(option));
    else if (option == "--embedding-type")
      embedding_type = &type_named(option, arguments.value(option));
    else if (option.starts_with("--"))
      set_number(model, option, arguments);
    else if (path.empty())
      path = option;
    else
      throw UsageError("one file is written, not " + path + " and " + option);
  }
  if (!type) throw UsageError("--type is missing");
  if (path.empty()) throw UsageError("the file to write is missing");
  if (!embedding_type) embedding_type = type;
  check(model);
  check_blocks(model, *type, *embedding_type);
  model.matrix_type = type->id;
  model.embedding_type = embedding_type->id;
  unfinished = path + ".partial";
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, end_early);
  inhouse::test::write_random_model(model, path);
}

}  // namespace

int main(int argc, char** argv) {
  return inhouse::bench::run_main(
      argc, argv,
      "inhouse_make_model --shape NAME --type TYPE [--embedding-type TYPE] [--layers N] [--width N] "
      "[--ffn-width N] [--heads N] [--kv-heads N] [--head-dim N] [--vocabulary N] [--context N] "
      "[--experts N] [--experts-used N] [--window N] OUT.gguf",
      make);
}
