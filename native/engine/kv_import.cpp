// Blocks out of the prefix tree and into it, for files of saved state.
#include <algorithm>
#include <limits>

#include "native/engine/kv_cache.h"

namespace inhouse {

std::vector<KvCache::NodeRef> KvCache::list(std::string_view scope,
                                            std::optional<std::span<const int32_t>> prompt,
                                            uint64_t most_bytes, uint64_t overhead) const {
  const auto found = roots_.find(std::string(scope));
  if (found == roots_.end()) return {};
  const int32_t root = found->second;
  // When each node was used last: held ones now, idle ones in the order of their lists.
  std::vector<int64_t> used(nodes_.size(), -1);
  for (size_t n = 0; n < nodes_.size(); ++n)
    for (size_t g = 0; g < groups_.size(); ++g)
      if (slot(int32_t(n), g).users > 0) used[n] = std::numeric_limits<int64_t>::max();
  bool any_full = false;
  for (size_t g = 0; g < groups_.size(); ++g) any_full |= window(g) == 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (any_full && window(g) > 0) continue;
    int64_t rank = 0;
    for (int64_t at = groups_[g].first_idle; at >= 0; at = slots_[size_t(at)].next, ++rank) {
      int64_t& last = used[size_t(at) / groups_.size()];
      last = std::max(last, rank);
    }
  }
  const auto usable = [&](int32_t node) { return used[size_t(node)] >= 0 && whole(node); };
  std::vector<int32_t> order;
  if (!prompt) {
    for (size_t n = 0; n < nodes_.size(); ++n)
      if (nodes_[n].serial != 0 && nodes_[n].parent >= 0 && usable(int32_t(n))) order.push_back(int32_t(n));
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return used[size_t(a)] > used[size_t(b)]; });
  }
  auto rest = prompt.value_or(std::span<const int32_t>());
  for (int32_t at = root; rest.size() >= size_t(kKvBlockTokens);
       rest = rest.subspan(size_t(kKvBlockTokens))) {
    at = find_child(at, rest.data());
    if (at < 0 || !usable(at)) break;
    order.push_back(at);
  }

  constexpr int32_t kUnknown = -1, kOut = -2;
  std::vector<int32_t> place(nodes_.size(), kUnknown);  // in the list
  std::vector<NodeRef> refs;
  std::vector<int32_t> path;
  uint64_t bytes = 0;
  for (const int32_t node : order) {
    // The ancestors that are not in the list yet come with it.
    path.clear();
    int32_t at = node;
    while (at != root && nodes_[size_t(at)].parent >= 0 && place[size_t(at)] == kUnknown && usable(at)) {
      path.push_back(at);
      at = nodes_[size_t(at)].parent;
    }
    if (path.empty()) continue;
    bool fits = at == root || place[size_t(at)] >= 0;
    for (; !path.empty(); path.pop_back()) {
      const int32_t p = path.back(), parent = nodes_[size_t(p)].parent;
      uint64_t own = overhead;
      for (size_t g = 0; g < groups_.size(); ++g)
        if (slot(p, g).block >= 0) own += kv_block_file_bytes(pools_[g]->spec);
      fits = fits && own <= most_bytes - bytes;
      place[size_t(p)] = fits ? int32_t(refs.size()) : kOut;
      if (!fits) continue;
      refs.push_back({p, nodes_[size_t(p)].serial, parent == root ? -1 : place[size_t(parent)]});
      bytes += own;
    }
  }
  return refs;
}

uint32_t KvCache::present(const NodeRef& ref) const {
  uint32_t set = 0;
  if (nodes_[size_t(ref.node)].serial != ref.serial) return 0;
  for (size_t g = 0; g < groups_.size(); ++g)
    if (block(ref, g) >= 0) set |= 1u << g;
  return set;
}

KvCache::Import KvCache::begin_import(std::string_view scope) {
  Import import;
  import.root = root_of(scope);
  ++nodes_[size_t(import.root)].holders;
  if (imports_++ == 0) ++import_epoch_;
  return import;
}

void KvCache::import(Import& import, int64_t parent, const std::array<int32_t, kKvBlockTokens>& tokens,
                     uint32_t present, const uint8_t* bytes) {
  Import::Entry& entry = import.entries.emplace_back(Import::Entry{-1, 0});
  if (parent >= 0 && !is_there(import.entries[size_t(parent)])) return;
  const int32_t before = parent < 0 ? import.root : import.entries[size_t(parent)].node;
  int32_t node = find_child(before, tokens.data());
  if (node < 0) node = add_node(before, tokens.data());
  nodes_[size_t(node)].epoch = import_epoch_;
  // Idle ones go before their parents, so that they are taken first: without its parent a block is of no use.
  const auto put = [&](size_t g) {
    link(index(node, g), groups_[g], idle(before, g) ? index(before, g) : -1);
  };
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!idle(node, g)) continue;
    unlink(index(node, g), groups_[g]);
    put(g);
  }
  const auto room = [&](const Group& group) {
    if (!group.free.empty()) return true;
    const int64_t oldest = group.first_idle;
    return oldest >= 0 && nodes_[size_t(oldest) / groups_.size()].epoch != import_epoch_;
  };
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!(present >> g & 1)) continue;
    const uint8_t* own = bytes;
    bytes += kv_block_file_bytes(pools_[g]->spec);
    if (slot(node, g).block >= 0 || !room(groups_[g])) continue;
    const int32_t block = allocate(g);
    pools_[g]->import_block(block, own);
    slot(node, g).block = block;
    put(g);
  }
  entry = {node, nodes_[size_t(node)].serial};
  if (!whole(node))
    for (size_t g = 0; g < groups_.size(); ++g) drop(node, g);
  prune(node);
}

int64_t KvCache::end_import(Import& import) {
  int64_t left = 0;
  // From the end, as in `close`.
  for (; !import.entries.empty(); import.entries.pop_back()) {
    const Import::Entry& entry = import.entries.back();
    if (!is_there(entry)) continue;
    ++left;
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (!idle(entry.node, g)) continue;
      unlink(index(entry.node, g), groups_[g]);
      link(index(entry.node, g), groups_[g]);
    }
  }
  --nodes_[size_t(import.root)].holders;
  prune(import.root);
  --imports_;
  return left;
}

// Whether a node has its blocks of the layers that see all tokens, without which the others are of no use.
bool KvCache::whole(int32_t node) const {
  for (size_t g = 0; g < groups_.size(); ++g)
    if (window(g) == 0 && slot(node, g).block < 0) return false;
  return true;
}

bool KvCache::is_there(const Import::Entry& entry) const {
  return entry.node >= 0 && nodes_[size_t(entry.node)].serial == entry.serial && whole(entry.node);
}

}  // namespace inhouse
