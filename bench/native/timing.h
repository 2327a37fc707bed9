// What the executables here measure time with.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace inhouse::bench {

// Seconds of a clock that never goes back.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The upper median of at least one value.
inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + int64_t(values.size()) / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace inhouse::bench
