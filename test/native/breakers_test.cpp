#include "native/engine/breakers.h"

#include "test/native/check.h"

using namespace inhouse;

namespace {

Vocabulary vocabulary_of(const std::vector<std::string>& tokens) {
  Vocabulary vocabulary;
  vocabulary.offsets.push_back(0);
  for (const std::string& token : tokens) {
    vocabulary.bytes.insert(vocabulary.bytes.end(), token.begin(), token.end());
    vocabulary.offsets.push_back(uint32_t(vocabulary.bytes.size()));
  }
  return vocabulary;
}

}  // namespace

TEST(finds_breakers_anywhere_in_a_token_and_nowhere_across_two) {
  const Vocabulary vocabulary = vocabulary_of({"a", "\n", ".\n", "::", "", "xaby", "b", "\xc3\xa9"});
  CHECK((tokens_containing(vocabulary, {"\n"}) == std::vector<int32_t>{1, 2}));
  CHECK((tokens_containing(vocabulary, {"\n", "ab", ":"}) == std::vector<int32_t>{1, 2, 3, 5}));
  CHECK((tokens_containing(vocabulary, {"bb", ":::"}) == std::vector<int32_t>{}));  // not across tokens
  CHECK((tokens_containing(vocabulary, {"\xa9"}) == std::vector<int32_t>{7}));
  CHECK((tokens_containing(vocabulary, {}) == std::vector<int32_t>{}));
  CHECK((tokens_containing(Vocabulary{}, {"a"}) == std::vector<int32_t>{}));
}
