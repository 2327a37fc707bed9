#include "native/io/gguf_parser.h"

#include <bit>
#include <cstring>
#include <limits>

#include "native/io/gguf_cursor.h"

namespace inhouse {

static_assert(std::endian::native == std::endian::little, "GGUF fields are copied as they stand");

namespace {

constexpr uint64_t max_key_bytes = 65535;  // as the specification says
constexpr uint64_t max_name_bytes = 64;
constexpr int max_array_depth = 4;
constexpr uint64_t max_nested_arrays = 1 << 20;  // they cost memory well beyond their bytes in the file
constexpr uint32_t max_alignment = 1 << 20;

class Parser {
 public:
  Parser(const ByteSource& source, uint32_t part) : source_(source), in_(source), part_(part) {}

  GgufHeader parse() {
    check_magic();
    check_version();
    const uint64_t tensor_count = in_.u64({"tensor_count"});
    const uint64_t metadata_count = in_.u64({"metadata_kv_count"});
    // The least that one can take: a name of one byte, a type and a value of one byte; a name of no bytes,
    // one dimension, a type and an offset.
    in_.require({"metadata_kv_count"}, metadata_count, 8 + 1 + 4 + 1);
    in_.require({"tensor_count"}, tensor_count, 8 + 4 + 8 + 4 + 8);
    for (uint64_t i = 0; i < metadata_count; ++i) parse_entry(i);
    check_duplicates(Code::gguf_invalid, "metadata key", out_.metadata,
                     [](auto& e) { return std::string_view(e.key); });
    read_alignment();
    for (uint64_t i = 0; i < tensor_count; ++i) parse_tensor(i);
    check_duplicates(Code::gguf_invalid, "tensor name", out_.tensors,
                     [](auto& t) { return std::string_view(t.name); });
    place_tensors();
    return std::move(out_);
  }

 private:
  void check_magic() {
    char magic[4] = {};
    const uint64_t have = std::min<uint64_t>(source_.size(), sizeof magic);
    source_.read(0, magic, have);
    if (std::memcmp(magic, "GGUF", size_t(have)) == 0) {
      (void)in_.u32({"magic"});  // reports a file shorter than that
      return;
    }
    const std::string_view text(magic, have);
    const char* hint = "";
    if (text == "lmgg" || text == "fmgg" || text == "tjgg" || text == "algg") {
      hint = "; this is a GGML file from before GGUF: convert the original model again";
    } else if (text == "vers") {
      hint = "; this looks like a Git LFS pointer: fetch the real file (git lfs pull)";
    } else if (text == "<!DO" || text == "<htm" || text == "<!do") {
      hint = "; this is a web page: the download did not give the file itself";
    } else if (text.substr(0, 2) == "PK") {
      hint = "; this is a zip archive (PyTorch checkpoints are): convert it to GGUF";
    }
    in_.fail(Code::gguf_magic, {"magic"}, "is " + quoted(text) + "; expected \"GGUF\"" + hint);
  }

  void check_version() {
    const uint32_t version = in_.u32({"version"});
    out_.version = version;
    if (version == 2 || version == 3) return;
    const std::string is = "is " + std::to_string(version) + "; expected 2 or 3";
    if (version == 1) {
      in_.fail(Code::gguf_version, {"version"},
               is + ": version 1 is obsolete, convert the original model again");
    }
    if (version != 0 && (version & 0xffff) == 0) {
      in_.fail(
          Code::gguf_version, {"version"},
          is + ": this is a big-endian file, convert it (gguf-convert-endian) or the original model again");
    }
    in_.fail(Code::gguf_version, {"version"},
             is + (version > 3 ? ": the file needs a newer release of inhouse" : ""));
  }

  // A key or tensor name. These are identifiers: control characters or broken UTF-8 mean a damaged file.
  std::string identifier(const char* what, uint64_t index, uint64_t max_bytes) {
    const Field field{what, {}, int64_t(index)};
    std::string text;
    in_.append_text(field, text);
    if (text.empty()) in_.fail(Code::gguf_invalid, field, "is empty; expected a name");
    if (text.size() > max_bytes) {
      in_.fail(Code::gguf_invalid, field,
               quoted(text) + " has " + std::to_string(text.size()) + " bytes; expected at most " +
                   std::to_string(max_bytes));
    }
    if (!is_printable_utf8(text)) {
      in_.fail(Code::gguf_invalid, field, quoted(text) + " is not printable UTF-8 text");
    }
    return text;
  }

  static bool is_printable_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
      const auto at = [&](size_t k) { return uint32_t(static_cast<unsigned char>(text[k])); };
      const uint32_t lead = at(i++);
      if (lead < 0x20 || lead == 0x7f) return false;
      if (lead < 0x80) continue;
      const int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
      if (lead < 0xc2 || lead > 0xf4) return false;
      uint32_t code = lead & (0x3fu >> more);
      for (int k = 0; k < more; ++k) {
        if (i >= text.size() || (at(i) & 0xc0) != 0x80) return false;
        code = code << 6 | (at(i++) & 0x3f);
      }
      static constexpr uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
      if (code < smallest[more] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
    }
    return true;
  }

  void parse_entry(uint64_t index) {
    GgufEntry entry;
    entry.key = identifier("metadata key", index, max_key_bytes);
    entry.type = parse_type({"type of metadata key", entry.key});
    entry.value = parse_value({"metadata value", entry.key}, entry.type, 0);
    out_.metadata.push_back(std::move(entry));
  }

  GgufType parse_type(const Field& field) {
    const uint32_t type = in_.u32(field);
    if (type > uint32_t(GgufType::f64)) {
      in_.fail(Code::gguf_invalid, field, "is " + std::to_string(type) + "; expected 0 to 12");
    }
    return GgufType(type);
  }

  GgufValue parse_value(const Field& field, GgufType type, int depth) {
    if (type == GgufType::array) return parse_array(field, depth + 1);
    std::string bytes;
    if (type == GgufType::string) {
      in_.append_text(field, bytes);
      return bytes;
    }
    in_.append(field, type_width(type), bytes);
    const uint8_t* data = reinterpret_cast<const uint8_t*>(bytes.data());
    if (type == GgufType::boolean) check_bool(field, *data);
    return number_at(type, data);
  }

  void check_bool(const Field& field, uint8_t value) {
    if (value > 1)
      in_.fail(Code::gguf_invalid, field, "is " + std::to_string(value) + "; expected a bool, 0 or 1");
  }

  std::shared_ptr<GgufArray> parse_array(const Field& field, int depth) {
    if (depth > max_array_depth) {
      in_.fail(
          Code::gguf_invalid, field,
          "has arrays nested deeper than " + std::to_string(max_array_depth) + "; expected at most that");
    }
    if (++arrays_ > max_nested_arrays) {
      in_.fail(Code::gguf_invalid, field,
               "takes the number of arrays above " + std::to_string(max_nested_arrays));
    }
    auto array = std::make_shared<GgufArray>();
    array->type = parse_type({"array element type of", field.name, field.index});
    const uint64_t count = array->count = in_.u64(field);
    if (const uint32_t width = type_width(array->type)) {
      in_.require(field, count, width);
      in_.append(field, count * width, array->bytes);
      if (array->type == GgufType::boolean) {
        for (uint64_t i = 0; i < count; ++i)
          check_bool({field.what, field.name, int64_t(i)}, array->bytes[i]);
      }
    } else if (array->type == GgufType::string) {
      in_.require(field, count, 8);
      array->offsets.reserve(size_t(count) + 1);
      array->offsets.push_back(0);
      for (uint64_t i = 0; i < count; ++i) {
        in_.append_text({field.what, field.name, int64_t(i)}, array->bytes);
        array->offsets.push_back(uint32_t(array->bytes.size()));  // fits: headers are far below 4 GiB
      }
    } else {
      in_.require(field, count, 4 + 8);
      for (uint64_t i = 0; i < count; ++i) {
        array->nested.push_back(parse_array({field.what, field.name, int64_t(i)}, depth + 1));
      }
    }
    return array;
  }

  void read_alignment() {
    for (const GgufEntry& entry : out_.metadata) {
      if (entry.key != "general.alignment") continue;
      const uint64_t* value = std::get_if<uint64_t>(&entry.value);
      if (!value || *value == 0 || *value % 8 != 0 || *value > max_alignment) {
        in_.fail(Code::gguf_invalid, {"metadata value", entry.key},
                 std::string("is ") + (value ? std::to_string(*value) : type_name(entry.type)) +
                     "; expected a multiple of 8 up to " + std::to_string(max_alignment));
      }
      out_.alignment = uint32_t(*value);
    }
  }

  void parse_tensor(uint64_t index) {
    TensorInfo tensor;
    tensor.name = identifier("tensor name", index, max_name_bytes);
    tensor.part = part_;
    const Field shape{"n_dims of tensor", tensor.name};
    tensor.n_dims = in_.u32(shape);
    if (tensor.n_dims < 1 || tensor.n_dims > 4) {
      in_.fail(Code::gguf_invalid, shape, "is " + std::to_string(tensor.n_dims) + "; expected 1 to 4");
    }
    uint64_t elements = 1;
    for (uint32_t d = 0; d < 4; ++d) {
      const Field field{"dimensions of tensor", tensor.name, int64_t(d)};
      const uint64_t size = d < tensor.n_dims ? in_.u64(field) : 1;
      constexpr uint64_t most = uint64_t(std::numeric_limits<int64_t>::max());
      if (size == 0 || size > most) {
        in_.fail(Code::gguf_invalid, field,
                 "is " + std::to_string(size) + "; expected at least 1, below 2^63");
      }
      if (elements > most / size) {
        in_.fail(Code::gguf_invalid, field,
                 "is " + std::to_string(size) + ", which takes the product above 2^63");
      }
      elements *= size;
      tensor.dims[d] = int64_t(size);
    }
    tensor.type = parse_tensor_type(tensor.name);
    const uint64_t block = tensor.type->block_elements;
    if (uint64_t(tensor.dims[0]) % block != 0) {
      in_.fail(Code::gguf_invalid, {"dimensions of tensor", tensor.name, 0},
               "is " + std::to_string(tensor.dims[0]) + "; expected a multiple of " + std::to_string(block) +
                   ", the block of " + tensor.type->name);
    }
    if (elements / block > std::numeric_limits<uint64_t>::max() / 2 / tensor.type->block_bytes) {
      in_.fail(Code::gguf_invalid, {"dimensions of tensor", tensor.name}, "give more than 2^63 bytes");
    }
    tensor.bytes = elements / block * tensor.type->block_bytes;
    const Field offset{"offset of tensor", tensor.name};
    tensor.offset = in_.u64(offset);
    if (tensor.offset % out_.alignment != 0) {
      in_.fail(Code::gguf_invalid, offset,
               "is " + std::to_string(tensor.offset) + "; expected a multiple of the alignment, " +
                   std::to_string(out_.alignment));
    }
    out_.tensors.push_back(std::move(tensor));
  }

  const kernels::QuantType* parse_tensor_type(const std::string& name) {
    const Field field{"type of tensor", name};
    const uint32_t id = in_.u32(field);
    if (const kernels::QuantType* type = kernels::quant_type(id)) return type;
    std::string text = "is " + std::to_string(id) + "; expected a tensor type that this build knows";
    const bool removed = id == 4 || id == 5 || (id >= 31 && id <= 33) || (id >= 36 && id <= 38);
    if (removed) text += ": this one was removed from the format, convert the model again";
    if (id >= 24 && id <= 28) text += ": integers and doubles cannot be weights";
    in_.fail(Code::unsupported_type, field, text);
  }

  // Turns offsets within the data section into offsets within the file, and checks that all lie in the file.
  void place_tensors() {
    const uint64_t header_end = in_.position();
    const uint64_t data_start = (header_end + out_.alignment - 1) / out_.alignment * out_.alignment;
    std::vector<const TensorInfo*> by_offset;
    by_offset.reserve(out_.tensors.size());
    for (TensorInfo& tensor : out_.tensors) {
      const Field field{"tensor", tensor.name};
      const uint64_t most = std::numeric_limits<uint64_t>::max() - data_start;
      if (tensor.offset > most || tensor.bytes > most - tensor.offset) {
        in_.fail(Code::gguf_invalid, {"offset of tensor", tensor.name},
                 "is " + std::to_string(tensor.offset) + ", which takes its end above 2^64");
      }
      tensor.offset += data_start;
      if (tensor.offset + tensor.bytes > source_.size()) {
        in_.fail(Code::gguf_truncated, field,
                 "needs bytes " + std::to_string(tensor.offset) + " to " +
                     std::to_string(tensor.offset + tensor.bytes) + ", but the file has " +
                     std::to_string(source_.size()) + "; is the download complete?");
      }
      by_offset.push_back(&tensor);
    }
    std::sort(by_offset.begin(), by_offset.end(),
              [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < by_offset.size(); ++i) {
      const TensorInfo &before = *by_offset[i - 1], &after = *by_offset[i];
      if (before.offset + before.bytes <= after.offset) continue;
      in_.fail(Code::gguf_invalid, {"offset of tensor", after.name},
               "is " + std::to_string(after.offset - data_start) + ", which overlaps tensor " +
                   quoted(before.name) + "; expected at least " +
                   std::to_string(before.offset + before.bytes - data_start));
    }
  }

  template <class Items, class Name>
  void check_duplicates(Code code, const char* what, const Items& items, Name name) {
    const std::vector<uint32_t> order = order_by_name(items, name);
    for (size_t i = 1; i < order.size(); ++i) {
      if (name(items[order[i - 1]]) != name(items[order[i]])) continue;
      in_.fail(code, {what, name(items[order[i]])}, "is there twice; expected once");
    }
  }

  const ByteSource& source_;
  Cursor in_;
  uint32_t part_;
  uint64_t arrays_ = 0;
  GgufHeader out_;
};

}  // namespace

GgufHeader parse_gguf(const ByteSource& source, uint32_t part) {
  return Parser(source, part).parse();
}

}  // namespace inhouse
