#include "native/engine/vector_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace inhouse {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

inline float higher(float a, float b) {
  return a > b ? a : b;
}

// exp(x) for -88 <= x <= 0: x = k ln2 + r with |r| <= ln2 / 2, and the Taylor series to r^7, whose remainder
// is below 6e-9. ln2 is split so that k * kLn2High is exact (Cody and Waite, "Software manual for the
// elementary functions", 1980). Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low
// bits. From -87.7 down k is -127, and the bits of 2^k those of 0.
inline float exp_negative(float x) {
  constexpr float kRound = 12582912.0f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  const float rounded = x * 1.44269504f + kRound;
  const float k = rounded - kRound;
  const float r = (x - k * kLn2High) - k * kLn2Low;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float power = std::bit_cast<float>((std::bit_cast<uint32_t>(rounded) + 127u) << 23);
  return p * power;
}

// A sum in eight interleaved partial sums: the order is fixed, and short chains of additions run side by
// side.
template <class F>
double sum_lanes(size_t count, F term) {
  constexpr size_t kLanes = 8;
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) lanes[l] += term(i + l);
  }
  for (; i < count; ++i) lanes[i % kLanes] += term(i);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace

float block_maximum(std::span<const float> block) {
  float best = kLowest;
  for (float value : block) best = higher(value, best);
  return best;
}

Scan scan_maxima(std::span<const float> values, std::vector<float>& maxima) {
  constexpr size_t kLanes = 16;
  static_assert(kScanBlock == 4 * kLanes);
  maxima.resize((values.size() + kScanBlock - 1) / kScanBlock);
  const size_t whole = values.size() / kScanBlock;
  uint32_t nan[kLanes] = {};
  for (size_t b = 0; b < whole; ++b) {
    const float* x = values.data() + b * kScanBlock;
    float best[kLanes];
    // `higher(value, -inf)` keeps a NaN out of the maximum whatever its place.
    for (size_t i = 0; i < kLanes; ++i) {
      const float a = x[i], c = x[i + kLanes], d = x[i + 2 * kLanes], e = x[i + 3 * kLanes];
      best[i] = higher(e, higher(d, higher(c, higher(a, kLowest))));
      nan[i] |= uint32_t(a != a) | uint32_t(c != c) | uint32_t(d != d) | uint32_t(e != e);
    }
    for (size_t i = 0; i < 8; ++i) best[i] = higher(best[i], best[i + 8]);
    for (size_t i = 0; i < 4; ++i) best[i] = higher(best[i], best[i + 4]);
    maxima[b] = higher(higher(best[0], best[1]), higher(best[2], best[3]));
  }
  Scan scan{kLowest, false};
  if (whole < maxima.size()) {
    const auto tail = values.subspan(whole * kScanBlock);
    maxima[whole] = block_maximum(tail);
    for (float value : tail) scan.has_nan |= value != value;
  }
  for (uint32_t lane : nan) scan.has_nan |= lane != 0;
  scan.best = block_maximum(maxima);
  return scan;
}

void exp_shifted(const float* values, size_t count, float shift, float divisor, float* out) {
  // Two loops, or GCC splits off the clamped values as a special case and leaves the rest scalar.
  constexpr size_t kPiece = 256;
  for (size_t start = 0; start < count; start += kPiece) {
    const size_t end = std::min(count, start + kPiece);
    for (size_t i = start; i < end; ++i) out[i] = higher((values[i] - shift) / divisor, -88.0f);
    for (size_t i = start; i < end; ++i) out[i] = exp_negative(out[i]);
  }
}

double sum(const float* values, size_t count) {
  return sum_lanes(count, [&](size_t i) { return double(values[i]); });
}

double weighted_sum(const float* weights, const float* values, size_t count, float shift) {
  return sum_lanes(count, [&](size_t i) { return double(weights[i]) * (double(values[i]) - double(shift)); });
}

double deviation(std::span<const float> values, float best) {
  const auto in_play = [&](size_t i) { return values[i] > kLowest; };
  const double count = sum_lanes(values.size(), [&](size_t i) { return in_play(i) ? 1.0 : 0.0; });
  const double mean =
      sum_lanes(values.size(),
                [&](size_t i) { return in_play(i) ? double(values[i]) - double(best) : 0.0; }) /
      count;
  const double squares = sum_lanes(values.size(), [&](size_t i) {
    const double distance = in_play(i) ? double(values[i]) - double(best) - mean : 0.0;
    return distance * distance;
  });
  return std::sqrt(squares / count);
}

}  // namespace inhouse
