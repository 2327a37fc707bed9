#include "native/engine/state.h"

#include <chrono>
#include <cstring>

#include "native/core/checksum.h"
#include "native/core/error.h"
#include "native/engine/kv_cache.h"
#include "native/engine/state_format.h"
#include "native/platform/output.h"

namespace inhouse {
namespace {

// What the engine copies at once, at most, but at least a block; nor for longer than kSliceTime.
constexpr uint64_t kSliceBytes = 8 << 20;

class Deadline {
 public:
  bool over() const { return std::chrono::steady_clock::now() >= end_; }

 private:
  std::chrono::steady_clock::time_point end_ = std::chrono::steady_clock::now() + kSliceTime;
};

void check(const std::atomic<bool>& stop) {
  if (stop.load(std::memory_order_relaxed)) throw Error(Code::aborted, "the call was cancelled");
}

StateTag tag_of(const Engine& engine, const KvCache& cache, const StateScope& scope) {
  const Model& model = engine.model();
  StateTag tag;
  tag.fingerprint = model.fingerprint();
  tag.vocabulary = uint32_t(model.hyper().vocabulary);
  tag.arithmetic = model.arithmetic();
  if (scope.adapter) {
    tag.has_adapter = true;
    tag.adapter = scope.adapter->fingerprint();
    tag.adapter_scale = scope.adapter_scale;
  }
  for (const auto& pool : cache.pools()) tag.groups.push_back(pool->spec);
  if (tag.groups.size() > 32) throw Error(Code::internal, "the model has more than 32 groups of layers");
  return tag;
}

std::string tree_of(const StateScope& scope) {
  return shared_scope(scope.cache_scope, scope.adapter.get(), scope.adapter_scale);
}

// A node's block of a file, without its checksum. False where it is not in the tree any more.
bool append_block(const KvCache& cache, const StateTag& tag, const KvCache::NodeRef& ref, int64_t parent,
                  std::vector<uint8_t>& out) {
  StateBlockHead head{parent, cache.present(ref), {}};
  if (head.present == 0 || (head.present & tag.needed()) != tag.needed()) return false;
  head.tokens = cache.tokens(ref);
  const size_t begin = out.size();
  out.resize(begin + size_t(tag.block_bytes(head.present)));
  head.write(out.data() + begin);
  uint8_t* at = out.data() + begin + kStateBlockHead;
  for (size_t g = 0; g < tag.groups.size(); ++g) {
    if (!(head.present >> g & 1)) continue;
    cache.pools()[g]->export_block(cache.block(ref, g), at);
    at += kv_block_file_bytes(tag.groups[g]);
  }
  return true;
}

}  // namespace

StateReport save_state(const EngineAccess& engine, const std::string& path, const StateScope& scope,
                       std::optional<std::span<const int32_t>> prompt, uint64_t most_bytes,
                       const std::atomic<bool>& stop) {
  StateTag tag;
  std::vector<KvCache::NodeRef> nodes;
  {
    const std::shared_ptr<Engine> now = engine();
    now->between_steps([&](KvCache& cache) {
      tag = tag_of(*now, cache, scope);
      const uint64_t frame = tag.header_bytes() + sizeof(uint64_t);
      nodes =
          cache.list(tree_of(scope), prompt, most_bytes > frame ? most_bytes - frame : 0, tag.block_bytes(0));
    });
  }
  platform::OutputFile file(path);
  StateReport report{0, tag.header_bytes()};
  std::vector<int64_t> index(nodes.size(), -1);  // in the file
  std::vector<uint64_t> sums;
  std::vector<uint8_t> slice;
  slice.reserve(size_t(kSliceBytes + tag.block_bytes(UINT32_MAX)));
  std::vector<size_t> sizes;
  for (size_t next = 0; next < nodes.size();) {
    check(stop);
    slice.clear();
    sizes.clear();
    engine()->between_steps([&](KvCache& cache) {
      const Deadline deadline;
      do {
        const KvCache::NodeRef& node = nodes[next];
        const int64_t parent = node.parent < 0 ? -1 : index[size_t(node.parent)];
        const size_t before = slice.size();
        if ((node.parent < 0 || parent >= 0) && append_block(cache, tag, node, parent, slice)) {
          index[next] = report.blocks++;
          sizes.push_back(slice.size() - before);
        }
        ++next;
      } while (next < nodes.size() && slice.size() < kSliceBytes && !deadline.over());
    });
    uint8_t* at = slice.data();
    for (const size_t size : sizes) {
      const uint64_t sum = checksum64(at, size - sizeof sum);
      std::memcpy(at + size - sizeof sum, &sum, sizeof sum);
      sums.push_back(sum);
      at += size;
    }
    file.write(report.bytes, slice.data(), slice.size());
    report.bytes += slice.size();
  }
  if (report.blocks == 0) {
    const uint64_t least = tag.header_bytes() + tag.block_bytes(tag.needed()) + sizeof(uint64_t);
    throw Error(Code::state_empty,
                most_bytes < least
                    ? "nothing was saved: maxBytes is " + std::to_string(most_bytes) +
                          ", and a file with one block of 32 tokens has at least " + std::to_string(least)
                    : std::string("nothing was saved: the cache has no whole block of 32 ") + "tokens" +
                          (prompt ? " that the prompt begins with" : "") +
                          " for this cacheScope and adapter");
  }
  const uint64_t end = report.bytes;
  report.bytes += sizeof(uint64_t);
  const std::vector<uint8_t> header = state_header(tag, uint64_t(report.blocks), report.bytes);
  uint64_t header_sum;
  std::memcpy(&header_sum, header.data() + header.size() - sizeof header_sum, sizeof header_sum);
  uint64_t total = state_total(0, header_sum);
  for (const uint64_t sum : sums) total = state_total(total, sum);
  file.write(end, &total, sizeof total);
  file.write(0, header.data(), header.size());
  check(stop);
  file.commit();
  return report;
}

StateReport load_state(const EngineAccess& engine, const std::string& path, const StateScope& scope,
                       const std::atomic<bool>& stop) {
  StateTag tag;
  {
    const std::shared_ptr<Engine> now = engine();
    now->between_steps([&](KvCache& cache) { tag = tag_of(*now, cache, scope); });
  }
  StateReader reader(path, tag);
  std::vector<uint8_t> slice;
  slice.reserve(size_t(kSliceBytes + tag.block_bytes(UINT32_MAX)));
  do {
    check(stop);
    slice.clear();
  } while (reader.next(slice) > 0);

  // Ends the import, whichever way this function ends.
  struct Importing {
    const EngineAccess& engine;
    KvCache::Import nodes;
    bool begun = false;
    int64_t end() {
      int64_t blocks = 0;
      begun = false;
      engine()->between_steps([&](KvCache& cache) { blocks = cache.end_import(nodes); });
      return blocks;
    }
    ~Importing() {
      try {
        if (begun) end();
      } catch (...) {  // the engine has ended, and its cache with it
      }
    }
  } importing{engine, {}};
  engine()->between_steps([&](KvCache& cache) {
    importing.nodes = cache.begin_import(tree_of(scope));
    importing.begun = true;
  });
  reader.rewind();
  bool more = true;
  while (more) {
    slice.clear();
    while (more && slice.size() < kSliceBytes) more = reader.next(slice) > 0;
    for (size_t at = 0; at < slice.size();) {
      check(stop);
      engine()->between_steps([&](KvCache& cache) {
        const Deadline deadline;
        do {
          const StateBlockHead head = StateBlockHead::read(slice.data() + at);
          const uint8_t* bytes = slice.data() + at + kStateBlockHead;
          cache.import(importing.nodes, head.parent, head.tokens, head.present, bytes);
          at += size_t(tag.block_bytes(head.present));
        } while (at < slice.size() && !deadline.over());
      });
    }
  }
  return {importing.end(), reader.bytes()};
}

}  // namespace inhouse
