// Everything of a forward pass that works row by row: norms, rotations, activations, the conversion of
// activations to what products read.
#pragma once

#include "kernels/cuda/unpack.h"

namespace inhouse::kernels::cuda {

template <int FORMAT>
INHOUSE_DEVICE void embed(const EmbedArgs& a) {
  const int32_t token = a.tokens[block_x()];
  const uint8_t* panel = a.panels + token / kPanelRows * a.panel_bytes;
  float* out = a.out + block_x() * a.cols;
  for (int64_t k = thread() * 2; k < a.cols; k += block_threads() * 2) {
    float pair[2];
    unpack_pair<FORMAT>(panel, a.book, a.cols, token % kPanelRows, k, pair);
    out[k] = pair[0] * a.scale;
    if (k + 1 < a.cols) out[k + 1] = pair[1] * a.scale;
  }
}

INHOUSE_DEVICE void rms_norm(const NormArgs& a) {
  const float* x = a.x + block_x() * a.cols;
  float squares = 0;
  for (int64_t k = thread(); k < a.cols; k += block_threads()) squares += x[k] * x[k];
  squares = block_sum(squares, reinterpret_cast<float*>(shared_memory()));
  const float factor = 1.0f / sqrtf(squares / float(a.cols) + a.epsilon);
  float* out = a.out + block_x() * a.cols;
  for (int64_t k = thread(); k < a.cols; k += block_threads()) out[k] = x[k] * factor * a.gain[k];
}

// Rows as binary16 numbers times a power of two: of a row's largest number 11 bits lie before the point, so
// that nothing overflows and numbers 2^-25 times as large are still exact to 2^-11. A row with a number that
// is not finite gets the scale NaN.
INHOUSE_DEVICE void convert(const ConvertArgs& a) {
  const float* x = a.x + block_x() * a.cols;
  float* room = reinterpret_cast<float*>(shared_memory());
  float largest = 0, sum = 0;
  for (int64_t k = thread(); k < a.cols; k += block_threads()) {
    largest = larger(largest, fabsf(x[k]));
    sum += x[k] * 0.0f;  // NaN where a number is not finite
  }
  largest = block_largest(largest, room);
  sum = block_sum(sum, room);
  int exponent = 0;
  if (largest > 0 && largest <= 3.4e38f) frexpf(largest, &exponent);
  exponent = exponent < -100 ? -100 : exponent;
  const float scale = ldexpf(1.0f, exponent - 11), inverse = ldexpf(1.0f, 11 - exponent);
  if (thread() == 0) a.scales[block_x()] = scale + sum;
  const int64_t units = units_of(a.cols);
  uint32_t* halves = a.halves + block_x() * units * 32;
  const auto number = [&](int64_t k) { return k < a.cols && sum == 0 ? x[k] * inverse : 0.0f; };
  // Word w of a row has two numbers that stand side by side in x as well.
  for (int64_t w = thread(); w < units * 32; w += block_threads()) {
    const int word = int(w % 16), q = word / 4, half = word % 4;
    const int64_t k = w / 16 * 32 + half / 2 * 16 + half % 2 * 8 + 2 * q;
    halves[w] = pack_halves(number(k), number(k + 1));
  }
  for (int64_t s = thread(); s < units * 4; s += block_threads()) {
    float of_halves = 0;
    for (int i = 0; i < 16; ++i) of_halves += half_value(half_bits(number(s * 16 + i)));
    a.sums[block_x() * units * 4 + s] = of_halves;
  }
}

// In double: exact range reduction matters more than time.
INHOUSE_DEVICE void rope_table(const RopeTableArgs& a) {
  float* row = a.table + int64_t(block_x()) * 2 * a.half;
  for (int i = thread(); i < a.half; i += block_threads()) {
    const double angle = double(a.positions[block_x()]) * double(a.frequencies[i]);
    row[i] = float(cos(angle));
    row[a.half + i] = float(sin(angle));
  }
}

INHOUSE_DEVICE void rope(const RopeArgs& a) {
  const float* table = a.table + int64_t(block_x()) * 2 * a.half;
  float* row = a.x + int64_t(block_x()) * a.heads * a.head_dim;
  for (int i = thread(); i < a.heads * a.half; i += block_threads()) {
    const int pair = i % a.half;
    float* head = row + i / a.half * a.head_dim;
    float* first = head + (a.split ? pair : 2 * pair);
    float* second = head + (a.split ? pair + a.half : 2 * pair + 1);
    const float c = table[pair], s = table[a.half + pair], x = *first, y = *second;
    *first = x * c - y * s;
    *second = x * s + y * c;
  }
}

INHOUSE_DEVICE int64_t element() {
  return int64_t(block_x()) * kRowThreads + thread();
}

// out = silu(x) * y
INHOUSE_DEVICE void gated_silu(const ElementArgs& a) {
  const int64_t i = element();
  if (i < a.count) a.out[i] = a.x[i] / (1.0f + exponential(-a.x[i])) * a.y[i];
}
// out = gelu(x) * y, by the tanh approximation
INHOUSE_DEVICE void gated_gelu(const ElementArgs& a) {
  const int64_t i = element();
  if (i >= a.count) return;
  const float x = a.x[i], inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
  a.out[i] = 0.5f * x * (1.0f + tanhf(inner)) * a.y[i];
}
// out = x + factor * y
INHOUSE_DEVICE void add_scaled(const ElementArgs& a) {
  const int64_t i = element();
  if (i < a.count) a.out[i] = a.x[i] + a.factor * a.y[i];
}
// out = factor * tanh(x / factor)
INHOUSE_DEVICE void softcap(const ElementArgs& a) {
  const int64_t i = element();
  if (i < a.count) a.out[i] = a.factor * tanhf(a.x[i] / a.factor);
}

// out[r] = x[rows[r]]
INHOUSE_DEVICE void gather(const GatherArgs& a) {
  const float* from = a.x + a.rows[block_x()] * a.width;
  float* to = a.out + block_x() * a.width;
  for (int64_t k = thread(); k < a.width; k += block_threads()) to[k] = from[k];
}

}  // namespace inhouse::kernels::cuda
