#include "native/engine/scheduler.h"

#include <algorithm>

namespace inhouse {
namespace {

// Rows of an evaluation per step when whole rows of log-probabilities are wanted: each may take a megabyte.
constexpr int32_t kEvaluateRows = 64;
// The part of a step's prompt tokens that is not the first prompt's, where there are several.
constexpr int32_t kOthersShare = 4;

// Moves a request to its place among others.
void insert(SequenceList& list, SequenceList& from, SequenceList::iterator at) noexcept {
  auto place = list.end();
  while (place != list.begin() && goes_before(**at, **std::prev(place))) --place;
  list.splice(place, from, at);
}

}  // namespace

void Scheduler::add(SequenceList& arrived) noexcept {
  while (!arrived.empty()) insert(waiting_like(*arrived.front()), arrived, arrived.begin());
}

SequenceList* Scheduler::list_of(uint64_t id, SequenceList::iterator& at) {
  for (SequenceList* list : {&running_, &waiting_, &waiting_texts_, &paused_}) {
    at = std::find_if(list->begin(), list->end(), [id](const auto& sequence) { return sequence->id == id; });
    if (at != list->end()) return list;
  }
  return nullptr;
}

Sequence* Scheduler::find(uint64_t id) {
  SequenceList::iterator at;
  return list_of(id, at) ? at->get() : nullptr;
}

std::unique_ptr<Sequence> Scheduler::remove(uint64_t id) {
  SequenceList::iterator at;
  SequenceList* list = list_of(id, at);
  if (!list) return nullptr;
  std::unique_ptr<Sequence> sequence = std::move(*at);
  list->erase(at);
  if (list == &running_ && !sequence->text) --places_;
  let_go(*sequence);
  return sequence;
}

SequenceList Scheduler::remove_all() noexcept {
  SequenceList all = std::move(running_);
  places_ = 0;
  all.splice(all.end(), waiting_);
  all.splice(all.end(), waiting_texts_);
  all.splice(all.end(), paused_);
  for (auto& sequence : all) let_go(*sequence);
  return all;
}

// Gives back all that a request holds, and what it left in a scope of its own.
void Scheduler::let_go(Sequence& sequence) noexcept {
  const bool own_scope = !sequence.spec.share_prefix;
  speculation_.forget(sequence);
  cache_.close(sequence.cache, own_scope);
  if (own_scope && !sequence.text) cache_.forget(sequence.scope);  // texts have their call's
}

void Scheduler::pause(uint64_t id) {
  SequenceList::iterator at;
  SequenceList* list = list_of(id, at);
  if (list == &running_) put_aside(at, paused_);
  if (list == &waiting_) paused_.splice(paused_.end(), waiting_, at);
}

void Scheduler::resume(uint64_t id) {
  SequenceList::iterator at;
  if (list_of(id, at) == &paused_) insert(waiting_, paused_, at);
}

// Takes a running request's blocks; what the tree keeps of them spares it work when it goes on.
void Scheduler::put_aside(SequenceList::iterator at, SequenceList& to) {
  Sequence& sequence = **at;
  speculation_.forget(sequence);
  cache_.close(sequence.cache);
  sequence.running = false;
  sequence.computed = 0;
  if (!sequence.text) --places_;
  if (&to != &paused_) ++set_aside_;
  insert(to, running_, at);
}

bool Scheduler::has_place(const Sequence& sequence) const {
  return sequence.text || places_ < options_.max_concurrent;
}

// Whether there is a place, the blocks for all that is to be computed, and one for each other that will want
// one to go on with.
bool Scheduler::fits(const Sequence& sequence) const {
  if (running_.empty()) return true;
  if (!has_place(sequence)) return false;
  int32_t spare = 0;
  for (const auto& other : running_) spare += other->wants_blocks() ? 1 : 0;
  return cache_.has_room(sequence.cache, sequence.size() + 1, spare);
}

// The request of lower priority that gives way first; the end where there is none.
SequenceList::iterator Scheduler::in_the_way_of(const Sequence& sequence) {
  const bool place = !has_place(sequence);
  for (auto at = running_.end(); at != running_.begin();) {
    if ((*--at)->spec.priority >= sequence.spec.priority) break;
    if (!place || !(*at)->text) return at;
  }
  return running_.end();
}

// In order, generations and texts alike: where blocks are short, those that become free are for the first
// that waits. One that lacks a place holds back no text.
void Scheduler::admit() {
  for (;;) {
    SequenceList *first = &waiting_, *second = &waiting_texts_;
    if (!second->empty() && (first->empty() || goes_before(*second->front(), *first->front())))
      std::swap(first, second);
    if (first->empty()) return;
    if (admit_first(*first)) continue;
    if (has_place(*first->front()) || second->empty() || !admit_first(*second)) return;
  }
}

// Begins a sequence's blocks anew with those that the tree has. Returns the tokens that are computed then.
int32_t Scheduler::reopen(Sequence& sequence) {
  cache_.close(sequence.cache);
  sequence.cache = cache_.open(sequence.scope);
  return cache_.advance(sequence.cache, sequence.shareable(), 0);
}

// Gives the first of those that wait its place, if there is one.
bool Scheduler::admit_first(SequenceList& waiting) {
  const auto next = waiting.begin();
  Sequence& sequence = **next;
  const int32_t cached = reopen(sequence);
  while (!fits(sequence)) {
    const auto other = in_the_way_of(sequence);
    if (other == running_.end()) {
      cache_.close(sequence.cache);
      return false;
    }
    put_aside(other, waiting_like(**other));
  }
  sequence.computed = cached;
  sequence.running = true;
  sequence.last_step = step_;  // comes after all that wait for their turn already
  if (!sequence.seen) {
    sequence.started = Clock::now();
    sequence.cached = sequence.most_computed = cached;
    if (sequence.draws())
      for (int32_t token : sequence.tokens) sequence.sampler.accept(token);
    sequence.seen = true;
  }
  if (!sequence.text) ++places_;
  insert(running_, waiting, next);
  return true;
}

void Scheduler::drop(Sequence& sequence, int32_t keep, int32_t count) {
  cache_.close(sequence.cache);
  const auto from = sequence.tokens.begin() + keep;
  sequence.tokens.erase(from, from + count);
  sequence.dropped += count;
  sequence.computed = sequence.running ? reopen(sequence) : 0;
  speculation_.forget(sequence);
}

// Blocks for `count` more tokens, if need be those of a request that comes later and is not in this step yet.
// False where the sequence itself was set aside.
bool Scheduler::make_room(Sequence& sequence, int32_t count) {
  while (!cache_.extend(sequence.cache, sequence.computed, sequence.computed + count)) {
    auto last = std::prev(running_.end());
    while (last->get() != &sequence && (*last)->last_step == step_) --last;
    const bool itself = last->get() == &sequence;
    put_aside(last, waiting_like(**last));
    if (itself) return false;
  }
  return true;
}

bool Scheduler::plan() {
  admit();
  ++step_;
  work_.clear();
  tokens_.clear();
  positions_.clear();
  outputs_.clear();
  slices_.clear();
  schedule_writing();
  schedule_prompts();
  // Spans only now: the vectors have stopped growing.
  batch_ = {tokens_, positions_, slices_, outputs_};
  return !work_.empty();
}

void Scheduler::schedule_writing() {
  writing_.clear();
  bool prompts = false;
  for (const auto& sequence : running_) {
    if (sequence->awaits) continue;
    if (sequence->decoding()) {
      writing_.push_back(sequence.get());
    } else {
      prompts = true;
    }
  }
  std::erase_if(writing_, [&](Sequence* sequence) {
    const bool goes = sequence->running && make_room(*sequence, 1);
    if (goes) sequence->last_step = step_;
    return !goes;
  });
  const auto rows_wanted = int32_t(writing_.size());
  speculation_.guess(writing_, prompts ? 0 : options_.max_batch_tokens - rows_wanted);
  for (Sequence* sequence : writing_) {
    const int32_t count = 1 + int32_t(sequence->guesses.size());
    if (!cache_.extend(sequence->cache, sequence->computed, sequence->computed + count))
      sequence->guesses.clear();
    add_rows(*sequence, 1 + int32_t(sequence->guesses.size()));
  }
  writing_rows_ = rows();
}

void Scheduler::schedule_prompts() {
  prompts_.clear();
  being_computed_.clear();
  for (const auto& sequence : running_) {
    if (sequence->decoding() || sequence->awaits) continue;
    const int32_t before = sequence->computed;
    sequence->computed = cache_.advance(sequence->cache, sequence->shareable(), before);
    if (sequence->computed > before) sequence->last_step = step_ - 1;  // as if that had computed them
    if (before == sequence->most_computed && sequence->drawn == 0) {
      sequence->cached += sequence->computed - before;
      sequence->most_computed = sequence->computed;
    }
    // Of those that need the same block next, the first computes it, if it does so in time.
    const uint64_t next = cache_.next_block(sequence->cache, sequence->shareable(), sequence->computed);
    if (next != 0 && std::count(being_computed_.begin(), being_computed_.end(), next) > 0 &&
        step_ - sequence->last_step <= uint64_t(kKvBlockTokens - 1) * uint64_t(options_.max_concurrent + 1))
      continue;
    if (next != 0) being_computed_.push_back(next);
    prompts_.push_back(sequence.get());
  }
  if (prompts_.empty()) return;
  // Where those that write fill a step, what is left are texts, which have one row more.
  const int32_t room = std::max(1, options_.max_batch_tokens - writing_rows_);
  int32_t left = std::min(room, pace_.prompt_tokens(writing_rows_, room));
  const auto take = [&](Sequence& sequence, int32_t most) {
    int32_t count = std::min(most, sequence.left());
    if (sequence.spec.evaluate_rows) count = std::min(count, kEvaluateRows);
    if (count > 0 && schedule(sequence, count)) left -= count;
  };
  // A single token goes by turns alone.
  if (prompts_.size() > 1) take(*prompts_[0], left - std::max(1, left / kOthersShare));
  if (Sequence* sequence = whose_turn()) take(*sequence, left);
  for (Sequence* sequence : prompts_)
    if (may_join(*sequence)) take(*sequence, left);
}

// Whether the step may carry one of its prompts: it was not set aside for another and is not in it yet.
bool Scheduler::may_join(const Sequence& sequence) const {
  return sequence.running && sequence.last_step != step_;
}

// Of the step's prompts the one that has not advanced for longest. However many texts there are, their turns
// are those of one.
Sequence* Scheduler::whose_turn() {
  Sequence *prompt = nullptr, *text = nullptr;
  for (Sequence* sequence : prompts_) {
    Sequence*& longest = sequence->text ? text : prompt;
    if (may_join(*sequence) && (!longest || sequence->last_step < longest->last_step)) longest = sequence;
  }
  if (!text || (prompt && prompt->last_step < texts_turn_)) return prompt;
  texts_turn_ = step_;
  return text;
}

bool Scheduler::schedule(Sequence& sequence, int32_t count) {
  if (!make_room(sequence, count)) return false;
  sequence.last_step = step_;
  sequence.guesses.clear();
  add_rows(sequence, count);
  return true;
}

// The sequence's next tokens, and after the last one its guesses.
void Scheduler::add_rows(Sequence& sequence, int32_t count) {
  const int32_t first = sequence.computed, end = first + count;
  const int32_t guesses = std::max(0, end - sequence.size());
  slices_.push_back({rows(), count, first, sequence.cache.tables.data(), sequence.spec.adapter.get(),
                     sequence.spec.adapter_scale});
  const int32_t delivered = end - std::clamp(sequence.logits_from, first, end);
  const int32_t drawn = sequence.draws() && end >= sequence.size() ? 1 + guesses : 0;
  const int32_t outputs = std::max(delivered, drawn);
  work_.push_back({&sequence, first, count, int32_t(outputs_.size()), outputs, guesses});
  for (int32_t at = first; at < end; ++at) {
    if (at >= end - outputs) outputs_.push_back(rows());
    tokens_.push_back(at < sequence.size() ? sequence.tokens[size_t(at)]
                                           : sequence.guesses[size_t(at - sequence.size())]);
    positions_.push_back(at);
  }
}

}  // namespace inhouse
