#include "native/engine/candidates.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "native/engine/vector_math.h"

namespace inhouse {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

// Scores (distances in nats) fall into buckets of 1/64 nat; the last takes what is 64 nats and more away,
// where the probability of a whole vocabulary is nothing beside the rounding of 1.
constexpr size_t kBuckets = 4096;
constexpr float kBucketsPerNat = 64.0f;
// Below this many candidates a plain sort is as fast.
constexpr size_t kSortAtOnce = 512;

}  // namespace

void Candidates::reserve(size_t count) {
  if (ids_.size() >= count) return;
  ids_.resize(count);
  logits_.resize(count);
  weights_.resize(count);
}

template <class F>
void Candidates::keep_if(F keep) {
  size_t kept = 0;
  for (size_t i = 0; i < count_; ++i) {
    const bool keeps = keep(i);
    ids_[kept] = ids_[i];
    logits_[kept] = logits_[i];
    weights_[kept] = weights_[i];
    kept += keeps;
  }
  count_ = kept;
}

void Candidates::take_all(std::span<const float> logits) {
  reserve(logits.size());
  weighed_ = false;
  size_t count = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    ids_[count] = int32_t(i);
    logits_[count] = logits[i];
    count += logits[i] > kBanned;
  }
  count_ = count;
}

void Candidates::take_top_k(std::span<const float> logits, const std::vector<float>& maxima, size_t k) {
  if (k > maxima.size()) {
    take_all(logits);
    top_k(k);
    return;
  }
  // Among the maxima of blocks, k are at least as high as the k-th of them: so are k logits, and what is
  // lower than that is not among the k best. Few blocks reach it.
  thresholds_.assign(maxima.begin(), maxima.end());
  std::nth_element(thresholds_.begin(), thresholds_.begin() + ptrdiff_t(k - 1), thresholds_.end(),
                   std::greater<>());
  const float lowest = thresholds_[k - 1];
  weighed_ = false;
  count_ = 0;
  for (size_t b = 0; b < maxima.size(); ++b) {
    if (maxima[b] < lowest) continue;
    const size_t end = std::min(logits.size(), (b + 1) * kScanBlock);
    if (ids_.size() < count_ + kScanBlock) reserve(2 * (count_ + kScanBlock));
    for (size_t i = b * kScanBlock; i < end; ++i) {
      ids_[count_] = int32_t(i);
      logits_[count_] = logits[i];
      count_ += logits[i] >= lowest && logits[i] > kBanned;
    }
  }
  top_k(k);
}

void Candidates::top_k(size_t k) {
  if (k >= count_) return;
  ranked_.resize(count_);
  for (size_t i = 0; i < count_; ++i) ranked_[i] = {logits_[i], ids_[i]};
  const auto last = ranked_.begin() + ptrdiff_t(k - 1);
  std::nth_element(ranked_.begin(), last, ranked_.end(), ranks_before);
  const Candidate border = *last;
  keep_if([&](size_t i) { return !ranks_before(border, {logits_[i], ids_[i]}); });
}

void Candidates::weigh() {
  if (weighed_) return;
  best_ = block_maximum({logits_.data(), count_});
  exp_shifted(logits_.data(), count_, best_, 1.0f, weights_.data());
  weighed_ = true;
}

// Tang et al., "Top-nσ: not all logits are you need" (2024): keep logits within n standard deviations of the
// highest.
void Candidates::top_n_sigma(float n, double sigma) {
  const double lowest = double(block_maximum({logits_.data(), count_})) - double(n) * sigma;
  keep_if([&](size_t i) { return double(logits_[i]) >= lowest; });
}

// Meister et al., "Locally typical sampling" (2022): keep the tokens whose information -log p is nearest to
// the distribution's entropy, until they hold `mass`. With log p = l - log Z the normalizer cancels:
// |-log p - H| = |E[l] - l|.
void Candidates::typical(float mass) {
  weigh();
  const double total = sum(weights_.data(), count_);
  const double expected =
      weighted_sum(weights_.data(), logits_.data(), count_, best_) / total + double(best_);
  scores_.resize(count_);
  for (size_t i = 0; i < count_; ++i) scores_[i] = float(std::fabs(expected - double(logits_[i])));
  keep_lowest_scores(double(mass) * total);
  weighed_ = false;  // the best one may be gone
}

// Holtzman et al., "The curious case of neural text degeneration" (2020): the smallest set of best tokens
// that holds `mass`.
void Candidates::top_p(float mass) {
  weigh();
  const double total = sum(weights_.data(), count_);
  scores_.resize(count_);
  for (size_t i = 0; i < count_; ++i) scores_[i] = best_ - logits_[i];
  keep_lowest_scores(double(mass) * total);
}

// Keeps the candidates of lowest score (then highest logit, then lowest id) whose weights first sum to
// `mass`. One histogram pass finds the bucket in which that happens; only its members are sorted.
void Candidates::keep_lowest_scores(double mass) {
  const auto before = [&](uint32_t a, uint32_t b) {
    if (scores_[a] != scores_[b]) return scores_[a] < scores_[b];
    if (logits_[a] != logits_[b]) return logits_[a] > logits_[b];
    return a < b;
  };
  order_.clear();
  double held = 0;
  if (count_ <= kSortAtOnce) {
    for (size_t i = 0; i < count_; ++i) order_.push_back(uint32_t(i));
  } else {
    buckets_.resize(count_);
    for (size_t i = 0; i < count_; ++i) {
      const float bucket = scores_[i] * kBucketsPerNat;
      buckets_[i] = uint16_t(bucket < float(kBuckets - 1) ? int32_t(bucket) : int32_t(kBuckets - 1));
    }
    masses_.assign(kBuckets, 0.0);
    for (size_t i = 0; i < count_; ++i) masses_[buckets_[i]] += double(weights_[i]);
    size_t bucket = 0;
    while (bucket < kBuckets && held + masses_[bucket] < mass) held += masses_[bucket++];
    if (bucket == kBuckets) return;  // rounding: all of them together are just short of `mass`
    for (size_t i = 0; i < count_; ++i) {
      if (buckets_[i] == bucket) order_.push_back(uint32_t(i));
    }
  }
  std::sort(order_.begin(), order_.end(), before);
  // An empty first bucket can only be the border where mass is 0 or less; the best score is kept all the
  // same.
  size_t last = 0;
  while (last < order_.size()) {
    held += double(weights_[order_[last]]);
    if (held >= mass) break;
    ++last;
  }
  if (order_.empty()) {
    uint32_t lowest = 0;
    for (uint32_t i = 1; i < count_; ++i) lowest = before(i, lowest) ? i : lowest;
    order_.push_back(lowest);
  }
  const uint32_t border = order_[std::min(last, order_.size() - 1)];
  const float score = scores_[border];
  const float logit = logits_[border];
  const int32_t id = ids_[border];
  keep_if([&](size_t i) {
    if (scores_[i] != score) return scores_[i] < score;
    if (logits_[i] != logit) return logits_[i] > logit;
    return ids_[i] <= id;
  });
}

// Nguyen et al., "Turning up the heat: min-p sampling" (2024): keep what is at least `share` times as
// probable as the best.
void Candidates::min_p(float share) {
  weigh();
  keep_if([&](size_t i) { return weights_[i] >= share; });
}

// Exclude top choices, by p-e-w (text-generation-webui, 2024): of the tokens with at least the threshold's
// probability only the least probable stays; what lies under the threshold is left alone.
void Candidates::xtc(float threshold) {
  weigh();
  const double lowest = double(threshold) * sum(weights_.data(), count_);
  size_t last = count_;
  for (size_t i = 0; i < count_; ++i) {
    if (double(weights_[i]) < lowest) continue;
    if (last == count_ || ranks_before({logits_[last], ids_[last]}, {logits_[i], ids_[i]})) last = i;
  }
  if (last == count_) return;
  const int32_t stays = ids_[last];
  keep_if([&](size_t i) { return double(weights_[i]) < lowest || ids_[i] == stays; });
  weighed_ = false;
}

int32_t Candidates::draw(float temperature, double u) {
  best_ = block_maximum({logits_.data(), count_});
  exp_shifted(logits_.data(), count_, best_, temperature, weights_.data());
  weighed_ = false;
  // Sums of blocks first, so that a draw from a whole vocabulary is not one long chain of additions.
  constexpr size_t kBlock = 256;
  const size_t blocks = (count_ + kBlock - 1) / kBlock;
  masses_.resize(blocks);
  double total = 0;
  for (size_t b = 0; b < blocks; ++b) {
    masses_[b] = sum(weights_.data() + b * kBlock, std::min(kBlock, count_ - b * kBlock));
    total += masses_[b];
  }
  double rest = u * total;
  size_t block = 0;
  size_t last = 0;  // the last block that holds anything: where rounding would lead past the end
  for (; block < blocks; ++block) {
    if (masses_[block] > 0) last = block;
    if (rest < masses_[block]) break;
    rest -= masses_[block];
  }
  if (block == blocks) block = last;
  int32_t token = ids_[0];
  for (size_t i = block * kBlock; i < std::min(count_, (block + 1) * kBlock); ++i) {
    if (weights_[i] == 0) continue;
    token = ids_[i];
    if (rest < double(weights_[i])) break;
    rest -= double(weights_[i]);
  }
  return token;
}

}  // namespace inhouse
