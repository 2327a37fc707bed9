// The tokens still in play for one draw, and the steps that take some away. Each step is a rule over a total
// order (logit downwards, then id upwards), so that equal logits never make a result depend on a sort's
// whims.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace inhouse {

struct Candidate {
  float logit;
  int32_t id;
};

inline bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

class Candidates {
 public:
  // Every token whose logit is not -infinity. At least one must be.
  void take_all(std::span<const float> logits);
  // The k best of them (k >= 1), without looking at every logit: `maxima` is what scan_maxima made of the
  // logits.
  void take_top_k(std::span<const float> logits, const std::vector<float>& maxima, size_t k);

  // Each keeps at least one candidate.
  void top_n_sigma(float n, double sigma);
  void top_k(size_t k);
  void typical(float mass);
  void top_p(float mass);
  void min_p(float share);
  void xtc(float threshold);

  // The token at quantile u of the distribution at this temperature, candidates in the order of their ids.
  int32_t draw(float temperature, double u);

  size_t size() const { return count_; }
  int32_t id(size_t i) const { return ids_[i]; }  // ascending in i
  float logit(size_t i) const { return logits_[i]; }

 private:
  void reserve(size_t count);
  void weigh();
  void keep_lowest_scores(double mass);
  template <class F>
  void keep_if(F keep);

  // Only the first count_ entries hold. weights_ are exp(logit - best_), where weighed_.
  size_t count_ = 0;
  std::vector<int32_t> ids_;
  std::vector<float> logits_;
  std::vector<float> weights_;
  float best_ = 0;
  bool weighed_ = false;

  std::vector<float> scores_;
  std::vector<uint16_t> buckets_;
  std::vector<double> masses_;
  std::vector<uint32_t> order_;
  std::vector<Candidate> ranked_;
  std::vector<float> thresholds_;
};

}  // namespace inhouse
