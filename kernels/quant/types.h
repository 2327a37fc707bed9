// The tensor types of the GGUF format: their block layouts' sizes and exact scalar decoding.
#pragma once

#include <cstdint>

namespace inhouse::kernels {

// The type numbers of the GGUF specification.
enum class TypeId : uint32_t {
  // clang-format off
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8,
  q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14,
  iq2_xxs = 16, iq2_xs = 17, iq3_xxs = 18, iq1_s = 19, iq4_nl = 20, iq3_s = 21, iq2_s = 22, iq4_xs = 23,
  iq1_m = 29, bf16 = 30, tq1_0 = 34, tq2_0 = 35, mxfp4 = 39, nvfp4 = 40,
  // clang-format on
};

struct QuantType {
  TypeId id;
  const char* name;         // "Q4_K"
  uint32_t block_elements;  // elements of one block; rows are whole numbers of blocks
  uint32_t block_bytes;
  // Decodes `count` elements (a multiple of block_elements) at `blocks` into dst, exactly as the format
  // defines.
  void (*decode)(const void* blocks, float* dst, int64_t count);
};

// The entry of a GGUF type number, or null where this build does not know it.
const QuantType* quant_type(uint32_t id);

// All entries, for tests and tools. [count]
const QuantType* const* quant_types(uint32_t* count);

}  // namespace inhouse::kernels
