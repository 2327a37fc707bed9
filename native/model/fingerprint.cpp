#include "native/model/fingerprint.h"

#include <algorithm>

#include "native/core/checksum.h"

namespace inhouse {
namespace {

class Sum {
 public:
  void bytes(const void* data, uint64_t count) {
    number(count);
    value_ = checksum64(data, count, value_);
  }
  void number(uint64_t x) { value_ = checksum64(&x, sizeof x, value_); }
  void value(const GgufValue& value) {
    number(value.index());
    if (const auto* u = std::get_if<uint64_t>(&value)) number(*u);
    if (const auto* i = std::get_if<int64_t>(&value)) number(uint64_t(*i));
    if (const auto* d = std::get_if<double>(&value)) bytes(d, sizeof *d);
    if (const auto* b = std::get_if<bool>(&value)) number(*b);
    if (const auto* s = std::get_if<std::string>(&value)) bytes(s->data(), s->size());
    if (const auto* a = std::get_if<std::shared_ptr<GgufArray>>(&value)) array(**a);
  }
  uint64_t result() const { return value_; }

 private:
  void array(const GgufArray& array) {
    number(uint64_t(array.type));
    number(array.count);
    bytes(array.bytes.data(), array.bytes.size());
    bytes(array.offsets.data(), array.offsets.size() * sizeof(uint32_t));
    for (const GgufValue& item : array.nested) value(item);  // no deeper than the parser allows
  }
  uint64_t value_ = 0;
};

}  // namespace

uint64_t fingerprint_of(const GgufFile& file) {
  Sum sum;
  for (const GgufEntry& entry : file.metadata()) {
    sum.bytes(entry.key.data(), entry.key.size());
    sum.number(uint64_t(entry.type));
    sum.value(entry.value);
  }
  for (const TensorInfo& tensor : file.tensors()) {
    sum.bytes(tensor.name.data(), tensor.name.size());
    sum.number(uint64_t(tensor.type->id));
    for (const int64_t dim : tensor.dims) sum.number(uint64_t(dim));
    uint8_t sample[64];
    const uint64_t count = std::min<uint64_t>(sizeof sample, tensor.bytes);
    file.read(tensor, (tensor.bytes - count) / 2, count, sample);
    sum.bytes(sample, count);
  }
  return sum.result();
}

}  // namespace inhouse
