#include "native/engine/breakers.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace inhouse {

std::vector<int32_t> tokens_containing(const Vocabulary& vocabulary,
                                       const std::vector<std::string>& breakers) {
  std::array<std::vector<std::string_view>, 256> by_first;
  std::array<bool, 256> begins{};
  for (const std::string& breaker : breakers) {
    begins[uint8_t(breaker[0])] = true;
    by_first[uint8_t(breaker[0])].push_back(breaker);
  }
  std::vector<int32_t> found;
  for (int32_t token = 0; token < vocabulary.size(); ++token) {
    const uint32_t begin = vocabulary.offsets[size_t(token)], end = vocabulary.offsets[size_t(token) + 1];
    for (uint32_t at = begin; at < end; ++at) {
      const uint8_t first = vocabulary.bytes[at];
      if (!begins[first]) continue;
      const std::string_view rest(reinterpret_cast<const char*>(vocabulary.bytes.data()) + at, end - at);
      const auto starts = [rest](std::string_view text) { return rest.substr(0, text.size()) == text; };
      if (!std::any_of(by_first[first].begin(), by_first[first].end(), starts)) continue;
      found.push_back(token);
      break;
    }
  }
  return found;
}

}  // namespace inhouse
