// The engine: one thread per model that batches the requests of all callers. Callers submit and cancel from
// any thread; results come back through one sink, one call per step for all requests together.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "native/core/error.h"
#include "native/engine/constraint.h"
#include "native/engine/sampling.h"
#include "native/engine/statistics.h"
#include "native/model/adapter.h"
#include "native/model/model.h"

namespace inhouse {

class KvCache;

// The tree of the requests that share their prefixes in `cache_scope`: what an adapter computes is for
// requests with the same one at the same scale.
std::string shared_scope(const std::string& cache_scope, const Adapter* adapter, float adapter_scale);

// The output bytes of every token, as the tokenizer defines them; control tokens have none. Used for stop
// strings and for the text of events.
struct Vocabulary {
  std::vector<uint8_t> bytes;
  std::vector<uint32_t> offsets;  // [size + 1]
  int32_t size() const { return offsets.empty() ? 0 : int32_t(offsets.size()) - 1; }
};

struct EngineOptions {
  int32_t context_length = 0;  // tokens of prompt and answer of one request; 0: the trained ones, at most
                               // 8192 and no more than memory or kv_tokens hold
  int32_t max_concurrent = 8;  // requests in the batch at once
  // Requests beyond max_concurrent that wait for a place; one more is refused with queue_full. Those that are
  // paused do not count. Calls of `embed` are counted apart, by the same measure.
  int32_t max_queue = 256;
  int32_t max_paused = 16384;  // where so many are paused, which takes memory, requests are refused as well
  int32_t max_batch_tokens = 512;
  // How many times longer a step may take for prompts beside requests that are writing; at least 1.
  double max_slowdown = 2;
  // Tokens that the cache holds for all requests together and for prefixes to come; at least a context. 0:
  // max_concurrent contexts, or as many as half of the free memory holds.
  int64_t kv_tokens = 0;
  uint64_t kv_bytes = 0;            // the same in bytes; 0: as kv_tokens says
  std::optional<KvType> kv_type_k;  // absent: f32 on the reference device, else f16
  std::optional<KvType> kv_type_v;
  // Guesses for it, up to `draft_tokens` in a step; of the same vocabulary, or null.
  std::shared_ptr<Model> draft;
  int32_t draft_tokens = 8;
  bool guess_always = false;  // for tests: all guesses that have room are tried, whatever they cost
  // For tests: appends guesses at what follows `tokens`, the first `prompt` of which are the prompt's. They
  // take the place of the engine's own.
  std::function<void(std::span<const int32_t> tokens, int32_t prompt, std::vector<int32_t>& guesses)> guesser;
};

// What guesses at a request's next tokens come from: its own text, a draft model, or what serves best.
enum class SpeculationMode : uint8_t { automatic, off, lookup, draft };

struct RequestSpec {
  std::vector<int32_t> prompt;  // token ids, at least one
  SamplingParams sampling;
  int32_t max_tokens = -1;           // -1: until the context is full; 0: compute the prompt, draw nothing
  std::vector<std::string> stop;     // byte strings; the text ends before the first one that appears
  std::vector<int32_t> stop_tokens;  // tokens that end the text and are not part of it
  int32_t min_tokens = 0;            // before which no stop token is drawn
  std::vector<int32_t> forced;       // tokens that the answer begins with
  std::shared_ptr<Constraint> constraint;  // what may come, or null; used by this request alone
  // Deliver each token's logits as `rows` of an event, and draw from what `provide` gives in their place.
  bool process_logits = false;
  int32_t top_logprobs = -1;     // -1: no log-probabilities; n ≥ 0: the token's and the n best
  bool prompt_logprobs = false;  // of the prompt's tokens, in events like those of an evaluation
  // Where the context is full: drops half of the tokens after the first `shift_keep`, computes what follows
  // them anew and goes on. -1: the answer ends.
  int32_t shift_keep = -1;
  int32_t priority = 0;         // higher ones go first
  double queue_timeout_ms = 0;  // to the first step that carries the request; 0: none
  double timeout_ms = 0;        // to its end; 0: none
  SpeculationMode speculation = SpeculationMode::automatic;  // changes the speed alone
  // Prefixes are shared with requests of the same scope alone, or with none.
  std::string cache_scope;
  bool share_prefix = true;
  // Evaluate the prompt instead of generating: one event per chunk of prompt with log-probabilities of the
  // whole vocabulary (`rows`) and of each next token. The following chunk waits for `acknowledge`.
  bool evaluate = false;
  bool evaluate_rows = false;    // deliver `rows`, not the next tokens' log-probabilities alone
  bool evaluate_greedy = false;  // tell which of the next tokens have the highest logit
  int32_t logits_from = 0;       // evaluate or prompt_logprobs: the first token whose logits are wanted
  std::shared_ptr<const Adapter> adapter;  // of the engine's model; null: the model as it is
  float adapter_scale = 1;                 // finite
};

// Texts of which a vector each is wanted: the hidden states of their tokens after the output norm, pooled.
struct EmbedSpec {
  std::vector<int32_t> tokens;      // of all texts, one after the other
  std::vector<uint32_t> ends;       // [texts] where each one's tokens end; none is empty
  Pooling pooling = Pooling::mean;  // mean, cls or last
  int32_t dimensions = 0;           // keep so many numbers of the first; 0: all
  bool normalize = true;            // to length 1, what was kept
  int32_t priority = 0;             // as a request's, and so the others:
  double queue_timeout_ms = 0;
  double timeout_ms = 0;
  std::string cache_scope;
  bool share_prefix = true;
  std::shared_ptr<const Adapter> adapter;
  float adapter_scale = 1;
};

enum class FinishReason : uint8_t { none, stop, length, cancelled, error };

struct Usage {
  int32_t prompt_tokens = 0;           // of the request
  int32_t cached_tokens = 0;           // of them, those whose K and V were there already
  int32_t computed_prompt_tokens = 0;  // the others; fewer where it ended before
  int32_t completion_tokens = 0;
  int32_t dropped_tokens = 0;         // the oldest ones, to make room in the context
  int32_t draft_tokens = 0;           // guesses that steps carried
  int32_t accepted_draft_tokens = 0;  // of them, those that were drawn; each spared a step
  double queue_ms = 0;                // from submit to the first step that carries the request
  double prompt_ms = 0;               // from then to the first token
  double decode_ms = 0;               // from the first token to the last
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
  std::vector<float> rows;      // [n, vocabulary], where asked for; row i is for the token after first + i
  std::vector<uint8_t> greedy;  // where asked for, one per token_logprobs
  // embed: texts that are done, by their index, and their vectors [texts, dimensions].
  std::vector<int32_t> texts;
  std::vector<float> vectors;
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
  int32_t kv_tokens;
  KvType kv_type_k, kv_type_v;
  uint64_t kv_bytes;  // reserved for the cache; pages are touched as tokens arrive
  uint64_t activation_bytes;
};

// How long the work of other threads may keep a step waiting; see Engine::between_steps.
constexpr std::chrono::milliseconds kSliceTime(3);

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
  // The logits [vocabulary] to draw from, after an event that delivered them.
  virtual void provide(uint64_t request, std::vector<float> logits) = 0;
  // Checks and queues texts as one request, however many they are; their vectors come in any order. Errors:
  // as submit.
  virtual uint64_t embed(EmbedSpec spec) = 0;
  // Sets a request aside until `resume`: its place and its blocks go to others meanwhile.
  virtual void pause(uint64_t request) = 0;
  virtual void resume(uint64_t request) = 0;
  // Frees the prefixes of a scope, as shared_scope names it, that no running request holds: for one that no
  // request to come will have.
  virtual void forget(std::string scope) = 0;
  // Ends a request within a step (finish == cancelled). Unknown ids are ignored: it may just have ended.
  virtual void cancel(uint64_t request) = 0;
  // The receiver has taken an evaluate event; the next chunk may be computed.
  virtual void acknowledge(uint64_t request) = 0;
  // Has `work` run on the engine's thread between two steps and returns once it has; what takes longer than
  // kSliceTime goes in slices. Throws what `work` throws, or disposed where the engine ends first. Of any
  // other thread.
  virtual void between_steps(const std::function<void(KvCache&)>& work) = 0;
  virtual const Model& model() const = 0;
  virtual EngineInfo info() const = 0;
  virtual EngineStats stats() const = 0;
  // Never changes; of any thread.
  virtual const Vocabulary& vocabulary() const = 0;
};

}  // namespace inhouse
