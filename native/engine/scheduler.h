// Who gets computed next: requests wait in arrival order, a bounded number runs together, and each step
// carries one token of every sequence that is decoding plus as much of the oldest prompts as fits.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "native/engine/engine.h"
#include "native/engine/kv_cache.h"
#include "native/engine/stop_matcher.h"

namespace inhouse {

using Clock = std::chrono::steady_clock;

// A request from submit to its last event.
struct Sequence {
  // Checks the sampling settings. Error: invalid_argument.
  Sequence(RequestSpec request, int32_t vocabulary)
      : spec(std::move(request)),
        sampler(spec.sampling, vocabulary, spec.top_logprobs),
        stop_matcher(spec.stop),
        submitted(Clock::now()) {}

  uint64_t id = 0;
  RequestSpec spec;
  Sampler sampler;
  StopMatcher stop_matcher;
  int32_t max_tokens = 0;  // resolved: what the context leaves room for
  int32_t computed = 0;    // tokens whose K and V are in the cache
  int32_t completion_tokens = 0;
  int32_t next_token = -1;            // drawn last, to be computed next; -1 while in the prompt
  bool awaiting_acknowledge = false;  // an evaluation waits for its reader
  BlockTables cache;
  Clock::time_point submitted, started, first_token;

  int32_t prompt_tokens() const { return int32_t(spec.prompt.size()); }
  bool in_prompt() const { return computed < prompt_tokens(); }
};

// Lists, so that requests change hands without allocation.
using SequenceList = std::list<std::unique_ptr<Sequence>>;

// What one sequence does in the current step.
struct Work {
  Sequence* sequence;
  int32_t first;         // position of its first row
  int32_t count;         // rows
  int32_t first_output;  // index of its first row in the batch's outputs
  int32_t outputs;       // its rows whose logits are wanted; the last ones
};

class Scheduler {
 public:
  Scheduler(KvCache& cache, const EngineOptions& options) : cache_(cache), options_(options) {}

  // Takes over all of `arrived`, in order.
  void add(SequenceList& arrived) noexcept { waiting_.splice(waiting_.end(), arrived); }
  Sequence* find(uint64_t id);
  // Takes a request out, wherever it is; frees its blocks. Null where it is unknown.
  std::unique_ptr<Sequence> remove(uint64_t id);
  // Takes all of them out.
  std::vector<std::unique_ptr<Sequence>> remove_all();

  // Plans a step and fills batch() and work(). False where nothing can be computed now.
  bool plan();
  const Batch& batch() const { return batch_; }
  const std::vector<Work>& work() const { return work_; }

 private:
  void admit();
  void schedule(Sequence& sequence, int32_t count);

  KvCache& cache_;
  const EngineOptions& options_;
  SequenceList waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission

  // The step's batch and the memory behind its spans.
  Batch batch_;
  std::vector<Work> work_;
  std::vector<int32_t> tokens_, positions_, outputs_;
  std::vector<SequenceSlice> slices_;
};

}  // namespace inhouse
