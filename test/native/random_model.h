// Writes GGUF models of any shape and weight type with random weights, for tests and benchmarks.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/quant/types.h"

namespace inhouse::test {

struct RandomModel {
  std::string architecture = "llama";  // or "qwen2", "qwen3", "qwen3moe", "gemma3"
  uint32_t layers = 2;
  uint32_t width = 64;
  uint32_t ffn_width = 96;
  uint32_t heads = 4;
  uint32_t kv_heads = 2;
  uint32_t head_dim = 16;
  uint32_t vocabulary = 200;
  uint32_t context = 512;
  uint32_t experts = 0;  // qwen3moe: each of ffn_width
  uint32_t experts_used = 0;
  uint32_t window = 0;  // gemma3: sliding window of all layers but every sixth
  kernels::TypeId matrix_type = kernels::TypeId::f32;
  kernels::TypeId embedding_type = kernels::TypeId::f32;
  float rope_base = 10000.0f;
  bool tied = true;
  bool tokenizer = false;  // with a made-up vocabulary: the bytes, then words without merges
  uint64_t seed = 1;
};

// Written as PATH.partial and renamed at the end; an error leaves neither it nor a changed PATH. Errors: an
// exception where the file cannot be written or a row is no whole number of blocks.
void write_random_model(const RandomModel& model, const std::string& path);

// Fills `count` elements' worth of blocks with random values of about the given root mean square.
void random_blocks(const kernels::QuantType& type, int64_t count, float rms, uint64_t seed, uint8_t* blocks);

}  // namespace inhouse::test
