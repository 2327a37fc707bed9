// Who gets computed next. A bounded number of requests runs together; the others wait, those of higher
// priority first and of equal ones in order of arrival. Each step carries one token (or several, where some
// are guessed) of every sequence that is writing, plus as much of prompts as their pace allows.
//
// Guesses come last: they take what room is left in steps without prompts, and never another's blocks.
//
// What every running request can count on, in steps. One that is writing advances in every step. One in its
// prompt (or what is computed again) advances at least once in maxConcurrent + 1 steps: besides the first in
// order, which has most of the tokens, each step carries the one that has not advanced for longest, and where
// a step has a single token for prompts, it is that one's. Newcomers come last, so none is overtaken. All
// texts together have one turn among the prompts, and of them the one that has waited longest takes it: where
// T run, each advances at least once in T * (maxConcurrent + 1) steps. Who needs the very block next that
// another is about to compute waits to take it over, until 31 * (maxConcurrent + 1) steps have passed without
// that, and has its turn then. One whose reader is to answer first (`Sequence::awaits`) does nothing
// meanwhile.
//
// Those that wait, again after they were set aside or for the first time, go on in order, as places and
// blocks become free: that takes as long as those before them work. A request is only ever set aside for one
// that goes before it, so the first of the highest priority never is.
//
// Texts that are embedded take no place from those that write: they need blocks alone, and only while they
// are computed. They wait in a line of their own, whose first ones fill a step (native/engine/embedding.h).
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "native/engine/engine.h"
#include "native/engine/pace.h"
#include "native/engine/sequence.h"
#include "native/engine/speculation.h"

namespace inhouse {

// What one sequence does in the current step.
struct Work {
  Sequence* sequence;
  int32_t first;         // position of its first row
  int32_t count;         // rows
  int32_t first_output;  // index of its first row in the batch's outputs
  int32_t outputs;       // its rows whose logits are wanted; the last ones
  int32_t guesses;       // of its rows, those at its end whose tokens are guessed
};

class Scheduler {
 public:
  Scheduler(KvCache& cache, const EngineOptions& options, const KvSizes& sizes, int32_t vocabulary)
      : cache_(cache),
        options_(options),
        pace_(options.max_slowdown, options.max_concurrent + kMostGuesses),
        speculation_(options, sizes, vocabulary) {}

  // Takes over all of `arrived`.
  void add(SequenceList& arrived) noexcept;
  Sequence* find(uint64_t id);
  // Takes a request out, wherever it is, and frees its blocks. Null where it is unknown.
  std::unique_ptr<Sequence> remove(uint64_t id);
  // Takes all of them out.
  SequenceList remove_all() noexcept;
  // Sets a request aside until `resume`: it gives its place and its blocks to others.
  void pause(uint64_t id);
  void resume(uint64_t id);

  // Drops `count` tokens of a running request after the first `keep`; what follows them is computed again.
  void drop(Sequence& sequence, int32_t keep, int32_t count);
  // Frees what ended requests left in a scope that no other will have.
  void forget(const std::string& scope) noexcept { cache_.forget(scope); }

  // Plans a step and fills batch() and work(). False where nothing can be computed now.
  bool plan();
  const Batch& batch() const { return batch_; }
  const std::vector<Work>& work() const { return work_; }
  // Takes note of how long the planned step took.
  void took(double seconds) {
    pace_.record(writing_rows_, rows() - writing_rows_, seconds);
    if (rows() == writing_rows_) speculation_.took(rows(), seconds);
  }

  template <class F>
  void each(F f) {  // every request, running or not
    for (const SequenceList* list : {&running_, &waiting_, &waiting_texts_, &paused_})
      for (const auto& sequence : *list) f(*sequence);
  }
  int32_t running() const { return int32_t(running_.size()); }
  int32_t waiting() const { return int32_t(waiting_.size() + waiting_texts_.size()); }
  int32_t paused() const { return int32_t(paused_.size()); }
  const Draft* draft() const { return speculation_.draft(); }
  int64_t set_aside() const { return set_aside_; }

 private:
  int32_t rows() const { return int32_t(tokens_.size()); }
  void let_go(Sequence& sequence) noexcept;
  SequenceList* list_of(uint64_t id, SequenceList::iterator& at);
  void admit();
  bool admit_first(SequenceList& waiting);
  int32_t reopen(Sequence& sequence);
  bool has_place(const Sequence& sequence) const;
  bool fits(const Sequence& sequence) const;
  SequenceList::iterator in_the_way_of(const Sequence& sequence);
  SequenceList& waiting_like(const Sequence& sequence) { return sequence.text ? waiting_texts_ : waiting_; }
  void put_aside(SequenceList::iterator at, SequenceList& to);
  bool make_room(Sequence& sequence, int32_t count);
  void add_rows(Sequence& sequence, int32_t count);
  bool schedule(Sequence& sequence, int32_t count);
  void schedule_writing();
  void schedule_prompts();
  bool may_join(const Sequence& sequence) const;
  Sequence* whose_turn();

  KvCache& cache_;
  const EngineOptions& options_;
  Pace pace_;
  Speculation speculation_;
  SequenceList waiting_, waiting_texts_, running_;  // each in order
  int32_t places_ = 0;                              // of running_, those that are no texts
  SequenceList paused_;
  uint64_t step_ = 0;
  uint64_t texts_turn_ = 0;  // the last step in which it was theirs
  int64_t set_aside_ = 0;

  // The step's batch and the memory behind its spans.
  Batch batch_;
  std::vector<Work> work_;
  std::vector<Sequence*> writing_, prompts_;
  std::vector<uint64_t> being_computed_;
  int32_t writing_rows_ = 0;
  std::vector<int32_t> tokens_, positions_, outputs_;
  std::vector<SequenceSlice> slices_;
};

}  // namespace inhouse
