#include "kernels/quant/grids.h"

namespace inhouse::kernels {
namespace {

#include "kernels/quant/grid_points.inc"

// Lists the points of a bit set in ascending order; a point's lowest digit is its first coordinate.
template <class T, int count, int width, int base>
constexpr Grid<T, count, width> grid_of(const uint64_t* points, const T (&values)[base]) {
  Grid<T, count, width> grid = {};
  uint32_t lattice = 1;
  for (int i = 0; i < width; ++i) lattice *= base;
  int found = 0;
  for (uint32_t point = 0; point < lattice; ++point) {
    if (!(points[point / 64] >> (point % 64) & 1)) continue;
    uint32_t digits = point;
    for (int i = 0; i < width; ++i, digits /= base) grid.at[found][i] = values[digits % base];
    ++found;
  }
  return grid;
}

constexpr uint8_t iq2_values[] = {8, 25, 43};
constexpr uint8_t iq3_xxs_values[] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr uint8_t iq3_s_values[] = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr int8_t iq1_values[] = {-1, 0, 1};

}  // namespace

constinit const Grid<uint8_t, 256, 8> iq2_xxs_grid = grid_of<uint8_t, 256, 8>(iq2_xxs_points, iq2_values);
constinit const Grid<uint8_t, 512, 8> iq2_xs_grid = grid_of<uint8_t, 512, 8>(iq2_xs_points, iq2_values);
constinit const Grid<uint8_t, 1024, 8> iq2_s_grid = grid_of<uint8_t, 1024, 8>(iq2_s_points, iq2_values);
constinit const Grid<uint8_t, 256, 4> iq3_xxs_grid = grid_of<uint8_t, 256, 4>(iq3_xxs_points, iq3_xxs_values);
constinit const Grid<uint8_t, 512, 4> iq3_s_grid = grid_of<uint8_t, 512, 4>(iq3_s_points, iq3_s_values);
constinit const Grid<int8_t, 2048, 8> iq1_grid = grid_of<int8_t, 2048, 8>(iq1_points, iq1_values);

#define ROW(i) S(i), S(i + 1), S(i + 2), S(i + 3), S(i + 4), S(i + 5), S(i + 6), S(i + 7)
#define S(i) \
  uint8_t((i) | ((((i) ^ (i) >> 1 ^ (i) >> 2 ^ (i) >> 3 ^ (i) >> 4 ^ (i) >> 5 ^ (i) >> 6) & 1) << 7))
const uint8_t iq_signs[128] = {ROW(0),  ROW(8),  ROW(16), ROW(24), ROW(32), ROW(40),  ROW(48),  ROW(56),
                               ROW(64), ROW(72), ROW(80), ROW(88), ROW(96), ROW(104), ROW(112), ROW(120)};
#undef S
#undef ROW

}  // namespace inhouse::kernels
