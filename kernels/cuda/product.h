// Products of a forward pass: rows of activations times weight matrices, by 16x8x16 matrix instructions for
// any number of rows. Codes enter the instruction as exact integers; their scales are applied to its sums in
// float32. Warp w of a block takes the units w, w + 8, … of K, and the warps' sums are added in order: a sum
// has the same bits whatever else is in the batch.
#pragma once

#include "kernels/cuda/unpack.h"

namespace inhouse::kernels::cuda {

template <int FORMAT, int NT>
INHOUSE_DEVICE void product(const ProductArgs& a) {
  constexpr Layout L = layout_of(FORMAT);
  constexpr int P = product_panels(NT);
  constexpr int kSteps = L.group / 16;  // of one group
  // Which of the products, and its panels.
  int which = 0, panel = block_x() * P;
  while (which + 1 < a.count && panel >= (a.products[which].panel_count + P - 1) / P * P) {
    panel -= (a.products[which].panel_count + P - 1) / P * P;
    ++which;
  }
  const Product& p = a.products[which];
  RowTile tile = {0, block_y() * NT * 8, a.x_rows};
  if (a.tiles) tile = a.tiles[block_y()];
  if (tile.begin >= tile.end) return;

  const int64_t units = units_of(a.cols);
  const uint8_t* panels[P];
  INHOUSE_UNROLL
  for (int i = 0; i < P; ++i) {
    // A block at the end computes a panel twice rather than none.
    const int index = panel + i < p.panel_count ? panel + i : p.panel_count - 1;
    panels[i] = p.panels + (int64_t(tile.matrix) * p.panel_count + index) * a.panel_bytes;
  }
  const int r = lane() / 4, q = lane() % 4;
  // The row of x that this lane reads for each tile of 8, and those whose sums it holds.
  const auto source = [&](int row) {
    if (row >= tile.end) return -1;
    return a.sources ? a.sources[row] : row;
  };
  int reads[NT], holds[NT][2];
  INHOUSE_UNROLL
  for (int t = 0; t < NT; ++t) {
    reads[t] = source(tile.begin + t * 8 + r);
    holds[t][0] = source(tile.begin + t * 8 + 2 * q);
    holds[t][1] = source(tile.begin + t * 8 + 2 * q + 1);
  }
  float sums[P][NT][4] = {};
  for (int64_t u = warp(); u < units; u += kProductWarps) {
    UnitCodes<FORMAT> codes[P];
    UnitScales<FORMAT> scales[P];
    INHOUSE_UNROLL
    for (int i = 0; i < P; ++i) {
      const uint8_t* unit = panels[i] + u * L.unit_bytes();
      const uint8_t* deep = panels[i] + units * L.unit_bytes() + u / 4 * 8 * L.deep_bytes();
      codes[i].load(unit, lane());
      scales[i].load(unit, deep, r, p.book);
    }
    INHOUSE_UNROLL
    for (int t = 0; t < NT; ++t) {
      Words4 x[2] = {};  // a cell each
      if (reads[t] >= 0) {
        const uint32_t* from = a.x.halves + (reads[t] * units + u) * 32 + q * 4;
        x[0] = load_words4(from);
        x[1] = load_words4(from + 16);
      }
      INHOUSE_UNROLL
      for (int g = 0; g < L.groups(); ++g) {
        float of_x[2] = {};  // sums of the group's activations
        if constexpr (L.minimum) {
          INHOUSE_UNROLL
          for (int c = 0; c < 2; ++c) {
            if (holds[t][c] < 0) continue;
            const float* from = a.x.sums + (holds[t][c] * units + u) * 4 + g * kSteps;
            of_x[c] = from[0];
            if constexpr (kSteps == 2) of_x[c] += from[1];
          }
        }
        INHOUSE_UNROLL
        for (int i = 0; i < P; ++i) {
          float part[4] = {};
          INHOUSE_UNROLL
          for (int s = g * kSteps; s < (g + 1) * kSteps; ++s) {
            const uint32_t second[2] = {x[s / 2].x[s % 2 * 2], x[s / 2].x[s % 2 * 2 + 1]};
            INHOUSE_UNROLL
            for (int m = 0; m < L.parts; ++m) {
              const uint32_t first[4] = {
                  codes[i].numbers(s * 4, m, p.book), codes[i].numbers(s * 4 + 1, m, p.book),
                  codes[i].numbers(s * 4 + 2, m, p.book), codes[i].numbers(s * 4 + 3, m, p.book)};
              multiply_add_16x8x16(part, first, second);
            }
          }
          INHOUSE_UNROLL
          for (int j = 0; j < 4; ++j) {
            sums[i][t][j] += scales[i].scale[g][j / 2] * part[j];
            if constexpr (L.minimum) sums[i][t][j] += scales[i].minimum[g][j / 2] * of_x[j % 2];
          }
        }
      }
    }
  }

  // [warp][row][column] of one panel at a time.
  float* shared = reinterpret_cast<float*>(shared_memory());
  constexpr int kColumns = NT * 8, kNumbers = kPanelRows * kColumns;
  INHOUSE_UNROLL
  for (int i = 0; i < P; ++i) {
    if (i > 0) sync_block();
    INHOUSE_UNROLL
    for (int t = 0; t < NT; ++t) {
      INHOUSE_UNROLL
      for (int j = 0; j < 4; ++j)
        shared[warp() * kNumbers + (r + j / 2 * 8) * kColumns + t * 8 + 2 * q + j % 2] = sums[i][t][j];
    }
    sync_block();
    for (int at = thread(); at < kNumbers; at += kProductThreads) {
      const int row = (panel + i) * kPanelRows + at % kPanelRows, column = at / kPanelRows;
      const int x_row = tile.begin + column;
      if (panel + i >= p.panel_count || row >= p.rows || x_row >= tile.end) continue;
      float sum = 0;
      for (int w = 0; w < kProductWarps; ++w)
        sum += shared[w * kNumbers + at % kPanelRows * kColumns + column];
      if constexpr (is_half(FORMAT)) sum *= half_row_scale(panels[i], FORMAT, a.cols, at % kPanelRows);
      sum *= a.x.scales[source(x_row)];
      if (p.bias) sum += p.bias[row];
      p.out[int64_t(x_row) * p.rows + row] = sum;
    }
  }
}

}  // namespace inhouse::kernels::cuda
