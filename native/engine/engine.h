// The engine: one thread per model that batches the requests of all callers. Callers submit and cancel from
// any thread; results come back through one sink, one call per step for all requests together.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "native/core/error.h"
#include "native/engine/sampling.h"
#include "native/model/adapter.h"
#include "native/model/model.h"

namespace inhouse {

// The output bytes of every token, as the tokenizer defines them; control tokens have none. Used for stop
// strings and for the text of events.
struct Vocabulary {
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> offsets;  // [size + 1]
  int32_t size() const { return offsets.empty() ? 0 : int32_t(offsets.size()) - 1; }
};

struct EngineOptions {
  int32_t context_length = 0;  // tokens of prompt and answer of one request; 0: the trained ones, at most
                               // 8192 and no more than memory holds
  int32_t max_concurrent = 8;  // requests in the batch at once
  int32_t max_queue = 256;     // requests that wait for a place; one more is refused with queue_full
  int32_t max_batch_tokens = 512;
  std::optional<KvType> kv_type_k;  // absent: f32 on the reference device, else f16
  std::optional<KvType> kv_type_v;
};

struct RequestSpec {
  std::vector<int32_t> prompt;  // token ids, at least one
  SamplingParams sampling;
  int32_t max_tokens = -1;           // -1: until the context is full; 0: compute the prompt, draw nothing
  std::vector<std::string> stop;     // byte strings; the text ends before the first one that appears
  std::vector<int32_t> stop_tokens;  // tokens that end the text and are not part of it
  int32_t top_logprobs = -1;         // -1: no log-probabilities; n ≥ 0: the token's and the n best
  // Evaluate the prompt instead of generating: one event per chunk of prompt with log-probabilities of the
  // whole vocabulary (`rows`) and of each next token. The following chunk waits for `acknowledge`.
  bool evaluate = false;
  bool evaluate_rows = false;              // deliver `rows`, not the next tokens' log-probabilities alone
  std::shared_ptr<const Adapter> adapter;  // of the engine's model; null: the model as it is
  float adapter_scale = 1;                 // finite
};

enum class FinishReason : uint8_t { none, stop, length, cancelled, error };

struct Usage {
  int32_t prompt_tokens = 0;           // of the request
  int32_t computed_prompt_tokens = 0;  // fewer where it ended before
  int32_t completion_tokens = 0;
  double queue_ms = 0;   // from submit to the first step that carries the request
  double prompt_ms = 0;  // from then to the first token
  double decode_ms = 0;  // from the first token to the last
};

// What one request got in one step.
struct Event {
  uint64_t request = 0;
  std::vector<int32_t> tokens;    // drawn in this step, without stop tokens
  std::string text;               // bytes released; may lag behind the tokens, may end inside a character
  std::vector<Sampled> logprobs;  // one per token, where asked for
  // evaluate: a chunk of n prompt tokens from index `first` on. token_logprobs[i] is the log-probability of
  // prompt token first + i + 1 given those before it; the last chunk has n - 1, as nothing follows its last
  // token.
  int32_t first = 0;
  std::vector<float> token_logprobs;
  std::vector<float> rows;  // [n, vocabulary], where asked for; row i is for the token after first + i
  FinishReason finish = FinishReason::none;  // not none: the request's last event
  std::optional<std::string> stop;           // the stop string that ended it, if one did
  Usage usage;                               // complete in the last event
  std::optional<Error> error;                // finish == error
};

// Receives events on the engine's thread; must not block for long, must not throw.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_events(std::vector<Event>&& events) = 0;
};

struct EngineInfo {
  int32_t context_length;
  int32_t max_concurrent;
  int32_t max_queue;
  int32_t max_batch_tokens;
  KvType kv_type_k, kv_type_v;
  uint64_t kv_bytes;  // reserved for the cache; pages are touched as tokens arrive
  uint64_t activation_bytes;
};

class Engine {
 public:
  // Takes the model and starts its thread. The sink must outlive the engine. Errors: invalid_argument,
  // out_of_memory.
  static std::unique_ptr<Engine> create(std::shared_ptr<Model> model, Vocabulary vocabulary,
                                        const EngineOptions& options, EventSink& sink);
  // Waits for the step in progress, cancels all requests, whose last events come before it returns, and ends
  // the thread.
  virtual ~Engine() = default;

  // Checks and queues a request; its events carry the id returned. Errors: invalid_argument,
  // token_out_of_range, context_overflow, queue_full.
  virtual uint64_t submit(RequestSpec spec) = 0;
  // Ends a request within a step (finish == cancelled). Unknown ids are ignored: it may just have ended.
  virtual void cancel(uint64_t request) = 0;
  // The receiver has taken an evaluate event; the next chunk may be computed.
  virtual void acknowledge(uint64_t request) = 0;
  virtual EngineInfo info() const = 0;
  // Never changes; of any thread.
  virtual const Vocabulary& vocabulary() const = 0;
};

}  // namespace inhouse
