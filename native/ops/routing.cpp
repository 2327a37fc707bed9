#include "native/ops/routing.h"

#include <algorithm>
#include <cmath>

namespace inhouse {

void Routing::begin(int64_t rows, const ExpertParams& params) {
  params_ = params;
  const size_t choices = size_t(rows) * size_t(params.used);
  experts_.resize(choices);
  places_.resize(choices);
  sources_.resize(choices);
  weights_.resize(choices);
}

void Routing::choose(int64_t row, const float* logits) {
  int32_t* best = experts_.data() + row * params_.used;
  for (int32_t e = 0; e < params_.count; ++e) {
    // Only a higher logit moves ahead of an earlier one; NaN moves nothing, so every choice stays an expert.
    int32_t k = std::min(e, params_.used);
    for (; k > 0 && logits[e] > logits[best[k - 1]]; --k)
      if (k < params_.used) best[k] = best[k - 1];
    if (k < params_.used) best[k] = e;
  }
  float* weights = weights_.data() + row * params_.used;
  const float top = logits[best[0]];
  float sum = 0;
  for (int32_t k = 0; k < params_.used; ++k) sum += weights[k] = std::exp(logits[best[k]] - top);
  if (!params_.normalize) {
    sum = 0;
    for (int32_t e = 0; e < params_.count; ++e) sum += std::exp(logits[e] - top);
  }
  for (int32_t k = 0; k < params_.used; ++k) weights[k] *= params_.scale / sum;
}

void Routing::sort() {
  next_.assign(size_t(params_.count), 0);
  for (const int32_t expert : experts_) ++next_[size_t(expert)];
  groups_.clear();
  int32_t place = 0;
  for (int32_t e = 0; e < params_.count; ++e) {
    const int32_t rows = next_[size_t(e)];
    next_[size_t(e)] = place;
    if (rows > 0) groups_.push_back({e, place, place + rows});
    place += rows;
  }
  for (size_t i = 0; i < experts_.size(); ++i) {
    places_[i] = next_[size_t(experts_[i])]++;
    sources_[size_t(places_[i])] = int32_t(i / size_t(params_.used));
  }
}

}  // namespace inhouse
