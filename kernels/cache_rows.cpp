#include "kernels/cache_rows.h"

#include <cstring>

#include "kernels/quant/blocks.h"

namespace inhouse::kernels {
namespace {

int64_t groups_of(int64_t head_dim) {
  return (head_dim + 31) / 32;
}
int numbers_in(int64_t group, int64_t head_dim) {
  return head_dim - group * 32 < 32 ? int(head_dim - group * 32) : 32;
}

// Numbers of `size` bytes each, `step` apart in the cache.
template <int size>
void gather(const uint8_t* cache, int64_t step, int64_t count, uint8_t* row) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(row + i * size, cache + i * step, size);
}
template <int size>
void scatter(const uint8_t* row, int64_t step, int64_t count, uint8_t* cache) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(cache + i * step, row + i * size, size);
}

int code_at(const uint8_t* codes, int32_t i) {
  return i < 16 ? codes[i] & 15 : codes[i - 16] >> 4;
}
void put_code(uint8_t* codes, int32_t i, int code) {
  uint8_t& byte = codes[i % 16];
  byte = uint8_t(i < 16 ? (byte & 0xf0) | code : (byte & 0x0f) | code << 4);
}

// The scale of a token's group, and where its q4_0 codes or q8_0 numbers stand in a block of K or V.
struct Place {
  const uint8_t* scale;
  const uint8_t* numbers;
  int64_t step;   // q8_0: bytes between its numbers
  int32_t first;  // q4_0: K: the code's index in each dimension's 16 bytes
};
Place place(CacheType type, bool k, const uint8_t* block, int64_t head_dim, int32_t token, int64_t group) {
  const uint8_t* scales = block + cache_numbers_bytes(type, head_dim);
  Place p{scales + (group * 32 + token) * 2, nullptr, 1, 0};
  if (type == CacheType::q8_0) {
    p.numbers = k ? block + group * 32 * 32 + token : block + token * cache_padded(head_dim) + group * 32;
    p.step = k ? 32 : 1;
  } else {
    p.numbers = block + group * 32 * 16 + (k ? 0 : token * 16);
    p.first = k ? token : 0;
  }
  return p;
}

void read_row(CacheType type, bool k, const uint8_t* block, int64_t head_dim, int32_t token, uint8_t* row) {
  const int64_t step = k ? 32 : 1, at = k ? token : token * cache_padded(head_dim);
  if (type == CacheType::f32) return gather<4>(block + at * 4, step * 4, head_dim, row);
  if (type == CacheType::f16) return gather<2>(block + at * 2, step * 2, head_dim, row);
  for (int64_t g = 0; g < groups_of(head_dim); ++g) {
    const Place from = place(type, k, block, head_dim, token, g);
    const int n = numbers_in(g, head_dim);
    if (type == CacheType::q8_0) {
      BlockQ8_0 to = {};
      std::memcpy(&to.d, from.scale, 2);
      for (int i = 0; i < n; ++i) to.qs[i] = int8_t(from.numbers[i * from.step]);
      std::memcpy(row + g * int64_t(sizeof to), &to, sizeof to);
    } else {
      BlockQ4_0 to = {};
      std::memcpy(&to.d, from.scale, 2);
      for (int i = 0; i < 32; ++i) {
        const int code = i >= n ? 8
                         : k    ? code_at(from.numbers + i * 16, from.first)
                                : code_at(from.numbers, i);
        put_code(to.qs, i, code);
      }
      std::memcpy(row + g * int64_t(sizeof to), &to, sizeof to);
    }
  }
}

void write_row(CacheType type, bool k, const uint8_t* row, int64_t head_dim, int32_t token, uint8_t* block) {
  const int64_t step = k ? 32 : 1, at = k ? token : token * cache_padded(head_dim);
  if (type == CacheType::f32) return scatter<4>(row, step * 4, head_dim, block + at * 4);
  if (type == CacheType::f16) return scatter<2>(row, step * 2, head_dim, block + at * 2);
  for (int64_t g = 0; g < groups_of(head_dim); ++g) {
    const Place to = place(type, k, block, head_dim, token, g);
    auto* scale = const_cast<uint8_t*>(to.scale);
    auto* numbers = const_cast<uint8_t*>(to.numbers);
    const int n = numbers_in(g, head_dim);
    if (type == CacheType::q8_0) {
      BlockQ8_0 from;
      std::memcpy(&from, row + g * int64_t(sizeof from), sizeof from);
      std::memcpy(scale, &from.d, 2);
      for (int i = 0; i < n; ++i) numbers[i * to.step] = uint8_t(from.qs[i]);
    } else {
      BlockQ4_0 from;
      std::memcpy(&from, row + g * int64_t(sizeof from), sizeof from);
      std::memcpy(scale, &from.d, 2);
      for (int i = 0; i < n; ++i) {
        const int code = code_at(from.qs, i);
        k ? put_code(numbers + i * 16, to.first, code) : put_code(numbers, i, code);
      }
    }
  }
}

}  // namespace

int64_t cache_row_bytes(CacheType type, int64_t head_dim) {
  switch (type) {
    case CacheType::f32:
      return head_dim * 4;
    case CacheType::f16:
      return head_dim * 2;
    case CacheType::q8_0:
      return groups_of(head_dim) * int64_t(sizeof(BlockQ8_0));
    case CacheType::q4_0:
    case CacheType::count:
      break;
  }
  return groups_of(head_dim) * int64_t(sizeof(BlockQ4_0));
}

void read_k_row(CacheType type, const uint8_t* block, int64_t head_dim, int32_t token, uint8_t* row) {
  read_row(type, true, block, head_dim, token, row);
}
void read_v_row(CacheType type, const uint8_t* block, int64_t head_dim, int32_t token, uint8_t* row) {
  read_row(type, false, block, head_dim, token, row);
}
void write_k_row(CacheType type, const uint8_t* row, int64_t head_dim, int32_t token, uint8_t* block) {
  write_row(type, true, row, head_dim, token, block);
}
void write_v_row(CacheType type, const uint8_t* row, int64_t head_dim, int32_t token, uint8_t* block) {
  write_row(type, false, row, head_dim, token, block);
}

}  // namespace inhouse::kernels
