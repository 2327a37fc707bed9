// A fast 64-bit checksum against damage; not against anyone who means harm.
#pragma once

#include <cstdint>
#include <string_view>

namespace inhouse {

// XXH64 of `count` bytes (the xxHash specification, 0.1.1).
uint64_t checksum64(const void* data, uint64_t count, uint64_t seed = 0);
inline uint64_t text_checksum64(std::string_view text, uint64_t seed = 0) {
  return checksum64(text.data(), text.size(), seed);
}

}  // namespace inhouse
