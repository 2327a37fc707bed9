// Opens a GGUF file or the parts of a split one, and reads tensor bytes.
#include "native/io/gguf.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <mutex>
#include <optional>

#include "native/core/error.h"
#include "native/io/gguf_parser.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

class FileMapping final : public Mapping {
 public:
  explicit FileMapping(std::shared_ptr<const platform::File> file)
      : file_(std::move(file)), mapped_(file_->map()) {}
  const uint8_t* data() const override { return mapped_.data(); }
  uint64_t size() const override { return mapped_.size(); }
  void check() const override {
    file_->check_unchanged();
    if (!mapped_.damaged()) return;  // nothing mends it, though the file may look as before
    throw Error(Code::file_changed, file_->path() + ": was shorter for a time; load it again");
  }
  void lock() override {
    const std::lock_guard guard(mutex_);
    if (!locked_) platform::lock_memory(mapped_.data(), mapped_.size());
    locked_ = true;  // until it is unmapped
  }

 private:
  const std::shared_ptr<const platform::File> file_;
  const platform::MappedFile mapped_;
  std::mutex mutex_;
  bool locked_ = false;
};

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::string& path)
      : file_(std::make_shared<platform::File>(platform::File::open(path))) {}
  const std::string& name() const override { return file_->path(); }
  uint64_t size() const override { return file_->size(); }
  void read(uint64_t offset, void* dst, uint64_t count) const override { file_->read(offset, dst, count); }
  std::shared_ptr<Mapping> map() const override {
    const std::lock_guard guard(mutex_);
    std::shared_ptr<Mapping> mapping = mapping_.lock();
    if (!mapping) mapping_ = mapping = std::make_shared<FileMapping>(file_);
    return mapping;
  }
  void check_unchanged() const override { file_->check_unchanged(); }
  std::string identity() const override {
    const platform::FileIdentity& id = file_->identity();
    return std::to_string(id.device) + ":" + std::to_string(id.inode) + ":" + std::to_string(id.size) + ":" +
           std::to_string(id.modified_ns);
  }

 private:
  const std::shared_ptr<const platform::File> file_;  // its mapping keeps it open
  mutable std::mutex mutex_;
  mutable std::weak_ptr<Mapping> mapping_;  // shared by all who map this file
};

// A path of the form NAME-00001-of-00003.gguf.
struct SplitPath {
  std::string stem;     // up to "-00001"
  uint64_t number = 0;  // counts from 1
  uint64_t count = 0;

  static std::optional<SplitPath> parse(std::string_view path) {
    constexpr size_t tail = sizeof("-00001-of-00003.gguf") - 1;
    if (path.size() <= tail) return {};
    const std::string_view end = path.substr(path.size() - tail);
    if (end[0] != '-' || end.substr(6, 4) != "-of-" || end.substr(15) != ".gguf") return {};
    SplitPath split{std::string(path.substr(0, path.size() - tail))};
    const auto number = [](std::string_view digits, uint64_t* value) {
      return std::from_chars(digits.data(), digits.data() + 5, *value).ptr == digits.data() + 5;
    };
    if (!number(end.substr(1), &split.number) || !number(end.substr(10), &split.count)) return {};
    return split;
  }

  std::string part(uint64_t index) const {
    char tail[64];
    std::snprintf(tail, sizeof tail, "-%05llu-of-%05llu.gguf", static_cast<unsigned long long>(index) + 1,
                  static_cast<unsigned long long>(count));
    return stem + tail;
  }
};

class OpenGguf final : public GgufFile {
 public:
  OpenGguf(const std::string& path, const SourceOpener& open_source) {
    path_ = path;
    add_part(open_source(path));
    index();  // the split keys are looked up next
    open_other_parts(open_source);
    index();
  }

  void read(const TensorInfo& tensor, uint64_t offset, uint64_t count, void* dst) const override {
    if (tensor.part >= sources_.size() || offset > tensor.bytes || count > tensor.bytes - offset) {
      throw Error(Code::internal, "read of tensor " + quoted(tensor.name) + " out of its bounds");
    }
    sources_[tensor.part]->read(tensor.offset + offset, dst, count);
  }

  std::shared_ptr<Mapping> map(uint32_t part) const override {
    if (part >= sources_.size()) throw Error(Code::internal, "map of a part that the model does not have");
    return sources_[part]->map();
  }

  void check_unchanged() const override {
    for (const auto& source : sources_) source->check_unchanged();
  }

  std::string identity() const override {
    std::string out;
    for (const auto& source : sources_) out += source->identity() + ";";
    return out;
  }

 private:
  // Takes the first part's metadata as the model's; those of later parts are returned for checking.
  std::vector<GgufEntry> add_part(std::unique_ptr<ByteSource> source) {
    GgufHeader header = parse_gguf(*source, uint32_t(sources_.size()));
    file_bytes_ += source->size();
    sources_.push_back(std::move(source));
    tensors_.insert(tensors_.end(), std::make_move_iterator(header.tensors.begin()),
                    std::make_move_iterator(header.tensors.end()));
    if (sources_.size() > 1) return std::move(header.metadata);
    version_ = header.version;
    alignment_ = header.alignment;
    metadata_ = std::move(header.metadata);
    return {};
  }

  void open_other_parts(const SourceOpener& open_source) {
    const std::optional<SplitPath> name = SplitPath::parse(path_);
    const uint64_t count = get_uint("split.count", 65535, 1);
    if (count <= 1) {
      if (!name || name->count <= 1) return;
      split_error(path_, "its name says part " + std::to_string(name->number) + " of " +
                             std::to_string(name->count) +
                             ", but it has no split.count above 1; rename it if it is whole");
    }
    const uint64_t number = get_uint("split.no", 65535) + 1;
    const std::string is = "is part " + std::to_string(number) + " of " + std::to_string(count);
    if (!name) {
      split_error(path_, is + "; to find the others, its name must end in -00001-of-00002.gguf or the like");
    }
    if (name->number != number || name->count != count) {
      split_error(path_, is + ", but its name says " + std::to_string(name->number) + " of " +
                             std::to_string(name->count));
    }
    if (number != 1) {  // the model's metadata is in the first part: start again from there
      const std::string given = std::exchange(path_, name->part(0));
      sources_.clear();
      tensors_.clear();
      metadata_.clear();
      file_bytes_ = 0;
      add_part(open_part(open_source, path_, given));
      index();
      check_part(metadata_, 0, count);
    }
    const uint64_t tensor_count = get_uint("split.tensors.count", INT32_MAX);
    for (uint64_t i = 1; i < count; ++i) {
      check_part(add_part(open_part(open_source, name->part(i), path_)), i, count);
    }
    if (tensors_.size() != tensor_count) {
      split_error(path_, "split.tensors.count is " + std::to_string(tensor_count) + ", but the " +
                             std::to_string(count) + " parts have " + std::to_string(tensors_.size()) +
                             " tensors");
    }
    check_names();
  }

  static std::unique_ptr<ByteSource> open_part(const SourceOpener& open_source, const std::string& path,
                                               const std::string& given) {
    try {
      return open_source(path);
    } catch (const Error& e) {
      if (e.code() != Code::file_not_found) throw;
      split_error(path, "is missing; it is a part of the same model as " + given);
    }
  }

  // The part's own keys must name the place it was found in; so no part can stand for another, or for itself.
  void check_part(const std::vector<GgufEntry>& metadata, uint64_t index, uint64_t count) const {
    const std::string& path = sources_.back()->name();
    const auto expect = [&](const char* key, uint64_t expected) {
      const auto entry =
          std::find_if(metadata.begin(), metadata.end(), [&](auto& e) { return e.key == key; });
      std::optional<uint64_t> value;
      if (entry != metadata.end()) {
        if (auto* u = std::get_if<uint64_t>(&entry->value)) value = *u;
        if (auto* i = std::get_if<int64_t>(&entry->value); i && *i >= 0) value = uint64_t(*i);
      }
      if (value == expected) return;
      split_error(path, std::string(key) + " is " + (value ? std::to_string(*value) : "not a number here") +
                            "; expected " + std::to_string(expected));
    };
    expect("split.no", index);
    expect("split.count", count);
  }

  void check_names() const {
    const std::vector<uint32_t> order =
        order_by_name(tensors_, [](auto& t) { return std::string_view(t.name); });
    for (size_t i = 1; i < order.size(); ++i) {
      const TensorInfo &a = tensors_[order[i - 1]], &b = tensors_[order[i]];
      if (a.name != b.name) continue;
      split_error(sources_[std::max(a.part, b.part)]->name(),
                  "tensor " + quoted(a.name) + " is in part " + std::to_string(std::min(a.part, b.part) + 1) +
                      " already; expected once");
    }
  }

  [[noreturn]] static void split_error(const std::string& path, const std::string& text) {
    throw Error(Code::gguf_split, path + ": " + text);
  }

  std::vector<std::unique_ptr<ByteSource>> sources_;
};

}  // namespace

std::shared_ptr<GgufFile> open_gguf(const std::string& path, const SourceOpener& open_source) {
  return std::make_shared<OpenGguf>(path, open_source);
}

std::shared_ptr<GgufFile> GgufFile::open(const std::string& path) {
  return open_gguf(path, [](const std::string& p) { return std::make_unique<FileSource>(p); });
}

}  // namespace inhouse
