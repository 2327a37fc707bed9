// A GGUF model file, or the parts of a split one: metadata, the index of tensors, and checked reads.
//
// Format: the GGUF specification, versions 2 and 3, little-endian. Opening reads headers only, with
// positioned reads; weights are read later with `read`, or mapped with `map`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/quant/types.h"

namespace inhouse {

struct GgufArray;

// A metadata value. Integers of every width are widened, so that a reader asks for a meaning and not for a
// width.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::shared_ptr<GgufArray>>;

// The element type of a metadata array, and of the file's own value types (GGUF numbering).
enum class GgufType : uint32_t {
  // clang-format off
  u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7,
  string = 8, array = 9, u64 = 10, i64 = 11, f64 = 12,
  // clang-format on
};

// A metadata array: strings as one buffer with offsets, numbers as raw little-endian elements, arrays nested.
struct GgufArray {
  GgufType type;
  uint64_t count = 0;
  std::vector<uint8_t> bytes;     // numbers: count * width; strings: all texts, concatenated
  std::vector<uint32_t> offsets;  // strings only: [count + 1] into bytes
  std::vector<GgufValue> nested;  // arrays only
};

struct GgufEntry {
  std::string key;
  GgufType type;
  GgufValue value;
};

struct TensorInfo {
  std::string name;
  const kernels::QuantType* type;  // never null
  uint32_t n_dims;
  int64_t dims[4];  // dims[0] runs fastest (columns); unused ones are 1
  uint32_t part;    // which file of a split model
  uint64_t offset;  // of the first byte in that file
  uint64_t bytes;
  int64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

// A read-only view of mapped file bytes; unmapped with its last owner. If the file shrinks while mapped,
// reads of the lost pages give zeros.
class Mapping {
 public:
  virtual ~Mapping() = default;
  virtual const uint8_t* data() const = 0;
  virtual uint64_t size() const = 0;
  // Throws file_changed where the file has become shorter or was written to since it was opened: what was
  // read here is void. Takes about a microsecond.
  virtual void check() const = 0;
  // Keeps the pages in memory from now on. Error: memory_lock. Thread-safe.
  virtual void lock() = 0;
};

class GgufFile {
 public:
  // Opens a file, or all parts of a split model given the path of any of them, NAME-00001-of-00003.gguf;
  // `path` is then the first part's. Every field is checked. Errors: file_not_found, file_read, gguf_*,
  // unsupported_type.
  static std::shared_ptr<GgufFile> open(const std::string& path);
  virtual ~GgufFile() = default;

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  uint32_t alignment() const { return alignment_; }
  uint64_t file_bytes() const { return file_bytes_; }  // all parts together
  const std::vector<GgufEntry>& metadata() const { return metadata_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  // Null where the key or name is absent.
  const GgufEntry* find(std::string_view key) const;
  const TensorInfo* tensor(std::string_view name) const;

  // Typed look-ups. Present but of another type or out of range: gguf_invalid naming the key, the value and
  // what was expected. Absent: the default, or gguf_invalid where there is none.
  uint64_t get_uint(std::string_view key, uint64_t max) const;
  uint64_t get_uint(std::string_view key, uint64_t max, uint64_t absent) const;
  double get_float(std::string_view key) const;  // finite
  double get_float(std::string_view key, double absent) const;
  bool get_bool(std::string_view key, bool absent) const;
  std::string get_string(std::string_view key) const;
  std::string get_string(std::string_view key, std::string_view absent) const;
  // A number, or one number per layer: returns `count` numbers either way.
  std::vector<uint64_t> get_uints(std::string_view key, uint64_t count, uint64_t max) const;

  // Replaces or adds a metadata value from the text "key=value" (an existing key keeps its type; a new one is
  // a bool, integer, float or string by its looks, or as `key=type:value` says). Error: invalid_argument.
  void override_metadata(std::string_view assignment);

  // Copies bytes [offset, offset + count) of the tensor into dst with positioned reads. Error: file_changed
  // where the file has become shorter, file_read otherwise. Thread-safe.
  virtual void read(const TensorInfo& tensor, uint64_t offset, uint64_t count, void* dst) const = 0;

  // Maps one part of the model as a whole; tensor bytes start at TensorInfo::offset. All callers share one
  // mapping per part while any of them holds it.
  virtual std::shared_ptr<Mapping> map(uint32_t part) const = 0;

  // Throws file_changed where a part was written to since it was opened: what was read of it is void.
  virtual void check_unchanged() const = 0;

  // Names this very content on this machine (device, inode, size and time of each part), for sharing weights.
  virtual std::string identity() const = 0;

 protected:
  std::string path_;
  uint32_t version_ = 0;
  uint32_t alignment_ = 32;
  uint64_t file_bytes_ = 0;
  std::vector<GgufEntry> metadata_;
  std::vector<TensorInfo> tensors_;
  // Positions in the two lists, ordered by name for look-ups; `index` makes them anew after a change.
  std::vector<uint32_t> metadata_order_, tensor_order_;
  void index();
};

}  // namespace inhouse
