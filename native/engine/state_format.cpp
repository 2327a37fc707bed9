#include "native/engine/state_format.h"

#include <bit>
#include <cstring>

#include "native/core/checksum.h"
#include "native/core/error.h"

namespace inhouse {
namespace {

constexpr char kMagic[9] = "INHSTATE";
constexpr uint32_t kVersion = 2;
constexpr uint64_t kFixedHeader = 8 + 2 * 4 + 3 * 8 + 4 * 4 + 8 + 2 * 4;  // before the groups
constexpr uint64_t kGroupBytes = 8 * 4;
constexpr uint64_t kSumBytes = 8;
constexpr uint64_t kLargestHeader = 1 << 16;

void put_bytes(std::vector<uint8_t>& out, const void* bytes, size_t count) {
  const size_t at = out.size();
  out.resize(at + count);
  std::memcpy(out.data() + at, bytes, count);
}
template <class T>
void put(std::vector<uint8_t>& out, T value) {
  put_bytes(out, &value, sizeof value);
}
template <class T>
T get(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

const char* name_of(int32_t type) {
  static const char* const names[] = {"f32", "f16", "q8_0", "q4_0"};
  return type >= 0 && type < 4 ? names[type] : "unknown";
}

void put_group(std::vector<uint8_t>& out, const KvGroupSpec& g) {
  for (const int32_t value :
       {g.layers, g.kv_heads, g.head_dim_k, g.head_dim_v, int32_t(g.type_k), int32_t(g.type_v), g.window, 0})
    put(out, value);
}

}  // namespace

uint64_t StateTag::header_bytes() const {
  return kFixedHeader + groups.size() * kGroupBytes + arithmetic.size() + kSumBytes;
}

uint64_t StateTag::block_bytes(uint32_t present) const {
  uint64_t bytes = kStateBlockHead + kSumBytes;
  for (size_t g = 0; g < groups.size(); ++g)
    if (present >> g & 1) bytes += kv_block_file_bytes(groups[g]);
  return bytes;
}

uint32_t StateTag::needed() const {
  uint32_t set = 0;
  for (size_t g = 0; g < groups.size(); ++g)
    if (groups[g].window == 0) set |= 1u << g;
  return set;
}

std::vector<uint8_t> state_header(const StateTag& tag, uint64_t blocks, uint64_t file_bytes) {
  std::vector<uint8_t> out;
  put_bytes(out, kMagic, 8);
  put(out, kVersion);
  put(out, uint32_t(tag.header_bytes()));
  put(out, file_bytes);
  put(out, blocks);
  put(out, tag.fingerprint);
  put(out, uint32_t(kKvBlockTokens));
  put(out, tag.vocabulary);
  put(out, uint32_t(tag.groups.size()));
  put(out, uint32_t(tag.arithmetic.size()));
  put(out, tag.adapter);
  put(out, tag.adapter_scale);
  put(out, uint32_t(tag.has_adapter));
  for (const KvGroupSpec& group : tag.groups) put_group(out, group);
  put_bytes(out, tag.arithmetic.data(), tag.arithmetic.size());
  put(out, checksum64(out.data(), out.size()));
  return out;
}

uint64_t state_total(uint64_t total, uint64_t section) {
  return checksum64(&section, sizeof section, total);
}

void StateBlockHead::write(uint8_t* out) const {
  std::memset(out, 0, kStateBlockHead);
  std::memcpy(out, &parent, 8);
  std::memcpy(out + 8, &present, 4);
  std::memcpy(out + 16, tokens.data(), sizeof tokens);
}

StateBlockHead StateBlockHead::read(const uint8_t* in) {
  StateBlockHead head;
  std::memcpy(&head.parent, in, 8);
  std::memcpy(&head.present, in + 8, 4);
  std::memcpy(head.tokens.data(), in + 16, sizeof head.tokens);
  return head;
}

void StateReader::fail(const std::string& what) const {
  throw Error(Code::state_invalid, file_.path() + ": " + what);
}

StateReader::StateReader(const std::string& path, StateTag tag)
    : tag_(std::move(tag)), file_(platform::File::open(path)) {
  std::vector<uint8_t> header(kFixedHeader);
  if (file_.size() < 8) fail("is not a saved state: it has " + std::to_string(file_.size()) + " bytes");
  file_.read(0, header.data(), std::min<uint64_t>(file_.size(), header.size()));
  if (std::memcmp(header.data(), kMagic, 8) != 0) fail("is not a saved state: its first bytes are others");
  if (file_.size() < kFixedHeader + kSumBytes) fail("is cut off: it ends within its header");
  if (const auto version = get<uint32_t>(&header[8]); version != kVersion)
    fail("is a saved state of version " + std::to_string(version) + "; this version of inhouse reads " +
         std::to_string(kVersion));
  header_bytes_ = get<uint32_t>(&header[12]);
  if (header_bytes_ < kFixedHeader + kSumBytes || header_bytes_ > kLargestHeader)
    fail("is damaged: its header has " + std::to_string(header_bytes_) + " bytes");
  if (header_bytes_ > file_.size()) fail("is cut off: it ends within its header");
  header.resize(size_t(header_bytes_));
  file_.read(0, header.data(), header_bytes_);
  header_sum_ = get<uint64_t>(&header[size_t(header_bytes_ - kSumBytes)]);
  if (checksum64(header.data(), header_bytes_ - kSumBytes) != header_sum_)
    fail("is damaged: its header's checksum is another");
  const auto announced = get<uint64_t>(&header[16]);
  blocks_ = get<uint64_t>(&header[24]);
  check_tag(header);
  if (file_.size() < announced)
    fail("is cut off: it has " + std::to_string(file_.size()) + " bytes of " + std::to_string(announced));
  if (file_.size() > announced)
    fail("is damaged: it has " + std::to_string(file_.size() - announced) + " bytes after its end");
  rewind();
}

// What one adapter computed at one scale is of no use with another, or without.
void StateReader::check_adapter(const std::vector<uint8_t>& header) const {
  const bool has = get<uint32_t>(&header[68]) != 0;
  if (has != tag_.has_adapter)
    fail(has ? "was saved with an adapter; expected the same one to be given"
             : "was saved without an adapter, but one is given");
  if (get<uint64_t>(&header[56]) != tag_.adapter) fail("was saved with another adapter than is given");
  if (const auto scale = get<float>(&header[64]);
      std::bit_cast<uint32_t>(scale) != std::bit_cast<uint32_t>(tag_.adapter_scale))
    fail("was saved with its adapter at scale " + std::to_string(scale) + "; given is " +
         std::to_string(tag_.adapter_scale));
}

// Compares what the header says of its model with this one.
void StateReader::check_tag(const std::vector<uint8_t>& header) const {
  const auto groups = get<uint32_t>(&header[48]), text = get<uint32_t>(&header[52]);
  if (groups > 32 || kFixedHeader + groups * kGroupBytes + text + kSumBytes != header_bytes_)
    fail("is damaged: its header's sizes contradict each other");
  if (get<uint64_t>(&header[32]) != tag_.fingerprint || get<uint32_t>(&header[44]) != tag_.vocabulary)
    fail("was saved from another model, or from this one with other metadata");
  check_adapter(header);
  if (get<uint32_t>(&header[40]) != uint32_t(kKvBlockTokens))
    fail("has blocks of " + std::to_string(get<uint32_t>(&header[40])) + " tokens; expected " +
         std::to_string(kKvBlockTokens));
  const char* name = reinterpret_cast<const char*>(&header[size_t(kFixedHeader + groups * kGroupBytes)]);
  if (const std::string arithmetic(name, text); arithmetic != tag_.arithmetic)
    fail("was computed by \"" + arithmetic + "\", whose results differ from those of this device, \"" +
         tag_.arithmetic + "\"");
  for (uint32_t g = 0; g < groups && g < tag_.groups.size(); ++g) {
    const uint8_t* type = &header[size_t(kFixedHeader + g * kGroupBytes + 16)];
    const int32_t k = get<int32_t>(type), v = get<int32_t>(type + 4);
    const KvGroupSpec& own = tag_.groups[g];
    if (k != int32_t(own.type_k) || v != int32_t(own.type_v))
      fail(std::string("holds K as ") + name_of(k) + " and V as " + name_of(v) + "; this model's kvType is " +
           name_of(int32_t(own.type_k)) + " and " + name_of(int32_t(own.type_v)));
  }
  std::vector<uint8_t> own;
  for (const KvGroupSpec& group : tag_.groups) put_group(own, group);
  if (groups != tag_.groups.size() || std::memcmp(own.data(), &header[kFixedHeader], own.size()) != 0)
    fail("holds layers or heads of other sizes than this model's");
}

void StateReader::rewind() {
  at_ = header_bytes_;
  index_ = 0;
  total_ = state_total(0, header_sum_);
}

uint64_t StateReader::next(std::vector<uint8_t>& out) {
  const uint64_t left = file_.size() - at_;
  if (index_ == blocks_) {
    uint64_t total = 0;
    if (left != sizeof total) fail("is damaged: its blocks do not end where the file does");
    file_.read(at_, &total, sizeof total);
    if (total != total_) fail("is damaged: its total checksum is another");
    return 0;
  }
  const std::string name = "block " + std::to_string(index_);
  if (left < kStateBlockHead) fail("is damaged: " + name + " does not fit into the file");
  const size_t begin = out.size();
  out.resize(begin + kStateBlockHead);
  file_.read(at_, out.data() + begin, kStateBlockHead);
  const StateBlockHead head = StateBlockHead::read(out.data() + begin);
  const uint32_t all = tag_.groups.size() == 32 ? UINT32_MAX : (1u << tag_.groups.size()) - 1;
  if ((head.present & ~all) != 0 || (head.present & tag_.needed()) != tag_.needed())
    fail("is damaged: " + name + " has other groups of layers than this model");
  const uint64_t bytes = tag_.block_bytes(head.present);
  if (left < bytes) fail("is damaged: " + name + " does not fit into the file");
  out.resize(begin + size_t(bytes));
  file_.read(at_ + kStateBlockHead, out.data() + begin + kStateBlockHead, bytes - kStateBlockHead);
  const auto sum = get<uint64_t>(out.data() + begin + bytes - kSumBytes);
  if (checksum64(out.data() + begin, bytes - kSumBytes) != sum)
    fail("is damaged: the checksum of " + name + " is another");
  if (head.parent < -1 || head.parent >= int64_t(index_))
    fail("is damaged: " + name + " follows block " + std::to_string(head.parent));
  for (const int32_t token : head.tokens)
    if (token < 0 || uint32_t(token) >= tag_.vocabulary)
      fail("is damaged: " + name + " has the token " + std::to_string(token));
  total_ = state_total(total_, sum);
  at_ += bytes;
  ++index_;
  return bytes;
}

}  // namespace inhouse
