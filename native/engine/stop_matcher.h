// Finds stop strings in a stream of bytes, across token borders.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace inhouse {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty strings were refused before

  // Appends bytes and releases into `out` those that can no longer be part of a stop string. Returns true
  // once a stop string is complete: the text before it has been released, it and what follows are dropped.
  // Where several match, the one that starts first counts.
  bool feed(std::string_view bytes, std::string& out);

  // Releases what is held back; for the end of a stream that no stop string ended.
  void flush(std::string& out);

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace inhouse
