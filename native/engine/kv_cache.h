// The paged KV cache of one engine: a pool of blocks per group, a block table per sequence, and a tree of the
// prefixes that have been computed, whose blocks sequences with the same beginning share.
//
// A node of the tree stands for one full block of tokens after those of its parent. It owns a block of each
// group's pool, or none where a sliding window has moved on and the block was needed elsewhere. Sequences
// hold the nodes of their beginning and further blocks of their own; what nobody holds stays in the tree
// until a pool is empty, and the least recently used goes first.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "native/model/model.h"

namespace inhouse {

// One sequence's place in the cache.
struct BlockTables {
  std::vector<std::vector<int32_t>> blocks;  // [groups][position / 32]: pool block, -1 where not held
  std::vector<const int32_t*> tables;        // [groups], what a batch points to
  std::vector<int32_t> held;                 // [groups] first block that is held
  std::vector<int32_t> path;                 // nodes of its first blocks; the blocks after them are its own
  int32_t root = -1;
};

// How many blocks the pools have.
struct KvSizes {
  int32_t tokens;           // of all sequences together, in groups without a window
  int32_t sequences;        // that run at once
  int32_t max_step_tokens;  // that one step adds, of all sequences
};

class KvCache {
 public:
  KvCache(const Model& model, KvType type_k, KvType type_v, const KvSizes& sizes);

  // What a cache of these sizes reserves, in bytes; saturates.
  static uint64_t bytes_for(const Model& model, KvType type_k, KvType type_v, const KvSizes& sizes);

  std::span<const std::unique_ptr<KvPool>> pools() const { return pools_; }
  uint64_t bytes() const;

  // A sequence without tokens, in the tree `scope`; sequences share prefixes with those of the same scope.
  BlockTables open(std::string_view scope);
  // Where `computed` tokens fill the blocks the sequence holds: takes over further blocks of `tokens` that
  // the tree has. Returns the tokens that are computed then.
  int32_t advance(BlockTables& sequence, std::span<const int32_t> tokens, int32_t computed);
  // Names the next block of `tokens` after those the sequence shares, whoever computes it; 0 where it is not
  // a full one or the sequence is not at a block's begin.
  uint64_t next_block(const BlockTables& sequence, std::span<const int32_t> tokens, int32_t computed) const;
  // Makes room for positions up to `tokens` - 1 and first gives back blocks that no position from `next` (the
  // first one still to be computed) on can see. False where a pool has no block left; then a part of the room
  // may be there.
  bool extend(BlockTables& sequence, int32_t next, int32_t tokens);
  // Puts the full blocks among the first `computed` tokens into the tree.
  void commit(BlockTables& sequence, std::span<const int32_t> tokens, int32_t computed);
  // Lets go of all blocks; with `forget`, those that nobody else holds leave the tree as well.
  void close(BlockTables& sequence, bool forget = false);
  // Takes what nobody holds out of the tree `scope`.
  void forget(const std::string& scope) noexcept;

  // Whether `tokens` more tokens of a sequence would fit, with `spare` blocks left for others.
  bool has_room(const BlockTables& sequence, int32_t tokens, int32_t spare) const;

  // A node of the tree, for whoever copies blocks out of it over time: `parent` is its parent's place in the
  // list, or -1.
  struct NodeRef {
    int32_t node;
    uint64_t serial;
    int32_t parent;
  };
  // Blocks of the tree `scope` that a request could begin with, parents first: those that `prompt` begins
  // with, or without one all, the most recently used ones first. With `overhead` bytes each they take at most
  // `most_bytes` in a file.
  std::vector<NodeRef> list(std::string_view scope, std::optional<std::span<const int32_t>> prompt,
                            uint64_t most_bytes, uint64_t overhead) const;
  // The set of groups whose blocks are there; empty where the node has left the tree. Of what is there:
  uint32_t present(const NodeRef& ref) const;
  const std::array<int32_t, kKvBlockTokens>& tokens(const NodeRef& ref) const {
    return nodes_[size_t(ref.node)].tokens;
  }
  int32_t block(const NodeRef& ref, size_t group) const {
    return slots_[size_t(ref.node) * groups_.size() + group].block;
  }

  // Blocks on their way into the tree. Nothing is held for them: each is idle from the moment it is in, so
  // that running requests find as much room as without them and take back what they need. Imports alone never
  // take blocks that imports of the same time have brought or found.
  struct Import {
    struct Entry {
      int32_t node;  // -1: left out
      uint64_t serial;
    };
    int32_t root = -1;
    std::vector<Entry> entries;
  };
  Import begin_import(std::string_view scope);
  // Adds the block of `tokens` after entry `parent` (-1: at the beginning), with `bytes` of the groups in
  // `present`, as KvPool::import_block takes them; what the tree has already stays. Takes the least recently
  // used idle block where none is free. Left out where there is none, or where its parent is not in the tree
  // any more.
  void import(Import& import, int64_t parent, const std::array<int32_t, kKvBlockTokens>& tokens,
              uint32_t present, const uint8_t* bytes);
  // Makes the first ones the most recently used. Returns how many are there still.
  int64_t end_import(Import& import);

  struct Usage {
    int64_t total_blocks = 0, held_blocks = 0, idle_blocks = 0;  // of the groups without a window, else all
  };
  Usage usage() const;

 private:
  struct Node {
    int32_t parent = -1;  // -1: a root
    int32_t children = 0;
    int32_t holders = 0;  // sequences with the node in their path, or as their root
    uint64_t key = 0;
    uint64_t serial = 0;  // of its own, for as long as it is in the tree; 0: it is not
    uint64_t epoch = 0;   // of the last imports that brought or found it
    std::array<int32_t, kKvBlockTokens> tokens{};
    std::string scope;  // of a root
  };
  // A node's block of one group. Where `block` is set and nobody uses it, it is in the group's list of idle
  // ones.
  struct Slot {
    int32_t block = -1;
    int32_t users = 0;
    int64_t previous = -1, next = -1;
  };
  struct Group {
    std::vector<int32_t> free;  // most recently used last
    int64_t first_idle = -1, last_idle = -1;
    int32_t idle = 0;
  };

  Slot& slot(int32_t node, size_t group) { return slots_[size_t(node) * groups_.size() + group]; }
  int32_t window(size_t group) const { return pools_[group]->spec.window; }
  int32_t first_seen(size_t group, int32_t position) const;
  const Slot& slot(int32_t node, size_t group) const { return slots_[size_t(node) * groups_.size() + group]; }
  int32_t root_of(std::string_view scope);
  int64_t index(int32_t node, size_t group) const { return int64_t(size_t(node) * groups_.size() + group); }
  bool idle(int32_t node, size_t group) const {
    return slot(node, group).block >= 0 && slot(node, group).users == 0;
  }
  bool whole(int32_t node) const;
  bool is_there(const Import::Entry& entry) const;
  int32_t find_child(int32_t parent, const int32_t* tokens) const;
  int32_t add_node(int32_t parent, const int32_t* tokens);
  void prune(int32_t node);
  void use(int32_t node, size_t group);
  void unuse(int32_t node, size_t group);
  void link(int64_t index, Group& group, int64_t next = -1);
  void unlink(int64_t index, Group& group);
  void drop(int32_t node, size_t group);
  void give_back(BlockTables& sequence, size_t group, int32_t before);
  int32_t allocate(size_t group);

  std::vector<std::unique_ptr<KvPool>> pools_;  // [groups]
  std::vector<Group> groups_;
  std::vector<Node> nodes_;
  std::vector<Slot> slots_;  // [nodes][groups]
  std::vector<int32_t> free_nodes_;
  std::unordered_multimap<uint64_t, int32_t> children_;  // by key: nodes that are not roots
  std::unordered_map<std::string, int32_t> roots_;
  uint64_t next_serial_ = 1;
  int32_t imports_ = 0;        // at present
  uint64_t import_epoch_ = 0;  // counts times with imports; those of one time have the same
};

}  // namespace inhouse
