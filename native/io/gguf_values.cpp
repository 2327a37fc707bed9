// The value types of GGUF metadata, and how values read in messages.
#include <cstdio>
#include <cstring>
#include <iterator>

#include "native/io/gguf_parser.h"

namespace inhouse {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, 80)) {
    if (c == '"' || c == '\\') out += '\\';
    if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", unsigned(static_cast<unsigned char>(c)));
      out += escape;
    }
  }
  return out + (text.size() > 80 ? "…\"" : "\"");
}

const char* type_name(GgufType type) {
  static const char* const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                      "bool", "string", "array", "u64", "i64", "f64"};
  return uint32_t(type) < std::size(names) ? names[uint32_t(type)] : "unknown";
}

uint32_t type_width(GgufType type) {
  static const uint8_t widths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return uint32_t(type) < std::size(widths) ? widths[uint32_t(type)] : 0;
}

template <class T, class Wide>
static GgufValue widened(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return Wide(value);
}

GgufValue number_at(GgufType type, const uint8_t* bytes) {
  switch (type) {
    case GgufType::u8:
      return widened<uint8_t, uint64_t>(bytes);
    case GgufType::i8:
      return widened<int8_t, int64_t>(bytes);
    case GgufType::u16:
      return widened<uint16_t, uint64_t>(bytes);
    case GgufType::i16:
      return widened<int16_t, int64_t>(bytes);
    case GgufType::u32:
      return widened<uint32_t, uint64_t>(bytes);
    case GgufType::i32:
      return widened<int32_t, int64_t>(bytes);
    case GgufType::f32:
      return widened<float, double>(bytes);
    case GgufType::boolean:
      return *bytes != 0;
    case GgufType::u64:
      return widened<uint64_t, uint64_t>(bytes);
    case GgufType::i64:
      return widened<int64_t, int64_t>(bytes);
    case GgufType::f64:
      return widened<double, double>(bytes);
    case GgufType::string:
    case GgufType::array:
      break;
  }
  throw Error(Code::internal, "number_at: not a number type");
}

}  // namespace inhouse
