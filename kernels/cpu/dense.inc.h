// Float matrices (F32, F16, BF16): float32 products, summed along K in order.

namespace inhouse::kernels {
namespace {

template <DenseType type>
inline F load_weights(const uint8_t* p) {
  if constexpr (type == DenseType::f32) return load(reinterpret_cast<const float*>(p));
  if constexpr (type == DenseType::f16) return load_f16(reinterpret_cast<const uint16_t*>(p));
  if constexpr (type == DenseType::bf16) return load_bf16(reinterpret_cast<const uint16_t*>(p));
}

template <DenseType type, int vectors, int rows>
inline void dense_tile(const DenseMatrix& m, const float* x, int64_t x_stride, int64_t panel, int half,
                       int64_t row, const ProductOut& out) {
  constexpr int size = type == DenseType::f32 ? 4 : 2;
  const uint8_t* w[vectors];
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v)
    w[v] = m.panels + (panel + (half + v) / kHalves) * m.panel_bytes + (half + v) % kHalves * kLanes * size;
  x += row * x_stride;
  F sum[vectors][rows];
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v) {
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) sum[v][t] = set1(0.0f);
  }
  for (int64_t k = 0; k < m.cols; ++k) {
    INHOUSE_UNROLL
    for (int v = 0; v < vectors; ++v) {
      const uint8_t* at = w[v] + k * kPanelRows * size;
      if (rows == 1) prefetch(at + 1024);
      const F number = load_weights<type>(at);
      INHOUSE_UNROLL
      for (int t = 0; t < rows; ++t) sum[v][t] = fma(number, set1(x[t * x_stride + k]), sum[v][t]);
    }
  }
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v) {
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) write(out, row + t, panel * kPanelRows + (half + v) * kLanes, sum[v][t]);
  }
}

constexpr int kDenseRows = kLanes == 16 ? 6 : 2;

template <DenseType type>
void dense(const DenseMatrix& m, const float* x, int64_t x_stride, int64_t rows, int64_t begin, int64_t end,
           const ProductOut& out) {
  const auto sweep = [&]<int vectors>(int64_t panel, int half) {
    int64_t t = 0;
    for (; t + kDenseRows <= rows; t += kDenseRows)
      dense_tile<type, vectors, kDenseRows>(m, x, x_stride, panel, half, t, out);
    for (; t < rows; ++t) dense_tile<type, vectors, 1>(m, x, x_stride, panel, half, t, out);
  };
  const int64_t all = (end - begin) * kHalves;
  int64_t v = 0;
  for (; v + 4 <= all; v += 4) sweep.template operator()<4>(begin + v / kHalves, int(v % kHalves));
  for (; v < all; ++v) sweep.template operator()<1>(begin + v / kHalves, int(v % kHalves));
}

}  // namespace
}  // namespace inhouse::kernels
