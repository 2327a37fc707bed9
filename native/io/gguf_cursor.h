// A forward cursor over a file's header fields: buffered positioned reads, and a check before every one of
// them.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "native/io/gguf_parser.h"

namespace inhouse {

// Which field is being read, for messages. Cheap to make; turned into text on failure only.
struct Field {
  std::string_view what;       // "metadata value"
  std::string_view name = {};  // key or tensor name
  int64_t index = -1;          // in an array
  std::string text() const {
    std::string out(what);
    if (!name.empty()) out += " " + quoted(name);
    if (index >= 0) out += "[" + std::to_string(index) + "]";
    return out;
  }
};

class Cursor {
 public:
  // Headers of real models take up to some 30 MB (large vocabularies). The bound keeps a hostile file, which
  // can be sparse, from taking memory in proportion to its size.
  static constexpr uint64_t max_header_bytes = 256'000'000;

  explicit Cursor(const ByteSource& source) : source_(source) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return source_.size() - position_; }

  [[noreturn]] void fail(Code code, const Field& field, const std::string& text) const {
    throw Error(code, source_.name() + ": " + field.text() + " " + text);
  }

  // Checks that `count` items of at least `width` bytes each can follow.
  void require(const Field& field, uint64_t count, uint64_t width) const {
    const uint64_t header_left = max_header_bytes - std::min(max_header_bytes, position_);
    if (count > header_left / width) {
      fail(Code::gguf_invalid, field,
           "announces " + std::to_string(count) + (width == 1 ? " bytes" : " items") + "; expected at most " +
               std::to_string(header_left / width) + " (all headers within " +
               std::to_string(max_header_bytes / 1'000'000) + " MB)");
    }
    if (count * width > remaining()) {
      fail(Code::gguf_truncated, field,
           "needs " + std::to_string(count * width) + " bytes, but the file ends " +
               std::to_string(remaining()) + " bytes after position " + std::to_string(position_) +
               "; is the download complete?");
    }
  }

  uint32_t u32(const Field& field) { return number<uint32_t>(field); }
  uint64_t u64(const Field& field) { return number<uint64_t>(field); }

  // Appends `count` bytes to `out`, which is a std::string or a vector of bytes.
  template <class Out>
  void append(const Field& field, uint64_t count, Out& out) {
    if (count == 0) return;
    require(field, count, 1);
    const size_t before = out.size();
    if (count > buffered()) {  // large: past the buffer
      out.resize(before + size_t(count));
      source_.read(position_, out.data() + before, count);
      position_ += count;
      buffer_.clear();
      return;
    }
    const uint8_t* from = buffer_.data() + (position_ - buffer_start_);
    out.insert(out.end(), from, from + count);
    position_ += count;
  }

  // Appends a text with its length before it.
  template <class Out>
  void append_text(const Field& field, Out& out) {
    const uint64_t length = u64(field);
    if (length > buffered() && length < buffer_bytes) fill(length);
    append(field, length, out);
  }

 private:
  static constexpr uint64_t buffer_bytes = 64 << 10;

  uint64_t buffered() const {
    const uint64_t end = buffer_start_ + buffer_.size();
    return buffer_.empty() || end < position_ ? 0 : end - position_;
  }

  // Makes the buffer start at the position, if the file has `count` bytes left; else leaves it to `require`.
  void fill(uint64_t count) {
    if (count > remaining()) return;
    buffer_.resize(size_t(std::min(buffer_bytes, remaining())));
    buffer_start_ = position_;
    source_.read(position_, buffer_.data(), buffer_.size());
  }

  template <class T>
  T number(const Field& field) {
    if (buffered() < sizeof(T)) {
      require(field, sizeof(T), 1);
      fill(sizeof(T));
    }
    T value;
    std::memcpy(&value, buffer_.data() + (position_ - buffer_start_), sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  const ByteSource& source_;
  uint64_t position_ = 0;
  uint64_t buffer_start_ = 0;
  std::vector<uint8_t> buffer_;
};

}  // namespace inhouse
