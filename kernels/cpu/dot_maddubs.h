// Sums of four products (unsigned weight bytes times signed activation bytes) per lane, without VNNI: exact,
// by vpmaddubsw, which adds two products in 16 bits. These hold 8, 4 or 2 such sums of 4-, 5- and 6-bit
// weights without overflow; full-range weights are made signed, and their sign moved to the activations.
// Include after a simd_*.h.
#pragma once

namespace inhouse::kernels {
namespace {

constexpr bool kDotNeedsBits = true;
constexpr int kFullZeroPoint = 128;  // taken off full-range bytes by the kernels
// Whether a tile multiplies its rows in turn, each with all weights of a group, because a sum takes two
// registers; measured.
template <int bits>
constexpr bool kRowsInTurn = bits < 8 || kLanes == 16;
template <int bits>  // that bound the weights; 8: the full range
struct Dot {
  I sum, sum16;
  inline void start(I value) {
    sum = value;
    sum16 = zero_i();
  }
  inline void add(I w, I x) {
    if constexpr (bits == 8) {
      const I s = bit_xor(w, set1_u8(0x80));
      sum = add_i(sum, add_pairs(mul_pairs(abs_i8(s), sign_i8(x, s))));
    } else {
      sum16 = add_i16(sum16, mul_pairs(w, x));
    }
  }
  // Call after each quad: empties the 16-bit sums before they could overflow, and at the end of a group.
  inline void settle(int quad, bool last) {
    constexpr int every = bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
    if (bits != 8 && ((quad + 1) % every == 0 || last)) {
      sum = add_i(sum, add_pairs(sum16));
      sum16 = zero_i();
    }
  }
  inline void merge(const Dot& o) { sum = add_i(sum, o.sum); }
  inline F value() const { return to_float(sum); }
};

}  // namespace
}  // namespace inhouse::kernels
