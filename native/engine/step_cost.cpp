#include "native/engine/step_cost.h"

#include <algorithm>

namespace inhouse {
namespace {

constexpr double kMemory = 0.98;  // what counts of the past after each further step
// What a further row is assumed to take, of a step with one: as if it had been seen over so many rows.
constexpr double kAssumed = 0.1, kAssumedRows = 8;
// A step that takes longer than this many times what is expected was held up by something else.
constexpr double kHeldUp = 2;
constexpr double kKnown = 4;  // steps after which something is expected

}  // namespace

void StepCost::record(int32_t rows, double seconds) {
  if (weight_ > kKnown) seconds = std::min(seconds, kHeldUp * this->seconds(rows));
  weight_ = kMemory * weight_ + 1;
  const double more_rows = rows - rows_, more_seconds = seconds - seconds_;
  rows_ += more_rows / weight_;
  seconds_ += more_seconds / weight_;
  rows_rows_ = kMemory * rows_rows_ + more_rows * (rows - rows_);
  rows_seconds_ = kMemory * rows_seconds_ + more_rows * (seconds - seconds_);
}

double StepCost::seconds(int32_t rows) const {
  if (weight_ == 0) return 0;
  const double assumed = kAssumed * seconds_ / (1 + kAssumed * (rows_ - 1));
  double row = (rows_seconds_ + kAssumedRows * assumed) / (rows_rows_ + kAssumedRows);
  // A step with one row takes some time, and a further row is not for nothing.
  row = std::clamp(row, 0.01 * seconds_ / rows_, 0.99 * seconds_ / rows_);
  return seconds_ + row * (rows - rows_);
}

}  // namespace inhouse
