#include "kernels/cuda/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/quant/half.h"

namespace inhouse::kernels::cuda {
namespace {

void put_u16(uint8_t* dst, uint16_t value) {
  std::memcpy(dst, &value, 2);
}
void or_word(uint8_t* dst, uint32_t bits) {
  uint32_t word;
  std::memcpy(&word, dst, 4);
  word |= bits;
  std::memcpy(dst, &word, 4);
}

// The codes of K values k and k + 1 (k even, of a unit) of a row.
void put_codes(const Layout& layout, uint8_t* unit, int row, int k, uint32_t first, uint32_t second) {
  const PairPlace place = pair_place(row, k % 32);
  const int pair = k / 32 * 8 + place.pair;
  if (layout.bits == 8) {
    uint8_t* at = unit + pair / 8 * 512 + place.lane * 16 + pair % 8 * 2;
    at[0] = uint8_t(first);
    at[1] = uint8_t(second);
    return;
  }
  int above = 0;
  const auto plane = [&](int bits) {
    const int per_word = 16 / bits, shift = bits * (pair % per_word);
    const uint32_t mask = (1u << bits) - 1u;
    or_word(unit + place.lane * bits * 4 + pair / per_word * 4,
            (first >> above & mask) << shift | (second >> above & mask) << (16 + shift));
    unit += bits * 128;
    above += bits;
  };
  if (layout.bits >= 4) plane(4);
  if (layout.bits == 2 || layout.bits == 3 || layout.bits == 6) plane(2);
  if (layout.bits == 3 || layout.bits == 5) plane(1);
}

void put_halves(uint8_t* unit, int row, int k, uint16_t first, uint16_t second) {
  const PairPlace place = pair_place(row, k % 32);
  const int pair = k / 32 * 8 + place.pair;
  or_word(unit + pair / 4 * 512 + place.lane * 16 + pair % 4 * 4, first | uint32_t(second) << 16);
}

void pack_halves_row(const QuantType& type, const uint8_t* row, int lane, int64_t cols, int format,
                     uint8_t* panel, std::vector<float>& numbers) {
  const Layout layout = layout_of(format);
  const int64_t units = units_of(cols);
  numbers.assign(size_t(units * kUnit), 0.0f);
  type.decode(row, numbers.data(), cols);
  float scale = 1;
  if (type.id != TypeId::f16) {  // binary16 numbers stay what they are
    float largest = 0;
    for (int64_t k = 0; k < cols; ++k) {
      const float size = std::fabs(numbers[size_t(k)]);
      if (std::isfinite(size)) largest = std::max(largest, size);
    }
    // The largest comes to lie in [2^14, 2^15).
    if (largest > 0) scale = std::ldexp(1.0f, std::max(-126, std::ilogb(largest) - 14));
  }
  std::memcpy(panel + units * layout.unit_bytes() + lane * 4, &scale, 4);
  for (int64_t k = 0; k < units * kUnit; k += 2) {
    uint8_t* unit = panel + k / kUnit * layout.unit_bytes();
    float rest[2] = {numbers[size_t(k)] / scale, numbers[size_t(k) + 1] / scale};
    for (int part = 0; part < layout.parts; ++part) {
      const uint16_t pair[2] = {float_to_half(rest[0]), float_to_half(rest[1])};
      put_halves(unit + part * 2048, lane, int(k % kUnit), pair[0], pair[1]);
      for (int i = 0; i < 2; ++i) {
        rest[i] -= half_to_float(pair[i]);
        if (!std::isfinite(rest[i])) rest[i] = 0;  // the first part says it already
      }
    }
  }
}

void pack_row(const PackedType& type, const QuantType& file, const uint8_t* row, int lane, int64_t cols,
              uint8_t* panel) {
  const Layout layout = layout_of(int(type.format));
  const PackedFormat format = type.layout();
  const int64_t units = units_of(cols);
  const int pair_row = lane % 8, upper = lane / 8;
  RowBlock block;
  for (int64_t u = 0; u < units; ++u) {
    const int64_t index = u * kUnit / format.block_k();
    const int within = int(u * kUnit % format.block_k());  // of the block
    if (within == 0) read_row_block(type, file, row, index, cols, &block);
    uint8_t* unit = panel + u * layout.unit_bytes();
    for (int k = 0; k < kUnit; k += 2)
      put_codes(layout, unit, lane, k, block.codes[within + k], block.codes[within + k + 1]);
    uint8_t* scales = unit + layout.code_bytes() + pair_row * layout.scale_bytes();
    const int groups = layout.groups(), first = within / layout.group;
    for (int g = 0; g < groups; ++g) {
      const int at = upper * groups + g, minimum_at = 2 * groups + at;
      if (!layout.two_level) {
        put_u16(scales + 2 * at, block.d[first + g]);
        if (layout.minimum) put_u16(scales + 2 * minimum_at, block.minimum[first + g]);
      } else if (layout.nibbles) {
        scales[at] = uint8_t(uint8_t(block.scales[first + g]) | block.minimums[first + g] << 4);
      } else {
        scales[at] = uint8_t(block.scales[first + g]);
        if (layout.minimum) scales[minimum_at] = block.minimums[first + g];
      }
    }
    if (layout.two_level && within == 0) {
      uint8_t* deep = panel + units * layout.unit_bytes() + (index * 8 + pair_row) * layout.deep_bytes();
      put_u16(deep + 2 * upper, block.d[0]);
      if (layout.minimum) put_u16(deep + 4 + 2 * upper, block.minimum[0]);
    }
  }
}

}  // namespace

int cuda_format(TypeId type) {
  if (const PackedType* packed = packed_type(type)) return int(packed->format);
  return type == TypeId::f32 ? kHalfPair : kHalf;
}

void pack_cuda_panel(const QuantType& type, const uint8_t* const* rows, int64_t cols, uint8_t* panel) {
  const PackedType* packed = packed_type(type.id);
  const int format = cuda_format(type.id);
  std::memset(panel, 0, size_t(cuda_panel_bytes(format, cols)));
  std::vector<float> numbers;
  for (int lane = 0; lane < kPanelRows; ++lane) {
    if (!rows[lane]) continue;
    if (packed) {
      pack_row(*packed, type, rows[lane], lane, cols, panel);
    } else {
      pack_halves_row(type, rows[lane], lane, cols, format, panel, numbers);
    }
  }
}

}  // namespace inhouse::kernels::cuda
