#include "native/core/checksum.h"

#include <bit>
#include <cstring>

namespace inhouse {
namespace {

constexpr uint64_t kPrime1 = 0x9e3779b185ebca87ull, kPrime2 = 0xc2b2ae3d27d4eb4full,
                   kPrime3 = 0x165667b19e3779f9ull, kPrime4 = 0x85ebca77c2b2ae63ull,
                   kPrime5 = 0x27d4eb2f165667c5ull;

template <class T>
uint64_t little(const uint8_t* p) {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
uint64_t round(uint64_t sum, uint64_t input) {
  return std::rotl(sum + input * kPrime2, 31) * kPrime1;
}

}  // namespace

uint64_t checksum64(const void* data, uint64_t count, uint64_t seed) {
  const auto* p = static_cast<const uint8_t*>(data);
  uint64_t left = count, sum = seed + kPrime5;
  if (count >= 32) {
    uint64_t lanes[4] = {seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1};
    for (; left >= 32; left -= 32)
      for (uint64_t& lane : lanes) lane = round(lane, little<uint64_t>(p)), p += 8;
    sum = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) + std::rotl(lanes[3], 18);
    for (const uint64_t lane : lanes) sum = (sum ^ round(0, lane)) * kPrime1 + kPrime4;
  }
  sum += count;
  for (; left >= 8; left -= 8, p += 8)
    sum = std::rotl(sum ^ round(0, little<uint64_t>(p)), 27) * kPrime1 + kPrime4;
  if (left >= 4) {
    sum = std::rotl(sum ^ little<uint32_t>(p) * kPrime1, 23) * kPrime2 + kPrime3;
    left -= 4, p += 4;
  }
  for (; left > 0; --left, ++p) sum = std::rotl(sum ^ *p * kPrime5, 11) * kPrime1;
  sum = (sum ^ sum >> 33) * kPrime2;
  sum = (sum ^ sum >> 29) * kPrime3;
  return sum ^ sum >> 32;
}

}  // namespace inhouse
