// Elementwise ops, norms and activation quantization, written once over the vectors of a simd_*.h.

namespace inhouse::kernels {
namespace {

// Sums are kept in 16 lanes on every instruction set and added up as one tree, so that they have the same
// bits.
constexpr int kSumVectors = 16 / kLanes;
inline float tree_sum(const F (&v)[kSumVectors]) {
  float lanes[16];
  for (int i = 0; i < kSumVectors; ++i) store(lanes + i * kLanes, v[i]);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

// e^x within 1.5 units in the last place; 0 below -87.3, infinity above 88.3; NaN stays NaN.
// 2^n e^r with |r| <= ln 2 / 2; the polynomial is a Chebyshev fit of (e^r - 1 - r) / r^2.
inline F exp(F x) {
  const F low = set1(-87.3f), high = set1(88.3f);
  const F y = min(high, max(low, x));
  const I n = to_int(mul(y, set1(1.44269504f)));
  const F nf = to_float(n);
  F r = fnma(nf, set1(0x1.63p-1f), y);
  r = fnma(nf, set1(-0x1.bd0106p-13f), r);
  F p = set1(0x1.6d4328p-10f);
  p = fma(p, r, set1(0x1.120b74p-7f));
  p = fma(p, r, set1(0x1.5554eap-5f));
  p = fma(p, r, set1(0x1.5554dcp-3f));
  p = fma(p, r, set1(0.5f));
  p = add(fma(mul(r, r), p, r), set1(1.0f));
  const F result = select_less(high, x, set1(__builtin_inff()), scale_by_power(p, n));
  // A NaN's integer part is unspecified: add the argument's own NaN back.
  return add(select_less(x, low, set1(0.0f), result), sub(y, y));
}

// tanh within 2 units in the last place: an odd polynomial (Chebyshev fit) below 0.625, else by e^2|x|.
inline F tanh(F x) {
  const F a = abs(x);
  const F z = mul(x, x);
  F p = set1(0x1.2ceba6p-9f);
  p = fma(p, z, set1(-0x1.11838cp-7f));
  p = fma(p, z, set1(0x1.64add6p-6f));
  p = fma(p, z, set1(-0x1.ba0914p-5f));
  p = fma(p, z, set1(0x1.1110eap-3f));
  p = fma(p, z, set1(-0x1.555556p-2f));
  const F small = fma(mul(z, x), p, x);
  const F large = sub(set1(1.0f), div(set1(2.0f), add(exp(add(a, a)), set1(1.0f))));
  const F with_sign = select_less(x, set1(0.0f), sub(set1(0.0f), large), large);
  return select_less(a, set1(0.625f), small, with_sign);
}

void rms_norm(const float* x, const float* gain, float eps, int64_t rows, int64_t cols, float* out) {
  for (int64_t r = 0; r < rows; ++r, x += cols, out += cols) {
    F sum[kSumVectors];
    for (int i = 0; i < kSumVectors; ++i) sum[i] = set1(0.0f);
    int64_t c = 0;
    for (; c + 16 <= cols; c += 16)
      for (int i = 0; i < kSumVectors; ++i) {
        const F v = load(x + c + i * kLanes);
        sum[i] = fma(v, v, sum[i]);
      }
    for (int i = 0; c + i * kLanes < cols; ++i) {
      const F v = load_part(x + c + i * kLanes, cols - c - i * kLanes);
      sum[i] = fma(v, v, sum[i]);
    }
    const float mean = tree_sum(sum) / float(cols);
    const F scale = set1(1.0f / __builtin_sqrtf(mean + eps));
    for (c = 0; c + kLanes <= cols; c += kLanes) store(out + c, mul(mul(load(x + c), scale), load(gain + c)));
    if (c < cols)
      store_part(out + c, mul(mul(load_part(x + c, cols - c), scale), load_part(gain + c, cols - c)),
                 cols - c);
  }
}

void rope(float* x, const float* table, int64_t rows, int32_t heads, int32_t head_dim, int32_t dims,
          bool split) {
  const int32_t half = dims / 2;
  for (int64_t r = 0; r < rows; ++r, table += dims) {
    const float* cosines = table;
    const float* sines = table + half;
    for (int32_t h = 0; h < heads; ++h, x += head_dim) {
      if (split) {
        for (int32_t i = 0; i < half; ++i) {
          const float a = x[i], b = x[i + half];
          x[i] = a * cosines[i] - b * sines[i];
          x[i + half] = b * cosines[i] + a * sines[i];
        }
      } else {
        for (int32_t i = 0; i < half; ++i) {
          const float a = x[2 * i], b = x[2 * i + 1];
          x[2 * i] = a * cosines[i] - b * sines[i];
          x[2 * i + 1] = b * cosines[i] + a * sines[i];
        }
      }
    }
  }
}

template <class Op>
inline void elementwise(const float* a, const float* b, int64_t count, float* out, Op op) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, op(load(a + i), load(b + i)));
  if (i < count) store_part(out + i, op(load_part(a + i, count - i), load_part(b + i, count - i)), count - i);
}

// gate / (1 + e^-gate) * up
void silu(const float* gate, const float* up, int64_t count, float* out) {
  elementwise(gate, up, count, out,
              [](F g, F u) { return mul(div(g, add(set1(1.0f), exp(sub(set1(0.0f), g)))), u); });
}

// The tanh form of GELU, as g / (1 + e^-2t) with t = sqrt(2 / pi) (g + 0.044715 g^3): the same function,
// without the cancellation of 1 + tanh.
void gelu_tanh(const float* gate, const float* up, int64_t count, float* out) {
  elementwise(gate, up, count, out, [](F g, F u) {
    const F cubic = fma(mul(mul(g, g), g), set1(0.044715f), g);
    return mul(div(g, add(set1(1.0f), exp(mul(cubic, set1(-1.59576912f))))), u);
  });
}

void add_to(float* x, const float* y, int64_t count) {
  elementwise(x, y, count, x, [](F a, F b) { return add(a, b); });
}

void add_scaled(float* x, const float* y, float scale, int64_t count) {
  const F by = set1(scale);
  elementwise(x, y, count, x, [&](F a, F b) { return fma(b, by, a); });
}

void softcap(float* x, int64_t count, float cap) {
  const F to = set1(cap), from = set1(1.0f / cap);
  elementwise(x, x, count, x, [&](F a, F) { return mul(tanh(mul(a, from)), to); });
}

constexpr int kStepVectors = kStep / kLanes;

// One step of 32 values: codes and sums of codes per 16. With `rest`, x becomes what the codes leave over.
template <bool rest>
inline void round_step(F (&x)[kStepVectors], float scale, float inverse, int8_t* codes, int16_t* sums) {
  const F by = set1(inverse);
  I sum[2] = {set1_i(0), set1_i(0)};
  INHOUSE_UNROLL
  for (int i = 0; i < kStepVectors; ++i) {
    const I q = to_int(mul(x[i], by));
    store_i8(codes + i * kLanes, q);
    sum[i * kLanes / 16] = add_i(sum[i * kLanes / 16], q);
    if constexpr (rest) x[i] = fnma(to_float(q), set1(scale), x[i]);
  }
  sums[0] = int16_t(sum_of(sum[0]));
  sums[1] = int16_t(sum_of(sum[1]));
}

template <int planes>
inline void quantize_row(const float* x, int64_t cols, int64_t stride, int8_t* codes, float* scales,
                         int16_t* sums) {
  for (int64_t step = 0; step < cols / kStep; ++step) {
    F v[kStepVectors];
    F most = set1(0.0f);
    bool bad = false;
    INHOUSE_UNROLL
    for (int i = 0; i < kStepVectors; i += 2) {
      v[i] = load(x + step * kStep + i * kLanes);
      v[i + 1] = load(x + step * kStep + (i + 1) * kLanes);
      bad |= any_not_finite(v[i], v[i + 1]);
      most = max(most, max(abs(v[i]), abs(v[i + 1])));
    }
    const float greatest = max_of(most);
    // Below, the inverse would overflow; such numbers count as zero.
    const bool zero = greatest < 1e-35f;
    float scale = zero ? 0.0f : greatest / 127.0f;
    float inverse = zero ? 0.0f : 127.0f / greatest;
    if (__builtin_expect(bad, false)) {  // the output becomes NaN, whatever the codes
      scale = __builtin_nanf("");
      inverse = 0.0f;
      for (int i = 0; i < kStepVectors; ++i) v[i] = set1(0.0f);
    }
    round_step<planes == 2>(v, bad ? 0.0f : scale, inverse, codes + step * kStep, sums + 2 * step);
    scales[step] = scale;
    if constexpr (planes == 2) {
      round_step<false>(v, 0.0f, inverse * 254.0f, codes + stride + step * kStep,
                        sums + stride / 16 + 2 * step);
      scales[stride / kStep + step] = scale * (1.0f / 254.0f);
    }
  }
  for (int p = 0; p < planes; ++p) {
    __builtin_memset(codes + p * stride + cols, 0, size_t(stride - cols));
    __builtin_memset(scales + p * stride / kStep + cols / kStep, 0, size_t(stride - cols) / kStep * 4);
    __builtin_memset(sums + p * stride / 16 + cols / 16, 0, size_t(stride - cols) / 16 * 2);
  }
}

void quantize(const float* x, int64_t rows, int64_t cols, int64_t stride, int planes, int8_t* codes,
              float* scales, int16_t* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    (planes == 2 ? quantize_row<2> : quantize_row<1>)(x, cols, stride, codes, scales, sums);
    x += cols;
    codes += stride * planes;
    scales += stride / kStep * planes;
    sums += stride / 16 * planes;
  }
}

}  // namespace
}  // namespace inhouse::kernels
