// Counter-based random numbers: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
// easy as 1, 2, 3" (SC'11). A number is a pure function of (seed, position, stream), so a draw does not
// depend on what else ran before it, and integer arithmetic gives the same bits on every platform.
#pragma once

#include <array>
#include <cstdint>

namespace inhouse {

inline std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {uint32_t(b >> 32) ^ counter[1] ^ key[0], uint32_t(b), uint32_t(a >> 32) ^ counter[3] ^ key[1],
               uint32_t(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// Each use of randomness has a stream of its own, so that switching one on does not shift another.
enum class RandomStream : uint32_t { draw = 0, xtc = 1 };

// Uniform in [0, 1), 53 bits.
inline double uniform(uint64_t seed, int32_t position, RandomStream stream) {
  const auto r =
      philox4x32({uint32_t(position), uint32_t(stream), 0, 0}, {uint32_t(seed), uint32_t(seed >> 32)});
  return double((uint64_t{r[0]} << 21) | (r[1] >> 11)) * 0x1p-53;
}

}  // namespace inhouse
