#include "kernels/packed.h"

#include <cstring>

#include "kernels/quant/half.h"

namespace inhouse::kernels {
namespace {

// Sixteen rows of one step's codes, as quads.
struct StepCodes {
  uint32_t quads[8][kPanelRows];
};

// Merges quads of plain bytes into the bit planes of a step at dst.
void pack_planes(const StepCodes& step, int bits, uint8_t* dst) {
  uint32_t plane[kPanelRows];
  if (bits == 8) {
    std::memcpy(dst, step.quads, sizeof step.quads);
    return;
  }
  int above = 0;  // bits of the low plane
  if (bits >= 4) {
    for (int i = 0; i < 4; ++i, dst += 64) {
      for (int r = 0; r < kPanelRows; ++r)
        plane[r] = (step.quads[i][r] & 0x0f0f0f0fu) | (step.quads[i + 4][r] & 0x0f0f0f0fu) << 4;
      std::memcpy(dst, plane, 64);
    }
    above = 4;
  }
  if (bits == 2 || bits == 3 || bits == 6) {
    for (int i = 0; i < 2; ++i, dst += 64) {
      for (int r = 0; r < kPanelRows; ++r) {
        plane[r] = 0;
        for (int j = 0; j < 4; ++j) plane[r] |= (step.quads[i + 2 * j][r] >> above & 0x03030303u) << 2 * j;
      }
      std::memcpy(dst, plane, 64);
    }
    above += 2;
  }
  if (bits == 3 || bits == 5) {
    for (int r = 0; r < kPanelRows; ++r) {
      plane[r] = 0;
      for (int j = 0; j < 8; ++j) plane[r] |= (step.quads[j][r] >> above & 0x01010101u) << j;
    }
    std::memcpy(dst, plane, 64);
  }
}

// The code of row `lane` at K value k of a step.
uint32_t code_at(const uint8_t* step, int bits, int lane, int k) {
  const int quad = k / 4, byte = lane * 4 + k % 4;
  if (bits == 8) return step[quad * 64 + byte];
  uint32_t code = 0;
  int above = 0;
  if (bits >= 4) {
    code = step[quad % 4 * 64 + byte] >> (quad / 4 * 4) & 15u;
    step += 256;
    above = 4;
  }
  if (bits == 2 || bits == 3 || bits == 6) {
    code |= (step[quad % 2 * 64 + byte] >> (quad / 2 * 2) & 3u) << above;
    step += 128;
    above += 2;
  }
  if (bits == 3 || bits == 5) code |= (step[byte] >> quad & 1u) << above;
  return code;
}

void store_u16(uint8_t* dst, int index, uint16_t value) {
  std::memcpy(dst + 2 * index, &value, 2);
}
uint16_t load_u16(const uint8_t* src, int index) {
  uint16_t value;
  std::memcpy(&value, src + 2 * index, 2);
  return value;
}

void pack_scales(const PackedFormat& format, const RowBlock& row, int lane, uint8_t* block) {
  uint8_t* scales = block + format.scale_offset();
  uint8_t* minimums = block + format.minimum_offset();
  if (!format.two_level) {
    for (int g = 0; g < format.groups(); ++g) {
      store_u16(scales, g * kPanelRows + lane, row.d[g]);
      if (format.minimum) store_u16(minimums, g * kPanelRows + lane, row.minimum[g]);
    }
    return;
  }
  store_u16(block + format.d_offset(), lane, row.d[0]);
  if (format.minimum) store_u16(block + format.dmin_offset(), lane, row.minimum[0]);
  for (int g = 0; g < format.groups(); ++g) {
    const uint8_t scale = uint8_t(row.scales[g]);
    if (format.nibbles) {
      scales[g * kPanelRows + lane] = uint8_t(scale | row.minimums[g] << 4);
    } else {
      scales[g * kPanelRows + lane] = scale;
      if (format.minimum) minimums[g * kPanelRows + lane] = row.minimums[g];
    }
  }
}

}  // namespace

int64_t packed_panel_bytes(const PackedFormat& format, int64_t cols) {
  return (cols + format.block_k() - 1) / format.block_k() * format.block_bytes();
}

void read_row_block(const PackedType& type, const QuantType& file, const uint8_t* row, int64_t index,
                    int64_t cols, RowBlock* out) {
  // File blocks of 32 values are taken two at a time into a packed block of 64.
  const PackedFormat format = type.layout();
  const int parts = format.block_k() / int(file.block_elements);
  row += uint64_t(index * parts) * file.block_bytes;
  if (parts == 1) {
    type.extract(row, out);
    return;
  }
  const int64_t left = cols / file.block_elements - index * parts;
  const int part_groups = format.groups() / parts;
  std::memset(out, 0, sizeof *out);
  RowBlock part;
  for (int p = 0; p < parts && p < left; ++p) {
    type.extract(row + uint64_t(p) * file.block_bytes, &part);
    // Of a size known here, or it would be a call.
    if (parts == 2) std::memcpy(out->codes + p * 32, part.codes, 32);
    for (int g = 0; g < part_groups; ++g) {
      out->d[p * part_groups + g] = part.d[g];
      out->minimum[p * part_groups + g] = part.minimum[g];
    }
  }
}

void pack_panel(const PackedType& type, const QuantType& file, const uint8_t* const* rows, int64_t cols,
                uint8_t* panel) {
  const PackedFormat format = type.layout();
  RowBlock row;
  StepCodes steps[kMaxBlockSteps];
  int64_t index = 0;
  for (int64_t k = 0; k < cols; k += format.block_k(), ++index, panel += format.block_bytes()) {
    std::memset(panel + format.code_bytes(), 0, size_t(format.block_bytes() - format.code_bytes()));
    for (int lane = 0; lane < kPanelRows; ++lane) {
      if (rows[lane]) {
        read_row_block(type, file, rows[lane], index, cols, &row);
      } else {
        std::memset(&row, 0, sizeof row);
      }
      pack_scales(format, row, lane, panel);
      for (int s = 0; s < format.steps(); ++s)
        for (int j = 0; j < 8; ++j) std::memcpy(&steps[s].quads[j][lane], row.codes + s * kStep + 4 * j, 4);
    }
    for (int s = 0; s < format.steps(); ++s)
      pack_planes(steps[s], format.bits, panel + s * format.step_bytes());
  }
}

void decode_packed_row(const PackedType& type, const uint8_t* panel, int lane, int64_t cols, float* dst) {
  const PackedFormat format = type.layout();
  for (int64_t k = 0; k < cols; ++k) {
    const int64_t block_index = k / format.block_k();
    const int within = int(k % format.block_k());
    const uint8_t* block = panel + block_index * format.block_bytes();
    const int at = within / format.group * kPanelRows + lane;
    const uint8_t* scales = block + format.scale_offset();
    const uint8_t* minimums = block + format.minimum_offset();
    float scale, minimum = 0.0f;
    if (format.two_level) {
      const uint8_t byte = scales[at];
      const int small = format.nibbles ? int(byte & 15) : int(int8_t(byte));
      scale = half_to_float(load_u16(block + format.d_offset(), lane)) * type.multiplier * float(small);
      if (format.minimum) {
        const int small_min = format.nibbles ? byte >> 4 : minimums[at];
        minimum = -half_to_float(load_u16(block + format.dmin_offset(), lane)) * float(small_min);
      }
    } else {
      const uint16_t bits = load_u16(scales, at);
      scale = format.bf16 ? bf16_to_float(bits) : half_to_float(bits);
      if (format.minimum) minimum = half_to_float(load_u16(minimums, at));
    }
    const uint8_t* step = block + within / kStep * format.step_bytes();
    int code = int(code_at(step, format.bits, lane, within % kStep));
    code = type.values ? type.values[code] : code - type.zero_point;
    const float product = scale * float(code);
    dst[k] = format.minimum ? product + minimum : product;
  }
}

}  // namespace inhouse::kernels
