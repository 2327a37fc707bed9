// Finds stop strings in a stream of bytes, across token borders.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace inhouse {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty strings were refused before

  // Appends bytes and releases into `out` those that can no longer be part of a stop string. Returns true
  // once a stop string is complete: the text before it has been released, it and what follows are dropped.
  // Where several are complete at the same byte, the one that starts first counts; so the result does not
  // depend on how the bytes were cut into pieces. After that it drops everything and returns true.
  //
  // Time is linear in the bytes, whatever the stop strings.
  bool feed(std::string_view bytes, std::string& out);

  // The stop string that was found, or null.
  const std::string* matched() const { return stopped_ ? &matched_ : nullptr; }

  // Releases what is held back; for the end of a stream that no stop string ended.
  void flush(std::string& out);

 private:
  // A state of the automaton: a prefix of some stop string, in a tree of them. State 0 is the empty prefix.
  struct Node {
    uint32_t first_child = 0, next_sibling = 0;  // 0: none
    uint32_t fail = 0;                           // the longest proper suffix that is a prefix too
    uint32_t stop_length = 0;  // of the longest stop string that is a suffix of this prefix; 0: none
    uint32_t depth = 0;        // the prefix is stops_[stop].substr(0, depth)
    uint32_t stop = 0;
    uint8_t byte = 0;
  };
  uint32_t child(uint32_t node, uint8_t byte) const;

  std::vector<std::string> stops_;
  std::vector<Node> nodes_;
  uint32_t state_ = 0;  // what is held back is just this prefix
  bool stopped_ = false;
  std::string matched_;
};

}  // namespace inhouse
