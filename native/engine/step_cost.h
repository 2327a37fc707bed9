// What a step takes by its rows, learned from the last steps.
#pragma once

#include <cstdint>

namespace inhouse {

// A line through the last steps' times.
class StepCost {
 public:
  void record(int32_t rows, double seconds);
  double seconds(int32_t rows) const;  // 0 where nothing is known

 private:
  // Weighted means, and sums of squares and products around them.
  double weight_ = 0, rows_ = 0, seconds_ = 0, rows_rows_ = 0, rows_seconds_ = 0;
};

}  // namespace inhouse
