// The grids of the codebook (IQ) types: what a grid index in a block stands for, 8 or 4 values at a time.
#pragma once

#include <cstdint>

namespace inhouse::kernels {

template <class T, int count, int width>
struct Grid {
  alignas(64) T at[count][width];
};

extern const Grid<uint8_t, 256, 8> iq2_xxs_grid;
extern const Grid<uint8_t, 512, 8> iq2_xs_grid;
extern const Grid<uint8_t, 1024, 8> iq2_s_grid;
extern const Grid<uint8_t, 256, 4> iq3_xxs_grid;
extern const Grid<uint8_t, 512, 4> iq3_s_grid;
extern const Grid<int8_t, 2048, 8> iq1_grid;  // -1, 0, 1; the block adds plus or minus 1/8 to each

// A 7-bit sign index as eight sign bits: the eighth makes their number even.
extern const uint8_t iq_signs[128];

}  // namespace inhouse::kernels
