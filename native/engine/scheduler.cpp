#include "native/engine/scheduler.h"

#include <algorithm>

namespace inhouse {
namespace {

// Rows of an evaluation per step when whole rows of log-probabilities are wanted: each may take a megabyte.
constexpr int32_t kEvaluateRows = 64;

}  // namespace

Sequence* Scheduler::find(uint64_t id) {
  const auto matches = [id](const auto& sequence) { return sequence->id == id; };
  if (auto it = std::find_if(running_.begin(), running_.end(), matches); it != running_.end())
    return it->get();
  if (auto it = std::find_if(waiting_.begin(), waiting_.end(), matches); it != waiting_.end())
    return it->get();
  return nullptr;
}

std::unique_ptr<Sequence> Scheduler::remove(uint64_t id) {
  const auto take = [&](auto& list) -> std::unique_ptr<Sequence> {
    for (auto it = list.begin(); it != list.end(); ++it) {
      if ((*it)->id != id) continue;
      std::unique_ptr<Sequence> sequence = std::move(*it);
      list.erase(it);
      cache_.close(sequence->cache);
      return sequence;
    }
    return nullptr;
  };
  std::unique_ptr<Sequence> sequence = take(running_);
  return sequence ? std::move(sequence) : take(waiting_);
}

std::vector<std::unique_ptr<Sequence>> Scheduler::remove_all() {
  std::vector<std::unique_ptr<Sequence>> all = std::move(running_);
  running_.clear();
  for (auto& sequence : waiting_) all.push_back(std::move(sequence));
  waiting_.clear();
  for (auto& sequence : all) cache_.close(sequence->cache);
  return all;
}

void Scheduler::admit() {
  while (!waiting_.empty() && int32_t(running_.size()) < options_.max_concurrent) {
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    Sequence& sequence = *running_.back();
    sequence.cache = cache_.open();
    sequence.started = Clock::now();
    for (int32_t token : sequence.spec.prompt) sequence.sampler.accept(token);
  }
}

bool Scheduler::plan() {
  admit();
  work_.clear();
  tokens_.clear();
  positions_.clear();
  outputs_.clear();
  slices_.clear();
  // Decoding sequences first, so that a long prompt never stops them.
  for (const auto& sequence : running_) {
    if (!sequence->in_prompt()) schedule(*sequence, 1);
  }
  for (const auto& sequence : running_) {
    const int32_t room = options_.max_batch_tokens - int32_t(tokens_.size());
    if (room <= 0) break;
    if (!sequence->in_prompt() || sequence->awaiting_acknowledge) continue;
    int32_t count = std::min(room, sequence->prompt_tokens() - sequence->computed);
    if (sequence->spec.evaluate_rows) count = std::min(count, kEvaluateRows);
    schedule(*sequence, count);
  }
  // Spans only now: the vectors have stopped growing.
  batch_ = {tokens_, positions_, slices_, outputs_};
  return !work_.empty();
}

void Scheduler::schedule(Sequence& sequence, int32_t count) {
  const int32_t first = sequence.computed;
  cache_.extend(sequence.cache, first, first + count);
  slices_.push_back({int32_t(tokens_.size()), count, first, sequence.cache.tables.data(),
                     sequence.spec.adapter.get(), sequence.spec.adapter_scale});
  const bool ends_prompt = first + count >= sequence.prompt_tokens();
  const int32_t outputs = sequence.spec.evaluate ? count : ends_prompt && sequence.max_tokens > 0 ? 1 : 0;
  work_.push_back({&sequence, first, count, int32_t(outputs_.size()), outputs});
  for (int32_t i = 0; i < count; ++i) {
    if (i >= count - outputs) outputs_.push_back(int32_t(tokens_.size()));
    tokens_.push_back(first + i < sequence.prompt_tokens() ? sequence.spec.prompt[size_t(first + i)]
                                                           : sequence.next_token);
    positions_.push_back(first + i);
  }
}

}  // namespace inhouse
