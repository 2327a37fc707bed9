// Float matrices (F32, F16, BF16): sums in float32 along K in order, as DenseStep (dense_float.h) takes it.
#include "kernels/cpu/dense_float.h"

namespace inhouse::kernels {
namespace {

// Values [k, k + count) of K; the sums of those before stand in `out`.
template <DenseType type, int vectors, int rows>
inline void dense_tile(const DenseMatrix& m, const DenseStep<type>& step, int64_t k, int64_t count,
                       int64_t panel, int half, int64_t row, const ProductOut& out) {
  using Step = DenseStep<type>;
  constexpr int size = type == DenseType::f32 ? 4 : 2;
  const uint8_t* w[vectors];
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v)
    w[v] = m.panels + (panel + (half + v) / kHalves) * m.panel_bytes +
           (k * kPanelRows + (half + v) % kHalves * kLanes) * size;
  F sum[vectors][rows];
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v) {
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t)
      sum[v][t] = k == 0 ? set1(0.0f) : read(out, row + t, panel * kPanelRows + (half + v) * kLanes);
  }
  const typename Step::X* x = step.x;
  const int64_t x_stride = step.x_stride, steps = (count + Step::values - 1) / Step::values;
  for (int64_t s = 0; s < steps; ++s) {
    INHOUSE_UNROLL
    for (int v = 0; v < vectors; ++v) {
      const uint8_t* at = w[v] + s * Step::values * kPanelRows * size;
      if (rows == 1 && v % kHalves == 0) prefetch(at + 1024);  // once for a panel, whose vectors share a line
      const auto number = Step::load(at);
      INHOUSE_UNROLL
      for (int t = 0; t < rows; ++t) sum[v][t] = Step::add(sum[v][t], number, x[t * x_stride + s]);
    }
  }
  ProductOut to = out;
  if (k + count < m.cols) to.bias = nullptr;
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v) {
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) write(to, row + t, panel * kPanelRows + (half + v) * kLanes, sum[v][t]);
  }
}

template <DenseType type>
void dense(const DenseMatrix& m, const float* x, int64_t x_stride, int64_t rows, int64_t begin, int64_t end,
           const ProductOut& out) {
  DenseStep<type> step;
  const int64_t all = (end - begin) * kHalves;
  int64_t count = 0;
  for (int64_t k = 0; k < m.cols; k += count) {
    count = m.cols - k < step.most ? m.cols - k : step.most;
    const auto tile = [&]<int vectors, int tile_rows>(int64_t panel, int half, int64_t t) {
      step.template take<tile_rows>(x + t * x_stride + k, x_stride, count);
      dense_tile<type, vectors, tile_rows>(m, step, k, count, panel, half, t, out);
    };
    const auto sweep = [&]<int vectors>(int64_t panel, int half) {
      int64_t t = 0;
      for (; t + kDenseRows <= rows; t += kDenseRows)
        tile.template operator()<vectors, kDenseRows>(panel, half, t);
      for (; t < rows; ++t) tile.template operator()<vectors, 1>(panel, half, t);
    };
    int64_t v = 0;
    for (; v + 4 <= all; v += 4) sweep.template operator()<4>(begin + v / kHalves, int(v % kHalves));
    for (; v < all; ++v) sweep.template operator()<1>(begin + v / kHalves, int(v % kHalves));
  }
}

}  // namespace
}  // namespace inhouse::kernels
