#include "native/engine/kv_cache.h"

#include <algorithm>

#include "native/core/error.h"

namespace inhouse {
namespace {

int32_t blocks_for(int32_t tokens) {
  return int32_t((int64_t(tokens) + kKvBlockTokens - 1) / kKvBlockTokens);
}

// Blocks of a group's pool. A window needs, of each sequence, the blocks it touches and those of the step;
// twice as many, so that prefixes that nobody uses can be continued, too.
int64_t pool_blocks(const KvGroup& group, const KvSizes& sizes) {
  const int64_t all = blocks_for(sizes.tokens);
  if (group.window <= 0) return all;
  const int64_t window = int64_t(blocks_for(group.window)) + 1;
  return std::min(all, 2 * window * sizes.sequences + blocks_for(sizes.max_step_tokens) + sizes.sequences);
}

// Bytes of one head's vector in the cache, about: q8_0 and q4_0 have a 16-bit scale for every 32 numbers.
double vector_bytes(KvType type, int32_t dims) {
  const double groups = (dims + 31) / 32;
  if (type == KvType::q8_0) return dims + groups * 2;
  if (type == KvType::q4_0) return groups * (16 + 2);
  return (type == KvType::f32 ? 4.0 : 2.0) * dims;
}

// A key of a block of tokens after a node's; equal ones are compared token by token.
uint64_t key_of(int32_t parent, const int32_t* tokens) {
  uint64_t key = uint64_t(parent) + 0x9e3779b97f4a7c15ull;
  for (int32_t i = 0; i < kKvBlockTokens; ++i) {
    key = (key ^ uint64_t(uint32_t(tokens[i]))) * 0xff51afd7ed558ccdull;
    key ^= key >> 32;
  }
  return key | 1;  // never 0
}

}  // namespace

uint64_t KvCache::bytes_for(const Model& model, KvType type_k, KvType type_v, const KvSizes& sizes) {
  const HyperParameters& h = model.hyper();
  const double token = vector_bytes(type_k, h.head_dim) + vector_bytes(type_v, h.head_dim_v);
  double bytes = 0;
  for (const KvGroup& group : h.kv_groups)
    bytes += double(pool_blocks(group, sizes)) * kKvBlockTokens * group.layers * h.kv_heads * token;
  return bytes < 1e18 ? uint64_t(bytes) : UINT64_MAX;
}

KvCache::KvCache(const Model& model, KvType type_k, KvType type_v, const KvSizes& sizes) {
  const HyperParameters& h = model.hyper();
  for (const KvGroup& group : h.kv_groups) {
    const int64_t blocks = pool_blocks(group, sizes);
    if (blocks > INT32_MAX) throw Error(Code::out_of_memory, "the KV cache would need too many blocks");
    const KvGroupSpec spec{group.layers, h.kv_heads, h.head_dim, h.head_dim_v, type_k, type_v, group.window};
    pools_.push_back(model.backend().make_kv_pool(spec, int32_t(blocks)));
    std::vector<int32_t>& free = groups_.emplace_back().free;
    free.resize(size_t(blocks));
    for (size_t i = 0; i < free.size(); ++i) free[i] = int32_t(free.size() - 1 - i);
  }
}

uint64_t KvCache::bytes() const {
  uint64_t sum = 0;
  for (const auto& pool : pools_) sum += pool->bytes;
  return sum;
}

KvCache::Usage KvCache::usage() const {
  const auto full = [&](size_t g) { return window(g) == 0; };
  bool any_full = false;
  for (size_t g = 0; g < groups_.size(); ++g) any_full |= full(g);
  Usage sum;
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (any_full && !full(g)) continue;
    const auto total = int64_t(pools_[g]->blocks), free = int64_t(groups_[g].free.size());
    sum.total_blocks += total;
    sum.idle_blocks += groups_[g].idle;
    sum.held_blocks += total - free - groups_[g].idle;
  }
  return sum;
}

// The first block that a token at `position` sees.
int32_t KvCache::first_seen(size_t group, int32_t position) const {
  return window(group) > 0 ? std::max(0, position + 1 - window(group)) / kKvBlockTokens : 0;
}

BlockTables KvCache::open(std::string_view scope) {
  BlockTables sequence;
  sequence.blocks.resize(groups_.size());
  sequence.tables.resize(groups_.size());
  sequence.held.resize(groups_.size());
  sequence.root = root_of(scope);
  ++nodes_[size_t(sequence.root)].holders;
  return sequence;
}

// The root of a tree, which is pruned once nobody holds it and nothing follows it.
int32_t KvCache::root_of(std::string_view scope) {
  const auto [at, added] = roots_.try_emplace(std::string(scope), -1);
  if (added) {
    try {
      at->second = add_node(-1, nullptr);
      nodes_[size_t(at->second)].scope = at->first;
    } catch (...) {
      roots_.erase(at);
      throw;
    }
  }
  return at->second;
}

int32_t KvCache::advance(BlockTables& sequence, std::span<const int32_t> tokens, int32_t computed) {
  const auto from = int32_t(sequence.path.size());
  if (computed != from * kKvBlockTokens) return computed;
  std::vector<int32_t>& path = sequence.path;
  int32_t node = from > 0 ? path.back() : sequence.root;
  for (int32_t b = from; (b + 1) * kKvBlockTokens <= int32_t(tokens.size()); ++b) {
    node = find_child(node, tokens.data() + b * kKvBlockTokens);
    if (node < 0) break;
    path.push_back(node);
  }
  // Of a window's group, the blocks before the end must be there, as far as the next token sees them.
  const auto usable = [&](int32_t blocks) {
    for (size_t g = 0; g < groups_.size(); ++g)
      for (int32_t b = std::max(from, first_seen(g, blocks * kKvBlockTokens)); b < blocks; ++b)
        if (slot(path[size_t(b)], g).block < 0) return false;
    return true;
  };
  auto to = int32_t(path.size());
  while (to > from && !usable(to)) --to;
  path.resize(size_t(to));
  if (to == from) return computed;
  for (int32_t b = from; b < to; ++b) ++nodes_[size_t(path[size_t(b)])].holders;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int32_t first = first_seen(g, to * kKvBlockTokens);
    std::vector<int32_t>& table = sequence.blocks[g];
    for (; int32_t(table.size()) > from; table.pop_back()) groups_[g].free.push_back(table.back());
    give_back(sequence, g, std::min(first, from));
    for (int32_t b = from; b < to; ++b) {
      const bool seen = b >= first;
      if (seen) use(path[size_t(b)], g);
      table.push_back(seen ? slot(path[size_t(b)], g).block : -1);
    }
    sequence.held[g] = std::max(sequence.held[g], std::min(first, to));
    sequence.tables[g] = table.data();
  }
  return to * kKvBlockTokens;
}

uint64_t KvCache::next_block(const BlockTables& sequence, std::span<const int32_t> tokens,
                             int32_t computed) const {
  const auto from = int32_t(sequence.path.size());
  if (computed != from * kKvBlockTokens || computed + kKvBlockTokens > int32_t(tokens.size())) return 0;
  return key_of(from > 0 ? sequence.path.back() : sequence.root, tokens.data() + computed);
}

bool KvCache::extend(BlockTables& sequence, int32_t next, int32_t tokens) {
  bool fits = true;
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<int32_t>& table = sequence.blocks[g];
    give_back(sequence, g, std::min(first_seen(g, next), int32_t(table.size())));
    table.reserve(size_t(blocks_for(tokens)));
    while (fits && int32_t(table.size()) < blocks_for(tokens)) {
      const int32_t block = allocate(g);
      fits = block >= 0;
      if (fits) table.push_back(block);
    }
    sequence.tables[g] = table.data();
  }
  return fits;
}

void KvCache::commit(BlockTables& sequence, std::span<const int32_t> tokens, int32_t computed) {
  for (auto b = int32_t(sequence.path.size()); (b + 1) * kKvBlockTokens <= computed; ++b) {
    const int32_t parent = b > 0 ? sequence.path.back() : sequence.root;
    const int32_t* block_tokens = tokens.data() + b * kKvBlockTokens;
    sequence.path.reserve(size_t(b) + 1);
    int32_t node = find_child(parent, block_tokens);
    if (node < 0) node = add_node(parent, block_tokens);
    sequence.path.push_back(node);
    ++nodes_[size_t(node)].holders;
    for (size_t g = 0; g < groups_.size(); ++g) {
      int32_t& mine = sequence.blocks[g][size_t(b)];
      if (mine < 0) continue;
      Slot& theirs = slot(node, g);
      if (theirs.block < 0) {
        theirs.block = mine;
        theirs.users = 1;
      } else {  // somebody else computed the same; the bits are equal
        groups_[g].free.push_back(mine);
        use(node, g);
        mine = theirs.block;
      }
    }
  }
}

void KvCache::close(BlockTables& sequence, bool forget) {
  if (sequence.root < 0) return;
  // From the end, so that of the blocks nobody uses any more the last ones go first.
  for (size_t g = 0; g < groups_.size(); ++g) {
    const std::vector<int32_t>& table = sequence.blocks[g];
    for (auto b = int32_t(table.size()) - 1; b >= sequence.held[g]; --b) {
      if (b < int32_t(sequence.path.size())) {
        unuse(sequence.path[size_t(b)], g);
      } else {
        groups_[g].free.push_back(table[size_t(b)]);
      }
    }
  }
  for (size_t b = sequence.path.size(); b-- > 0;) {
    const int32_t node = sequence.path[b];
    --nodes_[size_t(node)].holders;
    if (forget && nodes_[size_t(node)].holders == 0 && nodes_[size_t(node)].children == 0)
      for (size_t g = 0; g < groups_.size(); ++g) drop(node, g);
    prune(node);
  }
  --nodes_[size_t(sequence.root)].holders;
  prune(sequence.root);
  sequence = BlockTables();
}

void KvCache::forget(const std::string& scope) noexcept {
  const auto found = roots_.find(scope);
  if (found == roots_.end()) return;
  const int32_t root = found->second;
  ++nodes_[size_t(root)].holders;  // so that it stays until the end
  for (int32_t n = 0; n < int32_t(nodes_.size()); ++n) {
    int32_t top = nodes_[size_t(n)].serial != 0 ? n : -1;
    while (top >= 0 && top != root) top = nodes_[size_t(top)].parent;
    if (top < 0 || n == root) continue;
    for (size_t g = 0; g < groups_.size(); ++g) drop(n, g);
    prune(n);
  }
  --nodes_[size_t(root)].holders;
  prune(root);
}

bool KvCache::has_room(const BlockTables& sequence, int32_t tokens, int32_t spare) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t available = int64_t(groups_[g].free.size()) + groups_[g].idle;
    int64_t wanted = blocks_for(tokens) - int64_t(sequence.blocks[g].size());
    if (window(g) > 0) wanted = std::min<int64_t>(wanted, int64_t(blocks_for(window(g))) + 1);
    if (wanted + spare > available) return false;
  }
  return true;
}

int32_t KvCache::find_child(int32_t parent, const int32_t* tokens) const {
  const auto [begin, end] = children_.equal_range(key_of(parent, tokens));
  for (auto at = begin; at != end; ++at) {
    const Node& node = nodes_[size_t(at->second)];
    if (node.parent == parent && std::equal(node.tokens.begin(), node.tokens.end(), tokens))
      return at->second;
  }
  return -1;
}

// A root where `parent` is -1.
int32_t KvCache::add_node(int32_t parent, const int32_t* tokens) {
  if (free_nodes_.empty()) {
    // Whatever throws, throws before anything refers to the new node.
    free_nodes_.reserve(nodes_.size() + 1);
    slots_.resize((nodes_.size() + 1) * groups_.size());
    nodes_.emplace_back();
    free_nodes_.push_back(int32_t(nodes_.size()) - 1);
  }
  const int32_t id = free_nodes_.back();
  Node& node = nodes_[size_t(id)];
  node = Node();
  node.parent = parent;
  node.serial = next_serial_++;
  if (parent >= 0) {
    std::copy_n(tokens, kKvBlockTokens, node.tokens.begin());
    node.key = key_of(parent, tokens);
    children_.emplace(node.key, id);
    ++nodes_[size_t(parent)].children;
  }
  free_nodes_.pop_back();
  return id;
}

// Removes a node without blocks that nobody needs, and its ancestors of which the same is true then.
void KvCache::prune(int32_t id) {
  while (id >= 0) {
    Node& node = nodes_[size_t(id)];
    if (node.holders > 0 || node.children > 0) return;
    for (size_t g = 0; g < groups_.size(); ++g)
      if (slot(id, g).block >= 0) return;
    const int32_t parent = node.parent;
    if (parent < 0) {
      roots_.erase(node.scope);
    } else {
      const auto [begin, end] = children_.equal_range(node.key);
      children_.erase(std::find_if(begin, end, [&](const auto& entry) { return entry.second == id; }));
      --nodes_[size_t(parent)].children;
    }
    node.serial = 0;
    free_nodes_.push_back(id);
    id = parent;
  }
}

void KvCache::use(int32_t node, size_t group) {
  if (slot(node, group).users++ == 0) unlink(index(node, group), groups_[group]);
}

void KvCache::unuse(int32_t node, size_t group) {
  if (--slot(node, group).users == 0) link(index(node, group), groups_[group]);
}

// Adds a block to a group's idle ones, before `next` or at the end.
void KvCache::link(int64_t index, Group& list, int64_t next) {
  Slot& s = slots_[size_t(index)];
  s.next = next;
  s.previous = next >= 0 ? slots_[size_t(next)].previous : list.last_idle;
  (s.previous >= 0 ? slots_[size_t(s.previous)].next : list.first_idle) = index;
  (next >= 0 ? slots_[size_t(next)].previous : list.last_idle) = index;
  ++list.idle;
}

void KvCache::unlink(int64_t index, Group& list) {
  Slot& s = slots_[size_t(index)];
  (s.previous >= 0 ? slots_[size_t(s.previous)].next : list.first_idle) = s.next;
  (s.next >= 0 ? slots_[size_t(s.next)].previous : list.last_idle) = s.previous;
  s.previous = s.next = -1;
  --list.idle;
}

// Takes an idle block out of the tree.
void KvCache::drop(int32_t node, size_t group) {
  Slot& s = slot(node, group);
  if (s.block < 0 || s.users > 0) return;
  unlink(index(node, group), groups_[group]);
  groups_[group].free.push_back(s.block);
  s.block = -1;
}

// Lets go of the blocks before `before` that the sequence still holds.
void KvCache::give_back(BlockTables& sequence, size_t group, int32_t before) {
  for (int32_t& b = sequence.held[group]; b < before; ++b) {
    int32_t& block = sequence.blocks[group][size_t(b)];
    if (b < int32_t(sequence.path.size())) {
      unuse(sequence.path[size_t(b)], group);
    } else {
      groups_[group].free.push_back(block);
    }
    block = -1;
  }
}

// A block nobody uses, if need be the least recently used one of the tree; -1 where there is none.
int32_t KvCache::allocate(size_t group) {
  Group& g = groups_[group];
  if (g.free.empty() && g.first_idle >= 0) {
    const auto node = int32_t(g.first_idle / int64_t(groups_.size()));
    drop(node, group);
    // Without a block of every layer that sees all tokens, the others are of no use. Whoever uses a node uses
    // its ancestors, so nodes become idle after their descendants, which are gone by now.
    if (window(group) == 0)
      for (size_t other = 0; other < groups_.size(); ++other) drop(node, other);
    prune(node);
  }
  if (g.free.empty()) return -1;
  const int32_t block = g.free.back();
  g.free.pop_back();
  return block;
}

}  // namespace inhouse
