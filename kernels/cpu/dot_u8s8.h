// Sums of four products (unsigned weight bytes times signed activation bytes) per lane, in one instruction.
// Include after a simd_*.h that has `dot_bytes`.
#pragma once

namespace inhouse::kernels {
namespace {

constexpr bool kDotNeedsBits = false;
constexpr int kFullZeroPoint = 0;
template <int>
constexpr bool kRowsInTurn = false;  // whether a tile multiplies its rows one by one
template <int bits>
struct Dot {
  I sum;
  inline void start(I value) { sum = value; }
  template <class X>  // I, or what `quad` gives
  inline void add(I w, X x) {
    sum = dot_bytes(sum, w, x);
  }
  inline void settle(int, bool) {}
  inline void merge(const Dot& o) { sum = add_i(sum, o.sum); }
  inline F value() const { return to_float(sum); }
};

}  // namespace
}  // namespace inhouse::kernels
