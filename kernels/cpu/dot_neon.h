// Sums of four products (unsigned weight bytes times signed activation bytes) per lane, on any 64-bit ARM:
// exact, by smull, whose 16-bit products are added up before they are widened. Include after simd_neon.h.
#pragma once

namespace inhouse::kernels {
namespace {

constexpr bool kDotNeedsBits = true;
constexpr int kFullZeroPoint = 128;  // taken off full-range bytes by the kernels
template <int>
constexpr bool kRowsInTurn = false;  // whether a tile multiplies its rows one by one
template <int bits>                  // that bound the weights; 8: the full range
struct Dot {
  I sum;
  int16x8_t low16, high16;  // of lanes 0 and 1, and of lanes 2 and 3
  I low, high;
  bool fresh, empty;  // nothing in the 16-bit sums, in low and high yet: constants once loops are unrolled
  inline void start(I value) {
    sum = value;
    low16 = high16 = vdupq_n_s16(0);
    low = high = zero_i();
    fresh = empty = true;
  }
  inline void add(I w, I x) {
    const int8x16_t s = vreinterpretq_s8_s32(bits == 8 ? bit_xor(w, set1_u8(0x80)) : w);
    const int8x16_t a = vreinterpretq_s8_s32(x);
    low16 =
        fresh ? vmull_s8(vget_low_s8(s), vget_low_s8(a)) : vmlal_s8(low16, vget_low_s8(s), vget_low_s8(a));
    high16 = fresh ? vmull_high_s8(s, a) : vmlal_high_s8(high16, s, a);
    fresh = false;
  }
  inline void add(I w, Quad x) { add(w, broadcast(x)); }
  // Call after each quad: empties the 16-bit sums before they could overflow, and at the end of a group.
  // Codes of activations are at most 127 from zero, so that two products with full-range weights fit.
  inline void settle(int quad, bool last) {
    constexpr int every = bits <= 5 ? 8 : bits == 6 ? 4 : 2;
    if ((quad + 1) % every == 0 || last) {
      low = empty ? vpaddlq_s16(low16) : vpadalq_s16(low, low16);
      high = empty ? vpaddlq_s16(high16) : vpadalq_s16(high, high16);
      fresh = true;
      empty = false;
    }
  }
  inline void merge(const Dot& o) {
    low = add_i(low, o.low);
    high = add_i(high, o.high);
    sum = add_i(sum, o.sum);
  }
  inline F value() const { return to_float(add_i(sum, vpaddq_s32(low, high))); }
};

}  // namespace
}  // namespace inhouse::kernels
