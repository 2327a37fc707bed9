#include "native/engine/stop_matcher.h"

#include <utility>

namespace inhouse {

// Aho and Corasick, "Efficient string matching: an aid to bibliographic search" (1975), with children in
// lists so that memory is linear in the stop strings.
StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)), nodes_(1) {
  for (size_t s = 0; s < stops_.size(); ++s) {
    uint32_t node = 0;
    for (char c : stops_[s]) {
      uint32_t next = child(node, uint8_t(c));
      if (next == 0) {
        next = uint32_t(nodes_.size());
        Node added;
        added.next_sibling = nodes_[node].first_child;
        added.depth = nodes_[node].depth + 1;
        added.stop = uint32_t(s);
        added.byte = uint8_t(c);
        nodes_.push_back(added);
        nodes_[node].first_child = next;
      }
      node = next;
    }
    nodes_[node].stop_length = nodes_[node].depth;
  }
  std::vector<uint32_t> queue{0};  // breadth first: a suffix is shorter, so its links are done
  for (size_t i = 0; i < queue.size(); ++i) {
    for (uint32_t node = nodes_[queue[i]].first_child; node != 0; node = nodes_[node].next_sibling) {
      queue.push_back(node);
      if (queue[i] == 0) continue;
      uint32_t fail = nodes_[queue[i]].fail;
      uint32_t next = child(fail, nodes_[node].byte);
      while (next == 0 && fail != 0) {
        fail = nodes_[fail].fail;
        next = child(fail, nodes_[node].byte);
      }
      nodes_[node].fail = next;
      if (nodes_[node].stop_length == 0) nodes_[node].stop_length = nodes_[next].stop_length;
    }
  }
}

uint32_t StopMatcher::child(uint32_t node, uint8_t byte) const {
  uint32_t next = nodes_[node].first_child;
  while (next != 0 && nodes_[next].byte != byte) next = nodes_[next].next_sibling;
  return next;
}

bool StopMatcher::feed(std::string_view bytes, std::string& out) {
  if (stopped_) return true;
  for (char c : bytes) {
    const uint32_t held = nodes_[state_].depth;
    const std::string* text = held != 0 ? &stops_[nodes_[state_].stop] : nullptr;
    uint32_t next = child(state_, uint8_t(c));
    while (next == 0 && state_ != 0) {
      state_ = nodes_[state_].fail;
      next = child(state_, uint8_t(c));
    }
    state_ = next;
    // Of the held bytes and c, those before the new state's prefix are free; where a stop string is complete,
    // those before it are.
    const uint32_t stop = nodes_[state_].stop_length;
    const uint32_t free = held + 1 - (stop != 0 ? stop : nodes_[state_].depth);
    if (free <= held) {
      if (free != 0) out.append(*text, 0, free);
    } else {
      if (held != 0) out.append(*text, 0, held);
      out.push_back(c);
    }
    if (stop != 0) {
      stopped_ = true;
      matched_ = stops_[nodes_[state_].stop].substr(nodes_[state_].depth - stop, stop);
      return true;
    }
  }
  return false;
}

void StopMatcher::flush(std::string& out) {
  if (!stopped_ && state_ != 0) out.append(stops_[nodes_[state_].stop], 0, nodes_[state_].depth);
  state_ = 0;
}

}  // namespace inhouse
