// Sums of four products (unsigned weight bytes times signed activation bytes) per lane by sdot, for which
// full-range weights are made signed. Include after simd_neon.h.
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
  inline void start(I value) { sum = value; }
  inline void add(I w, I x) {
    const I s = bits == 8 ? bit_xor(w, set1_u8(0x80)) : w;
    sum = vdotq_s32(sum, vreinterpretq_s8_s32(s), vreinterpretq_s8_s32(x));
  }
  inline void add(I w, Quad x) {
    const int8x16_t s = vreinterpretq_s8_s32(bits == 8 ? bit_xor(w, set1_u8(0x80)) : w);
    const int8x16_t all = vreinterpretq_s8_s32(x.held);
    switch (x.lane) {
      case 0:
        sum = vdotq_laneq_s32(sum, s, all, 0);
        break;
      case 1:
        sum = vdotq_laneq_s32(sum, s, all, 1);
        break;
      case 2:
        sum = vdotq_laneq_s32(sum, s, all, 2);
        break;
      default:
        sum = vdotq_laneq_s32(sum, s, all, 3);
        break;
    }
  }
  inline void settle(int, bool) {}
  inline void merge(const Dot& o) { sum = add_i(sum, o.sum); }
  inline F value() const { return to_float(sum); }
};

}  // namespace
}  // namespace inhouse::kernels
