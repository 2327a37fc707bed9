// Reads the headers of one GGUF file: metadata and the index of tensors, every field checked before it is
// used.
//
// For native/io, its tests and its fuzz target; everyone else uses gguf.h.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "native/core/error.h"
#include "native/io/gguf.h"

namespace inhouse {

// Where bytes come from: a file, or memory in tests.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual const std::string& name() const = 0;  // for messages
  virtual uint64_t size() const = 0;
  virtual void read(uint64_t offset, void* dst, uint64_t count) const = 0;
  virtual std::shared_ptr<Mapping> map() const = 0;
  virtual void check_unchanged() const = 0;
  virtual std::string identity() const = 0;
};
using SourceOpener = std::function<std::unique_ptr<ByteSource>(const std::string& path)>;

// GgufFile::open over any kind of source.
std::shared_ptr<GgufFile> open_gguf(const std::string& path, const SourceOpener& open_source);

struct GgufHeader {
  uint32_t version = 0;
  uint32_t alignment = 32;
  std::vector<GgufEntry> metadata;  // no two keys alike
  std::vector<TensorInfo> tensors;  // no two names alike; in bounds, aligned, without overlap
};

// `part` is written into the tensors.
GgufHeader parse_gguf(const ByteSource& source, uint32_t part);

// A text of a file for use in a message: in quotes, cut after 80 bytes, anything but printable ASCII escaped.
std::string quoted(std::string_view text);

// "u32", "string", …; "unknown" for numbers that the format does not define.
const char* type_name(GgufType type);
// Bytes of one value; 0 for strings, arrays and unknown types.
uint32_t type_width(GgufType type);

// The value that stands at `bytes` (little-endian); not for strings and arrays. Booleans must be 0 or 1
// already.
GgufValue number_at(GgufType type, const uint8_t* bytes);

// Positions of `items` in the order of their names; for binary search, and to find names that are there
// twice.
template <class Items, class Name>
std::vector<uint32_t> order_by_name(const Items& items, Name name) {
  std::vector<uint32_t> order(items.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return name(items[a]) < name(items[b]); });
  return order;
}

}  // namespace inhouse
