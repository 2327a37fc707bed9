// Passes over a vocabulary's worth of floats: written so that a compiler vectorizes them for its baseline,
// and with sums in a fixed order and an exponential of our own, so that the bits are the same on every
// platform.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace inhouse {

// Values per maximum that scan_maxima keeps.
inline constexpr size_t kScanBlock = 64;

struct Scan {
  float best;  // the highest value; NaN are passed over
  bool has_nan;
};

// Fills maxima [ceil(values / kScanBlock)] with the highest value of each block.
Scan scan_maxima(std::span<const float> values, std::vector<float>& maxima);

// The highest value of a block of at most kScanBlock values.
float block_maximum(std::span<const float> block);

// out[i] = exp((values[i] - shift) / divisor), for values up to shift. Relative error below 2^-22; results
// under 2^-126.5 are zero.
void exp_shifted(const float* values, size_t count, float shift, float divisor, float* out);

// The sum in float64, in eight interleaved partial sums.
double sum(const float* values, size_t count);

// The sum of weights[i] * (values[i] - shift) in float64, summed as in `sum`.
double weighted_sum(const float* weights, const float* values, size_t count, float shift);

// The population standard deviation of the values that are not -infinity.
double deviation(std::span<const float> values, float best);

}  // namespace inhouse
