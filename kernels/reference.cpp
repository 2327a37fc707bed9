#include "kernels/reference.h"

#include <algorithm>
#include <cmath>

namespace inhouse::kernels::reference {

float dot(const float* a, const float* b, int64_t count) {
  // Sixteen sums, so that the compiler may use vector registers and rounding errors stay small.
  constexpr int kLanes = 16;
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < count; ++i) sums[i % kLanes] += a[i] * b[i];
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

void rms_norm(const float* x, const float* gain, float eps, int64_t width, float* out) {
  const float scale = 1.0f / std::sqrt(dot(x, x, width) / float(width) + eps);
  for (int64_t i = 0; i < width; ++i) out[i] = x[i] * scale * gain[i];
}

void rope_table(int32_t position, const float* inverse_frequencies, int64_t half, float* table) {
  for (int64_t i = 0; i < half; ++i) {
    const float angle = float(position) * inverse_frequencies[i];
    table[i] = std::cos(angle);
    table[half + i] = std::sin(angle);
  }
}

void rope(float* head, const float* table, int64_t half, bool interleaved) {
  for (int64_t i = 0; i < half; ++i) {
    float& x = interleaved ? head[2 * i] : head[i];
    float& y = interleaved ? head[2 * i + 1] : head[half + i];
    const float c = table[i], s = table[half + i];
    const float rotated = x * c - y * s;
    y = x * s + y * c;
    x = rotated;
  }
}

float silu(float x) {
  return x / (1.0f + std::exp(-x));
}

float gelu_tanh(float x) {
  constexpr float kSqrt2OverPi = 0.7978845608028654f;
  return 0.5f * x * (1.0f + std::tanh(kSqrt2OverPi * (x + 0.044715f * x * x * x)));
}

float softcap(float x, float cap) {
  return cap * std::tanh(x / cap);
}

void softmax(float* x, int64_t count) {
  const float max = *std::max_element(x, x + count);
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += x[i] = std::exp(x[i] - max);
  for (int64_t i = 0; i < count; ++i) x[i] /= sum;
}

void log_softmax(float* x, int64_t count) {
  const float max = *std::max_element(x, x + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double(std::exp(x[i] - max));
  const float shift = max + float(std::log(sum));
  for (int64_t i = 0; i < count; ++i) x[i] -= shift;
}

}  // namespace inhouse::kernels::reference
