// Typed look-ups in a GGUF file's metadata, and overrides.
#include <charconv>
#include <cmath>
#include <limits>
#include <locale>
#include <optional>
#include <sstream>

#include "native/core/error.h"
#include "native/io/gguf.h"
#include "native/io/gguf_parser.h"

namespace inhouse {
namespace {

std::string text_of(const GgufEntry& entry) {
  struct Visitor {
    GgufType type;
    std::string operator()(uint64_t v) const { return std::to_string(v); }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const {
      std::ostringstream out;
      out.imbue(std::locale::classic());
      out << v;
      return out.str();
    }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(const std::string& v) const { return quoted(v); }
    std::string operator()(const std::shared_ptr<GgufArray>& v) const {
      return "an array of " + std::to_string(v->count) + " " + type_name(v->type);
    }
  };
  const std::string text = std::visit(Visitor{entry.type}, entry.value);
  return entry.type == GgufType::array ? text : std::string(type_name(entry.type)) + " " + text;
}

// The value as a number that is not negative.
std::optional<uint64_t> as_uint(const GgufValue& value) {
  if (auto* u = std::get_if<uint64_t>(&value)) return *u;
  if (auto* i = std::get_if<int64_t>(&value); i && *i >= 0) return uint64_t(*i);
  return {};
}

std::optional<double> as_float(const GgufValue& value) {
  if (auto* f = std::get_if<double>(&value)) return *f;
  if (auto* u = std::get_if<uint64_t>(&value)) return double(*u);
  if (auto* i = std::get_if<int64_t>(&value)) return double(*i);
  return {};
}

[[noreturn]] void fail(const std::string& path, const std::string& field, const std::string& text) {
  throw Error(Code::gguf_invalid, path + ": metadata value " + field + " " + text);
}

[[noreturn]] void fail_value(const std::string& path, const GgufEntry& entry, const std::string& expected) {
  fail(path, quoted(entry.key), "is " + text_of(entry) + "; expected " + expected);
}

[[noreturn]] void fail_missing(const std::string& path, std::string_view key, const std::string& expected) {
  fail(path, quoted(key), "is missing; expected " + expected);
}

std::string up_to(uint64_t max) {
  return max == std::numeric_limits<uint64_t>::max() ? "an integer from 0"
                                                     : "an integer from 0 to " + std::to_string(max);
}

std::string_view name_of(const GgufEntry& entry) {
  return entry.key;
}

// Position in `items` of the one called `name`, or -1; `order` is order_by_name of them.
template <class Items, class Name>
int64_t find_by_name(const Items& items, const std::vector<uint32_t>& order, std::string_view wanted,
                     Name name) {
  const auto at = std::lower_bound(order.begin(), order.end(), wanted,
                                   [&](uint32_t i, std::string_view text) { return name(items[i]) < text; });
  return at != order.end() && name(items[*at]) == wanted ? int64_t(*at) : -1;
}

}  // namespace

void GgufFile::index() {
  metadata_order_ = order_by_name(metadata_, name_of);
  tensor_order_ = order_by_name(tensors_, [](auto& t) { return std::string_view(t.name); });
}

const GgufEntry* GgufFile::find(std::string_view key) const {
  const int64_t i = find_by_name(metadata_, metadata_order_, key, name_of);
  return i < 0 ? nullptr : &metadata_[size_t(i)];
}

const TensorInfo* GgufFile::tensor(std::string_view name) const {
  const int64_t i =
      find_by_name(tensors_, tensor_order_, name, [](auto& t) { return std::string_view(t.name); });
  return i < 0 ? nullptr : &tensors_[size_t(i)];
}

uint64_t GgufFile::get_uint(std::string_view key, uint64_t max) const {
  const GgufEntry* entry = find(key);
  if (!entry) fail_missing(path_, key, up_to(max));
  const std::optional<uint64_t> value = as_uint(entry->value);
  if (!value || *value > max) fail_value(path_, *entry, up_to(max));
  return *value;
}

uint64_t GgufFile::get_uint(std::string_view key, uint64_t max, uint64_t absent) const {
  return find(key) ? get_uint(key, max) : absent;
}

double GgufFile::get_float(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (!entry) fail_missing(path_, key, "a finite number");
  const std::optional<double> value = as_float(entry->value);
  if (!value || !std::isfinite(*value)) fail_value(path_, *entry, "a finite number");
  return *value;
}

double GgufFile::get_float(std::string_view key, double absent) const {
  return find(key) ? get_float(key) : absent;
}

bool GgufFile::get_bool(std::string_view key, bool absent) const {
  const GgufEntry* entry = find(key);
  if (!entry) return absent;
  const bool* value = std::get_if<bool>(&entry->value);
  if (!value) fail_value(path_, *entry, "a bool");
  return *value;
}

std::string GgufFile::get_string(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (!entry) fail_missing(path_, key, "a string");
  const std::string* value = std::get_if<std::string>(&entry->value);
  if (!value) fail_value(path_, *entry, "a string");
  return *value;
}

std::string GgufFile::get_string(std::string_view key, std::string_view absent) const {
  return find(key) ? get_string(key) : std::string(absent);
}

std::vector<uint64_t> GgufFile::get_uints(std::string_view key, uint64_t count, uint64_t max) const {
  const GgufEntry* entry = find(key);
  const std::string expected = up_to(max) + ", or an array of " + std::to_string(count) + " of them";
  if (!entry) fail_missing(path_, key, expected);
  const auto* array = std::get_if<std::shared_ptr<GgufArray>>(&entry->value);
  if (!array) {
    const std::optional<uint64_t> value = as_uint(entry->value);
    if (!value || *value > max) fail_value(path_, *entry, expected);
    return std::vector<uint64_t>(size_t(count), *value);
  }
  const uint32_t width = type_width((*array)->type);
  if ((*array)->count != count || width == 0) fail_value(path_, *entry, expected);
  std::vector<uint64_t> out;
  out.reserve(size_t(count));
  for (uint64_t i = 0; i < count; ++i) {
    GgufEntry element{entry->key, (*array)->type,
                      number_at((*array)->type, (*array)->bytes.data() + i * width)};
    if (auto* flag = std::get_if<bool>(&element.value)) element.value = uint64_t(*flag);
    const std::optional<uint64_t> value = as_uint(element.value);
    if (!value || *value > max) {
      fail(path_, quoted(key) + "[" + std::to_string(i) + "]",
           "is " + text_of(element) + "; expected " + up_to(max));
    }
    out.push_back(*value);
  }
  return out;
}

namespace {

[[noreturn]] void fail_override(std::string_view assignment, const std::string& text) {
  throw Error(Code::invalid_argument, "override " + quoted(assignment) + ": " + text);
}

// The whole text as a number of type T.
template <class T>
std::optional<T> integer(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return value;
}

// A stream and not from_chars, which not every standard library has for floats.
std::optional<double> real(std::string_view text) {
  std::istringstream in{std::string(text)};
  in.imbue(std::locale::classic());
  double value = 0;
  if (!(in >> std::noskipws >> value) || in.peek() != std::istringstream::traits_type::eof()) return {};
  return value;
}

template <class T, class Wide>
std::optional<GgufValue> ranged(std::string_view text) {
  const std::optional<Wide> value = integer<Wide>(text);
  if (!value || *value < Wide(std::numeric_limits<T>::min()) || *value > Wide(std::numeric_limits<T>::max()))
    return {};
  return *value;
}

std::optional<GgufValue> parse_as(GgufType type, std::string_view text) {
  switch (type) {
    case GgufType::u8:
      return ranged<uint8_t, uint64_t>(text);
    case GgufType::i8:
      return ranged<int8_t, int64_t>(text);
    case GgufType::u16:
      return ranged<uint16_t, uint64_t>(text);
    case GgufType::i16:
      return ranged<int16_t, int64_t>(text);
    case GgufType::u32:
      return ranged<uint32_t, uint64_t>(text);
    case GgufType::i32:
      return ranged<int32_t, int64_t>(text);
    case GgufType::u64:
      return ranged<uint64_t, uint64_t>(text);
    case GgufType::i64:
      return ranged<int64_t, int64_t>(text);
    case GgufType::f32:
    case GgufType::f64: {
      const std::optional<double> value = real(text);
      if (!value) return {};
      const double stored = type == GgufType::f32 ? double(float(*value)) : *value;
      if (!std::isfinite(stored)) return {};
      return stored;
    }
    case GgufType::boolean:
      if (text != "true" && text != "false") return {};
      return text == "true";
    case GgufType::string:
      return std::string(text);
    case GgufType::array:
      break;
  }
  return {};
}

// "int", "float", … or one of the format's own names.
std::optional<GgufType> type_called(std::string_view name) {
  if (name == "int") return GgufType::i64;
  if (name == "float") return GgufType::f64;
  if (name == "str") return GgufType::string;
  for (uint32_t i = 0; i <= uint32_t(GgufType::f64); ++i) {
    if (name == type_name(GgufType(i)) && GgufType(i) != GgufType::array) return GgufType(i);
  }
  return {};
}

GgufType type_by_looks(std::string_view text) {
  for (const GgufType type : {GgufType::boolean, GgufType::u64, GgufType::i64, GgufType::f64}) {
    if (parse_as(type, text)) return type;
  }
  return GgufType::string;
}

}  // namespace

void GgufFile::override_metadata(std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) fail_override(assignment, "expected key=value");
  const std::string_view key = assignment.substr(0, equals);
  std::string_view text = assignment.substr(equals + 1);
  if (key == "general.alignment" || key.substr(0, 6) == "split.") {
    fail_override(assignment, quoted(key) + " describes the file's own layout; expected another key");
  }
  const GgufEntry* present = find(key);
  if (present && present->type == GgufType::array) {
    fail_override(assignment, quoted(key) + " is an array; expected a key with a single value");
  }
  std::optional<GgufType> type;
  const size_t colon = text.find(':');
  // A text value that exists is replaced as it is written, so that it may begin with "int:".
  if (colon != std::string_view::npos && !(present && present->type == GgufType::string)) {
    type = type_called(text.substr(0, colon));
    if (type) text.remove_prefix(colon + 1);
  }
  if (present) type = present->type;
  if (!type) type = type_by_looks(text);
  std::optional<GgufValue> value = parse_as(*type, text);
  if (!value) fail_override(assignment, "the value is " + quoted(text) + "; expected a " + type_name(*type));
  if (present) {
    metadata_[size_t(present - metadata_.data())].value = std::move(*value);
  } else {
    metadata_.push_back({std::string(key), *type, std::move(*value)});
    index();
  }
}

}  // namespace inhouse
