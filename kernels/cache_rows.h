// Single tokens of a cache block (kernels.h) in the form that files of saved state have: one head's numbers
// of one token side by side, the quantized types as the blocks of their GGUF type. Whatever layout the
// kernels read fastest, these bytes stay the same. Plain C++, for copying; nothing here rounds.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace inhouse::kernels {

// Of one head's numbers of one token. Quantized types fill their last block up with zeros.
int64_t cache_row_bytes(CacheType type, int64_t head_dim);

// Copies token `token` out of a block of K (or of V), or into it.
void read_k_row(CacheType type, const uint8_t* block, int64_t head_dim, int32_t token, uint8_t* row);
void read_v_row(CacheType type, const uint8_t* block, int64_t head_dim, int32_t token, uint8_t* row);
void write_k_row(CacheType type, const uint8_t* row, int64_t head_dim, int32_t token, uint8_t* block);
void write_v_row(CacheType type, const uint8_t* row, int64_t head_dim, int32_t token, uint8_t* block);

}  // namespace inhouse::kernels
