// From the layout of weights (layout.h) to operands of matrix instructions, and to single numbers.
#pragma once

#include "kernels/cuda/device.h"

namespace inhouse::kernels::cuda {

// The codes of a unit as a lane has them.
template <int FORMAT>
struct UnitCodes {
  static constexpr Layout L = layout_of(FORMAT);
  static constexpr int kWords = L.bits * L.parts;
  uint32_t words[kWords];

  // unit: its first byte.
  INHOUSE_DEVICE_MEMBER void load(const uint8_t* unit, int lane_index) {
    int word = 0;
    const auto plane16 = [&](const uint8_t* from) {
      const Words4 w = load_words4(from + lane_index * 16);
      INHOUSE_UNROLL
      for (int i = 0; i < 4; ++i) words[word + i] = w.x[i];
      word += 4;
    };
    if constexpr (L.bits >= 8) {
      INHOUSE_UNROLL
      for (int i = 0; i < kWords / 4; ++i) plane16(unit + i * 512);
    } else {
      if constexpr (L.bits >= 4) {
        plane16(unit);
        unit += 512;
      }
      if constexpr (L.bits == 2 || L.bits == 3 || L.bits == 6) {
        const Words2 w = load_words2(unit + lane_index * 8);
        words[word] = w.x[0];
        words[word + 1] = w.x[1];
        word += 2;
        unit += 256;
      }
      if constexpr (L.bits == 3 || L.bits == 5) words[word] = load_word(unit + lane_index * 4);
    }
  }

  // Pair `pair` (0 … 15) of the unit as numbers without their scale: exact in binary16.
  INHOUSE_DEVICE_MEMBER uint32_t numbers(int pair, int part, const Codebook& book) const {
    if constexpr (L.bits == 16) {
      return words[part * 16 + pair];
    } else {
      // A code in the low bits of the binary16 number 1024 is 1024 + code.
      uint32_t codes;
      if constexpr (L.bits == 8) {
        codes = byte_permute(words[pair / 2], 0x64646464u, pair % 2 ? 0x4342u : 0x4140u);
        return half2_subtract(codes, 0x64806480u);  // all types of 8 bits have the zero point 128
      } else {
        int word = 0, above = 0;
        codes = 0;
        if constexpr (L.bits >= 4) {
          codes = words[pair / 4] >> 4 * (pair % 4) & 0x000f000fu;
          word = 4;
          above = 4;
        }
        if constexpr (L.bits == 2 || L.bits == 3 || L.bits == 6) {
          codes |= (words[word + pair / 8] >> 2 * (pair % 8) & 0x00030003u) << above;
          word += 2;
          above += 2;
        }
        if constexpr (L.bits == 3 || L.bits == 5) codes |= (words[word] >> pair & 0x00010001u) << above;
        if constexpr (has_lookup()) {
          const uint32_t low = look_up(codes & 15u, book), high = look_up(codes >> 16, book);
          return half2_subtract(0x64006400u | low | high << 16, 0x64806480u);
        } else {
          const uint32_t zero = 0x6400u + uint32_t(book.zero_point);
          return half2_subtract(codes | 0x64006400u, zero | zero << 16);
        }
      }
    }
  }

 private:
  static constexpr bool has_lookup() {
    if constexpr (FORMAT < kFormats) {
      return packed_formats[FORMAT].lookup;
    } else {
      return false;
    }
  }
  INHOUSE_DEVICE_MEMBER static uint32_t look_up(uint32_t code, const Codebook& book) {
    const uint32_t low = byte_permute(book.lookup[0], book.lookup[1], code & 7u);
    const uint32_t high = byte_permute(book.lookup[2], book.lookup[3], code & 7u);
    return (code & 8u ? high : low) & 255u;
  }
};

// The scale and the minimum of each group of a unit, of rows r and r + 8.
template <int FORMAT>
struct UnitScales {
  static constexpr Layout L = layout_of(FORMAT);
  static constexpr int kGroups = L.groups();
  float scale[kGroups][2];
  float minimum[kGroups][2];

  // unit: its first byte; deep: those of d of the 256 K values that it is of; r < 8.
  INHOUSE_DEVICE_MEMBER void load(const uint8_t* unit, const uint8_t* deep, int r, const Codebook& book) {
    if constexpr (L.bits == 16) {
      scale[0][0] = scale[0][1] = 1.0f;
    } else {
      const uint8_t* at = unit + L.code_bytes() + r * L.scale_bytes();
      uint32_t words[L.scale_bytes() / 4];
      if constexpr (L.scale_bytes() % 16 == 0) {
        INHOUSE_UNROLL
        for (int i = 0; i < L.scale_bytes() / 16; ++i) {
          const Words4 w = load_words4(at + i * 16);
          INHOUSE_UNROLL
          for (int j = 0; j < 4; ++j) words[i * 4 + j] = w.x[j];
        }
      } else if constexpr (L.scale_bytes() == 8) {
        const Words2 w = load_words2(at);
        words[0] = w.x[0];
        words[1] = w.x[1];
      } else {
        words[0] = load_word(at);
      }
      if constexpr (L.two_level) {
        const uint32_t d = load_word(deep + r * L.deep_bytes());
        const float of_row[2] = {half_value(d & 0xffffu) * book.multiplier,
                                 half_value(d >> 16) * book.multiplier};
        float lowest[2] = {};
        if constexpr (L.minimum) {
          const uint32_t m = load_word(deep + r * L.deep_bytes() + 4);
          lowest[0] = -half_value(m & 0xffffu);
          lowest[1] = -half_value(m >> 16);
        }
        INHOUSE_UNROLL
        for (int row = 0; row < 2; ++row) {
          INHOUSE_UNROLL
          for (int g = 0; g < kGroups; ++g) {
            const int i = row * kGroups + g, j = 2 * kGroups + i;
            const uint32_t byte = words[i / 4] >> 8 * (i % 4) & 255u;
            if constexpr (L.nibbles) {
              scale[g][row] = of_row[row] * float(int(byte & 15u));
              minimum[g][row] = lowest[row] * float(int(byte >> 4));
            } else {
              scale[g][row] = of_row[row] * float(int(int8_t(byte)));
              if constexpr (L.minimum)
                minimum[g][row] = lowest[row] * float(int(words[j / 4] >> 8 * (j % 4) & 255u));
            }
          }
        }
      } else {
        INHOUSE_UNROLL
        for (int row = 0; row < 2; ++row) {
          INHOUSE_UNROLL
          for (int g = 0; g < kGroups; ++g) {
            const int i = row * kGroups + g, j = 2 * kGroups + i;
            scale[g][row] = flat(words[i / 2] >> 16 * (i % 2) & 0xffffu);
            if constexpr (L.minimum) minimum[g][row] = flat(words[j / 2] >> 16 * (j % 2) & 0xffffu);
          }
        }
      }
    }
  }

 private:
  INHOUSE_DEVICE_MEMBER static float flat(uint32_t bits) {
    if constexpr (packed_formats[FORMAT < kFormats ? FORMAT : 0].bf16) return float_of_word(bits << 16);
    return half_value(bits);
  }
};

// The float32 scale of a row of binary16 numbers; panel: its first byte.
INHOUSE_DEVICE float half_row_scale(const uint8_t* panel, int format, int64_t cols, int row) {
  return float_of_word(load_word(panel + units_of(cols) * layout_of(format).unit_bytes() + row * 4));
}

// K values k and k + 1 (k even) of a row (0 … 15) of a panel.
template <int FORMAT>
INHOUSE_DEVICE void unpack_pair(const uint8_t* panel, const Codebook& book, int64_t cols, int row, int64_t k,
                                float (&out)[2]) {
  constexpr Layout L = layout_of(FORMAT);
  const int64_t u = k / kUnit;
  const int within = int(k % kUnit);
  const uint8_t* unit = panel + u * L.unit_bytes();
  const uint8_t* deep = panel + units_of(cols) * L.unit_bytes() + k / 256 * 8 * L.deep_bytes();
  const PairPlace place = pair_place(row, within % 32);
  const int pair = within / 32 * 8 + place.pair;
  UnitCodes<FORMAT> codes;
  codes.load(unit, place.lane);
  UnitScales<FORMAT> scales;
  scales.load(unit, deep, row % 8, book);
  out[0] = out[1] = 0;
  float scale = 1, minimum = 0;
  INHOUSE_UNROLL
  for (int g = 0; g < L.groups(); ++g) {
    if (g != within / L.group) continue;
    scale = row < 8 ? scales.scale[g][0] : scales.scale[g][1];
    if constexpr (L.minimum) minimum = row < 8 ? scales.minimum[g][0] : scales.minimum[g][1];
  }
  if constexpr (is_half(FORMAT)) scale = half_row_scale(panel, FORMAT, cols, row);
  INHOUSE_UNROLL
  for (int part = 0; part < L.parts; ++part) {
    INHOUSE_UNROLL
    for (int p = 0; p < 16; ++p) {
      if (p != pair) continue;
      const uint32_t numbers = codes.numbers(p, part, book);
      out[0] += half_value(numbers & 0xffffu);
      out[1] += half_value(numbers >> 16);
    }
  }
  for (float& number : out) number = L.minimum ? number * scale + minimum : number * scale;
}

}  // namespace inhouse::kernels::cuda
