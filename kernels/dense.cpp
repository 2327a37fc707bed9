// Packing of float matrices: 16 rows interleaved, element by element.
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/quant/half.h"

namespace inhouse::kernels {
namespace {

template <class Bits>
void interleave(const uint8_t* const* rows, int64_t cols, uint8_t* panel) {
  for (int64_t k = 0; k < cols; ++k) {
    Bits column[kPanelRows];
    for (int r = 0; r < kPanelRows; ++r) {
      column[r] = 0;
      if (rows[r]) std::memcpy(&column[r], rows[r] + uint64_t(k) * sizeof(Bits), sizeof(Bits));
    }
    std::memcpy(panel + uint64_t(k) * sizeof column, column, sizeof column);
  }
}

}  // namespace

int64_t dense_panel_bytes(DenseType type, int64_t cols) {
  return (cols * kPanelRows * (type == DenseType::f32 ? 4 : 2) + 63) / 64 * 64;
}

void pack_dense_panel(DenseType type, const uint8_t* const* rows, int64_t cols, uint8_t* panel) {
  // Zeros at the end stand for the row that an odd K lacks where rows are multiplied in pairs.
  const int64_t end = cols * kPanelRows * (type == DenseType::f32 ? 4 : 2);
  std::memset(panel + end, 0, size_t(dense_panel_bytes(type, cols) - end));
  if (type == DenseType::f32) {
    interleave<uint32_t>(rows, cols, panel);
  } else {
    interleave<uint16_t>(rows, cols, panel);
  }
}

void decode_dense_row(DenseType type, const uint8_t* panel, int lane, int64_t cols, float* dst) {
  for (int64_t k = 0; k < cols; ++k) {
    const uint64_t at = uint64_t(k) * kPanelRows + uint64_t(lane);
    uint16_t bits = 0;
    if (type == DenseType::f32) {
      std::memcpy(dst + k, panel + 4 * at, 4);
    } else {
      std::memcpy(&bits, panel + 2 * at, 2);
      dst[k] = type == DenseType::f16 ? half_to_float(bits) : bf16_to_float(bits);
    }
  }
}

}  // namespace inhouse::kernels
