// Builds GGUF files in memory, right and wrong ones, and opens them without a file system.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "native/core/error.h"
#include "native/io/gguf_parser.h"
#include "test/native/check.h"

namespace inhouse::test {

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
inline std::string u8(uint8_t v) {
  return raw(v);
}
inline std::string u16(uint16_t v) {
  return raw(v);
}
inline std::string u32(uint32_t v) {
  return raw(v);
}
inline std::string u64(uint64_t v) {
  return raw(v);
}
inline std::string f32(float v) {
  return raw(v);
}
inline std::string f64(double v) {
  return raw(v);
}
inline std::string text(const std::string& v) {
  return u64(v.size()) + v;
}

inline std::string entry(const std::string& key, GgufType type, const std::string& value) {
  return text(key) + u32(uint32_t(type)) + value;
}
inline std::string entry_u32(const std::string& key, uint32_t v) {
  return entry(key, GgufType::u32, u32(v));
}
inline std::string entry_text(const std::string& key, const std::string& v) {
  return entry(key, GgufType::string, text(v));
}
inline std::string array(GgufType type, uint64_t count, const std::string& items) {
  return u32(uint32_t(type)) + u64(count) + items;
}
inline std::string entry_array(const std::string& key, GgufType type, uint64_t count,
                               const std::string& items) {
  return entry(key, GgufType::array, array(type, count, items));
}
inline std::string tensor(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                          uint64_t offset) {
  std::string out = text(name) + u32(uint32_t(dims.size()));
  for (const uint64_t d : dims) out += u64(d);
  return out + u32(type) + u64(offset);
}

// A file in the making; `build` writes it out.
struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> entries;
  std::vector<std::string> tensors;
  uint64_t data = 0;  // bytes of the data section
  uint32_t alignment = 32;
  std::optional<uint64_t> entry_count = {}, tensor_count = {};  // other than there are

  std::string build() const {
    std::string out = magic + u32(version) + u64(tensor_count.value_or(tensors.size())) +
                      u64(entry_count.value_or(entries.size()));
    for (const std::string& e : entries) out += e;
    for (const std::string& t : tensors) out += t;
    if (data == 0) return out;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    for (uint64_t i = 0; i < data; ++i) out += char(i * 37 + 11);
    return out;
  }
};

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::string name, std::string bytes, uint64_t size)
      : name_(std::move(name)), bytes_(std::move(bytes)), size_(size) {}
  MemorySource(const std::string& name, const std::string& bytes) : MemorySource(name, bytes, bytes.size()) {}
  const std::string& name() const override { return name_; }
  uint64_t size() const override { return size_; }  // may exceed the bytes: a sparse file, zeros follow
  void read(uint64_t offset, void* dst, uint64_t count) const override {
    if (count > size_ || offset > size_ - count) throw Error(Code::internal, "read out of the file");
    const uint64_t have = offset < bytes_.size() ? std::min<uint64_t>(count, bytes_.size() - offset) : 0;
    std::memset(dst, 0, size_t(count));
    if (have > 0) std::memcpy(dst, bytes_.data() + offset, size_t(have));
    furthest = std::max(furthest, offset + count);
  }
  std::shared_ptr<Mapping> map() const override { return nullptr; }
  void check_unchanged() const override {}
  std::string identity() const override { return name_; }
  mutable uint64_t furthest = 0;  // end of the last byte read

 private:
  std::string name_, bytes_;
  uint64_t size_;
};

using Files = std::map<std::string, std::string>;

inline std::shared_ptr<GgufFile> open_in_memory(const std::string& path, const Files& files) {
  return open_gguf(path, [&](const std::string& name) {
    const auto at = files.find(name);
    if (at == files.end()) throw Error(Code::file_not_found, name + ": no such file");
    return std::make_unique<MemorySource>(name, at->second);
  });
}
inline std::shared_ptr<GgufFile> open_in_memory(const std::string& bytes) {
  return open_in_memory("m.gguf", Files{{"m.gguf", bytes}});
}

// The action must throw an Error of this code, and each of `parts` must stand in its message.
inline void check_error(const std::string& what, Code code, const std::vector<std::string>& parts,
                        const std::function<void()>& action) {
  try {
    action();
    fail(what.c_str(), 0, "no error");
  } catch (const Error& e) {
    if (e.code() != code) fail(what.c_str(), 0, std::string(code_name(e.code())) + ": " + e.message());
    for (const std::string& part : parts) {
      if (e.message().find(part) != std::string::npos) continue;
      fail(what.c_str(), 0, "\"" + part + "\" is not in: " + e.message());
    }
  }
}

// Uses everything a file offers, as a model would, whatever the file says. Errors of type Error are fine.
inline void exercise(GgufFile& file) {
  const auto tolerate = [](auto action) {
    try {
      action();
    } catch (const Error&) {
    }
  };
  for (const GgufEntry& e : std::vector<GgufEntry>(file.metadata())) {
    tolerate([&] { file.get_uint(e.key, UINT32_MAX); });
    tolerate([&] { file.get_uint(e.key, UINT64_MAX, 7); });
    tolerate([&] { file.get_float(e.key); });
    tolerate([&] { file.get_bool(e.key, false); });
    tolerate([&] { file.get_string(e.key); });
    const auto* values = std::get_if<std::shared_ptr<GgufArray>>(&e.value);
    tolerate(
        [&] { file.get_uints(e.key, values ? std::min<uint64_t>((*values)->count, 4096) : 4, UINT64_MAX); });
    tolerate([&] { file.override_metadata(e.key + "=1"); });
    if (values && !(*values)->offsets.empty() && (*values)->offsets.back() != (*values)->bytes.size()) {
      throw Error(Code::internal, "string offsets do not cover the bytes");
    }
  }
  tolerate([&] { file.override_metadata("a.new.key=-1.5"); });
  constexpr uint64_t most = 1 << 16;
  for (const TensorInfo& t : file.tensors()) {
    if (file.tensor(t.name) != &t) throw Error(Code::internal, "a tensor is not found by its name");
    const uint64_t blocks = std::min<uint64_t>(t.bytes / t.type->block_bytes, most / t.type->block_bytes);
    std::vector<uint32_t> data(size_t(blocks * t.type->block_bytes + 3) / 4);
    file.read(t, t.bytes - blocks * t.type->block_bytes, blocks * t.type->block_bytes, data.data());
    std::vector<float> values(size_t(blocks * t.type->block_elements));
    t.type->decode(data.data(), values.data(), int64_t(values.size()));
  }
}

}  // namespace inhouse::test
