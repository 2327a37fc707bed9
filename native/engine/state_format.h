// Files of saved state: computed blocks of the prefix tree, for later processes of the same model. All
// numbers are little-endian.
//
//   header   "INHSTATE", u32 version (2), u32 header bytes, u64 file bytes, u64 blocks,
//            u64 fingerprint of the model, u32 tokens of a block, u32 vocabulary, u32 groups,
//            u32 bytes of the next text, u64 fingerprint of the adapter, f32 its scale, u32 whether there is
//            one (without: all 0);
//            per group i32 layers, KV heads, head sizes of K and V, types of K and V, window, 0;
//            the name of the arithmetic (Backend::arithmetic);
//            u64 checksum of the bytes before it
//   a block  i64 index of the block before it in its sequences (-1: it is their first), u32 set of groups
//   that
//            are there, u32 0, i32 token ids, for each of the groups what KvPool::export_block gives;
//            u64 checksum of the block's bytes before it
//   end      u64 checksum over the checksums of header and blocks
//
// Checksums are XXH64 and find damage; whoever writes a file on purpose can write any K and V, as whoever
// writes a model file can write any weights. Reading allocates by the model's sizes, never by the file's.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "native/ops/backend.h"
#include "native/platform/platform.h"

namespace inhouse {

// What a file belongs to.
struct StateTag {
  uint64_t fingerprint = 0;
  uint32_t vocabulary = 0;
  std::string arithmetic;
  bool has_adapter = false;
  uint64_t adapter = 0;  // its fingerprint
  float adapter_scale = 0;
  std::vector<KvGroupSpec> groups;  // at most 32

  uint64_t header_bytes() const;
  uint64_t block_bytes(uint32_t present) const;  // of a block in the file with these groups
  uint32_t needed() const;                       // the groups without a window: each block must have them
};

inline constexpr uint64_t kStateBlockHead = 8 + 4 + 4 + 4 * uint64_t(kKvBlockTokens);

std::vector<uint8_t> state_header(const StateTag& tag, uint64_t blocks, uint64_t file_bytes);

// A block's bytes before its groups'.
struct StateBlockHead {
  int64_t parent;
  uint32_t present;
  std::array<int32_t, kKvBlockTokens> tokens;

  void write(uint8_t* out) const;  // [kStateBlockHead]
  static StateBlockHead read(const uint8_t* in);
};

// Reads a file block by block and throws state_invalid, saying why, before anything wrong is handed out.
class StateReader {
 public:
  // Errors: those of File, state_invalid.
  StateReader(const std::string& path, StateTag tag);
  uint64_t blocks() const { return blocks_; }
  uint64_t bytes() const { return file_.size(); }

  // Appends the next block, checked, to `out` and returns its size; 0 after the last one, once the end has
  // been checked.
  uint64_t next(std::vector<uint8_t>& out);
  void rewind();

 private:
  [[noreturn]] void fail(const std::string& what) const;
  void check_tag(const std::vector<uint8_t>& header) const;
  void check_adapter(const std::vector<uint8_t>& header) const;

  StateTag tag_;
  platform::File file_;
  uint64_t header_bytes_ = 0, blocks_ = 0, at_ = 0, index_ = 0, header_sum_ = 0, total_ = 0;
};

// The running checksum over the checksums of sections.
uint64_t state_total(uint64_t total, uint64_t section);

}  // namespace inhouse
