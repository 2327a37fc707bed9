// Which experts the rows of a step get, and the rows sorted by expert, so that each expert's weights meet all
// of theirs at once.
#pragma once

#include <span>
#include <vector>

#include "native/ops/backend.h"

namespace inhouse {

// Rows [begin, end) of activations that meet one matrix of a weight's stack.
struct RowGroup {
  int64_t matrix, begin, end;
};

// Filled by `begin`, then `choose` for every row, then `sort`; kept from step to step, so that its memory is.
class Routing {
 public:
  void begin(int64_t rows, const ExpertParams& params);
  // The params.used experts of the highest logits [params.count], of equal ones that of the lower index
  // first. Different rows may be chosen for on different threads.
  void choose(int64_t row, const float* logits);
  void sort();

  // The experts that have rows, ascending; each one's rows are in the order of the step.
  std::span<const RowGroup> groups() const { return groups_; }
  // [rows, used]: the place among all groups' rows of each choice, the first choice of a row first.
  std::span<const int32_t> places() const { return places_; }
  // [rows * used]: the row at each place.
  std::span<const int32_t> sources() const { return sources_; }
  // [rows, used]: what each choice counts.
  std::span<const float> weights() const { return weights_; }

 private:
  ExpertParams params_;
  std::vector<int32_t> experts_;  // [rows, used]
  std::vector<int32_t> places_, sources_;
  std::vector<float> weights_;
  std::vector<int32_t> next_;  // [count]: an expert's next free place
  std::vector<RowGroup> groups_;
};

}  // namespace inhouse
