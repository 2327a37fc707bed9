#include "native/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "kernels/reference.h"
#include "native/core/thread_pool.h"
#include "native/engine/kv_cache.h"
#include "native/engine/scheduler.h"
#include "native/model/forward.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

constexpr int32_t kDefaultContext = 8192;
constexpr int32_t kSmallestContext = 256;  // what an automatic context never goes below
constexpr int32_t kEvaluateOutputs = 32;   // rows of logits computed at once for an evaluation

// Rows of logits computed at once.
int32_t output_rows(const EngineOptions& options) {
  return std::max(options.max_concurrent, kEvaluateOutputs);
}

std::string megabytes(uint64_t bytes) {
  return std::to_string((bytes + 999'999) / 1'000'000) + " MB";
}

double milliseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

void check_range(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return;
  throw Error(Code::invalid_argument, std::string(name) + " is " + std::to_string(value) + "; expected " +
                                          std::to_string(min) + " to " + std::to_string(max));
}

// Chooses the context where none was asked for: the trained one, at most kDefaultContext, halved until it
// fits. Refuses what cannot fit; memory that is promised and not there would end the process later.
void fit_memory(EngineOptions& options, const Model& model) {
  const bool automatic = options.context_length == 0;
  if (automatic) options.context_length = std::min(model.hyper().trained_context, kDefaultContext);
  const uint64_t available = platform::memory_info().available;
  if (available == 0) return;  // unknown
  const uint64_t activations = ForwardPass::bytes_for(model, options.max_batch_tokens, output_rows(options));
  for (;;) {
    const uint64_t cache =
        KvCache::bytes_for(model, *options.kv_type_k, *options.kv_type_v, options.max_concurrent,
                           options.context_length, options.max_batch_tokens);
    if (cache <= available && activations <= available - cache) return;
    if (!automatic || options.context_length <= kSmallestContext) {
      throw Error(Code::out_of_memory, "a cache for maxConcurrent " + std::to_string(options.max_concurrent) +
                                           " times contextLength " + std::to_string(options.context_length) +
                                           " takes " + megabytes(cache) + " and activations for " +
                                           "maxBatchTokens " + std::to_string(options.max_batch_tokens) +
                                           " take " + megabytes(activations) + ", with " +
                                           megabytes(available) +
                                           " available; lower one of these options, or choose kvType q8_0");
    }
    options.context_length = std::max(kSmallestContext, options.context_length / 2);
  }
}

EngineOptions resolve(EngineOptions options, const Model& model) {
  check_range("contextLength", options.context_length, 0, 1 << 24);
  check_range("maxConcurrent", options.max_concurrent, 1, 4096);
  check_range("maxQueue", options.max_queue, 0, 1 << 20);
  check_range("maxBatchTokens", options.max_batch_tokens, options.max_concurrent, 1 << 16);
  const KvType natural = std::string(model.backend().name()) == "reference" ? KvType::f32 : KvType::f16;
  if (!options.kv_type_k) options.kv_type_k = natural;
  if (!options.kv_type_v) options.kv_type_v = natural;
  fit_memory(options, model);
  return options;
}

class EngineThread final : public Engine {
 public:
  EngineThread(std::shared_ptr<Model> model, Vocabulary vocabulary, const EngineOptions& options,
               EventSink& sink)
      : model_(std::move(model)),
        vocabulary_(std::move(vocabulary)),
        options_(resolve(options, *model_)),
        sink_(sink),
        cache_(*model_, *options_.kv_type_k, *options_.kv_type_v, options_.max_concurrent,
               options_.context_length, options_.max_batch_tokens),
        forward_(*model_, options_.max_batch_tokens, output_rows(options_)),
        scheduler_(cache_, options_),
        thread_([this] { loop(); }) {}

  ~EngineThread() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  uint64_t submit(RequestSpec spec) override {
    const int32_t max_tokens = check(spec);
    auto sequence = std::make_unique<Sequence>(std::move(spec), model_->hyper().vocabulary);
    sequence->max_tokens = max_tokens;
    const std::lock_guard lock(mutex_);
    if (queued_ >= options_.max_queue + options_.max_concurrent) {
      throw Error(Code::queue_full, std::to_string(queued_) +
                                        " requests run or wait already; raise maxQueue, or " +
                                        "try again when some have ended");
    }
    sequence->id = next_id_++;
    const uint64_t id = sequence->id;
    inbox_.push_back(std::move(sequence));
    ++queued_;
    wake_.notify_one();
    return id;
  }

  void cancel(uint64_t request) override { post(cancelled_, request); }
  void acknowledge(uint64_t request) override { post(acknowledged_, request); }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  EngineInfo info() const override {
    return {options_.context_length, options_.max_concurrent, options_.max_queue, options_.max_batch_tokens,
            *options_.kv_type_k,     *options_.kv_type_v,     cache_.bytes(),     forward_.bytes()};
  }

 private:
  // Returns how many tokens the request may draw.
  int32_t check(const RequestSpec& spec) const {
    const int32_t vocabulary = model_->hyper().vocabulary;
    if (spec.prompt.empty())
      throw Error(Code::invalid_argument, "the prompt has no tokens; expected at least one");
    for (size_t i = 0; i < spec.prompt.size(); ++i) {
      if (spec.prompt[i] >= 0 && spec.prompt[i] < vocabulary) continue;
      throw Error(Code::token_out_of_range, "token " + std::to_string(i) + " of the prompt is " +
                                                std::to_string(spec.prompt[i]) + "; expected 0 to " +
                                                std::to_string(vocabulary - 1));
    }
    check_range("maxTokens", spec.max_tokens, -1, INT32_MAX);
    for (const std::string& stop : spec.stop) {
      if (stop.empty()) throw Error(Code::invalid_argument, "a stop string is empty");
    }
    if (spec.adapter && !spec.adapter->belongs_to(model_))
      throw Error(Code::invalid_argument, "the adapter is of another model; expected one of this model");
    if (!std::isfinite(spec.adapter_scale))
      throw Error(Code::invalid_argument, "the adapter's scale must be a finite number");
    // The last token drawn needs no place in the cache, but counts towards the context all the same.
    const int64_t room = int64_t(options_.context_length) - int64_t(spec.prompt.size());
    const bool draws = !spec.evaluate && spec.max_tokens != 0;
    if (room < (draws ? 1 : 0)) {
      throw Error(Code::context_overflow, "the prompt has " + std::to_string(spec.prompt.size()) +
                                              " tokens, which leaves no room in the context of " +
                                              std::to_string(options_.context_length) +
                                              "; shorten it or load the model with a larger contextLength");
    }
    if (spec.evaluate) return 0;
    return int32_t(spec.max_tokens < 0 ? room : std::min<int64_t>(room, spec.max_tokens));
  }

  void post(std::vector<uint64_t>& list, uint64_t request) {
    const std::lock_guard lock(mutex_);
    list.push_back(request);
    wake_.notify_one();
  }

  void loop() noexcept {
    bool idle = false;
    while (take_mail(idle)) {
      events_.clear();
      bool worked = false;
      try {
        for (uint64_t id : cancelled_now_) end(id, FinishReason::cancelled);
        for (uint64_t id : acknowledged_now_) {
          if (Sequence* sequence = scheduler_.find(id)) sequence->awaiting_acknowledge = false;
        }
        worked = scheduler_.plan() && step();
      } catch (...) {
        end_all(FinishReason::error, describe_current_exception());
      }
      idle = !worked;
      if (!events_.empty()) sink_.on_events(std::move(events_));
    }
    events_.clear();
    end_all(FinishReason::cancelled);
    if (!events_.empty()) sink_.on_events(std::move(events_));
  }

  // Moves what callers posted to this thread's side; waits for more where there is nothing to compute. False
  // once the engine is to end.
  bool take_mail(bool idle) {
    std::unique_lock lock(mutex_);
    if (idle)
      wake_.wait(lock,
                 [&] { return stop_ || !inbox_.empty() || !cancelled_.empty() || !acknowledged_.empty(); });
    scheduler_.add(inbox_);
    cancelled_now_.clear();
    acknowledged_now_.clear();
    cancelled_now_.swap(cancelled_);
    acknowledged_now_.swap(acknowledged_);
    return !stop_;
  }

  // Computes the planned step and hands out its results.
  bool step() {
    Backend& ops = model_->backend();
    ops.begin_step();
    struct EndStep {
      Backend& ops;
      ~EndStep() { ops.end_step(); }
    } end_step{ops};
    if (!forward_.run(scheduler_.batch(), cache_.pools(), stop_)) return true;
    model_->check_file();
    // Rows of logits are computed for several sequences at once, up to what the buffer holds.
    const std::vector<Work>& work = scheduler_.work();
    for (const Work& w : work) w.sequence->computed += w.count;
    size_t from = 0;
    while (from < work.size()) {
      size_t to = from + 1;
      int32_t rows = work[from].outputs;
      const auto joins = [&](const Work& w) {
        return !w.sequence->spec.evaluate && rows + w.outputs <= forward_.max_outputs();
      };
      if (work[from].sequence->spec.evaluate) {
        guarded(work[from], [&] { evaluated(work[from]); });
      } else {
        while (to < work.size() && joins(work[to])) rows += work[to++].outputs;
        hand_out(std::span(work).subspan(from, to - from), rows);
      }
      from = to;
    }
    return true;
  }

  // Draws for those of `work` that own some of the `rows` of logits; the others read a chunk of their prompt.
  void hand_out(std::span<const Work> work, int32_t rows) {
    const auto vocabulary = size_t(model_->hyper().vocabulary);
    std::span<const float> logits;
    if (rows > 0) logits = forward_.logits(work[0].first_output, rows);
    for (const Work& w : work) {
      if (w.outputs == 0) {
        prompt_progress(*w.sequence);
        continue;
      }
      const size_t row = size_t(w.first_output - work[0].first_output);
      guarded(w, [&] { draw(*w.sequence, logits.subspan(row * vocabulary, vocabulary)); });
    }
  }

  // What goes wrong with one request ends that request alone.
  template <class F>
  void guarded(const Work& work, F f) {
    try {
      f();
    } catch (...) {
      end(work.sequence->id, FinishReason::error, describe_current_exception());
    }
  }

  // A prompt chunk that asked for no logits: the end of a request that draws nothing, or just a chunk.
  void prompt_progress(Sequence& sequence) {
    if (sequence.in_prompt()) return;
    sequence.first_token = Clock::now();
    end(sequence.id, FinishReason::length);
  }

  void draw(Sequence& sequence, std::span<const float> logits) {
    if (sequence.completion_tokens == 0) sequence.first_token = Clock::now();
    Sampled sampled = sequence.sampler.sample(logits, sequence.computed);
    const RequestSpec& spec = sequence.spec;
    const int32_t token = sampled.token;
    const bool stops =
        std::find(spec.stop_tokens.begin(), spec.stop_tokens.end(), token) != spec.stop_tokens.end();
    if (stops) return end(sequence.id, FinishReason::stop);

    sequence.sampler.accept(token);
    sequence.next_token = token;
    ++sequence.completion_tokens;
    Event& event = events_.emplace_back();
    event.request = sequence.id;
    event.tokens = {token};
    if (spec.top_logprobs >= 0) event.logprobs.push_back(std::move(sampled));
    if (sequence.stop_matcher.feed(bytes_of(token), event.text)) {
      end(sequence.id, FinishReason::stop);
    } else if (sequence.completion_tokens >= sequence.max_tokens) {
      end(sequence.id, FinishReason::length);
    }
  }

  std::string_view bytes_of(int32_t token) const {
    if (token >= vocabulary_.size()) return {};
    const uint32_t begin = vocabulary_.offsets[size_t(token)], end = vocabulary_.offsets[size_t(token) + 1];
    return {reinterpret_cast<const char*>(vocabulary_.bytes.data()) + begin, end - begin};
  }

  // Log-probabilities of a chunk of an evaluated prompt.
  void evaluated(const Work& work) {
    Sequence& sequence = *work.sequence;
    const auto vocabulary = int64_t(model_->hyper().vocabulary);
    Event& event = events_.emplace_back();
    event.request = sequence.id;
    event.first = work.first;
    std::vector<float> row(static_cast<size_t>(vocabulary));
    for (int32_t done = 0; done < work.count; done += forward_.max_outputs()) {
      const int32_t count = std::min(forward_.max_outputs(), work.count - done);
      const std::span<const float> logits = forward_.logits(work.first_output + done, count);
      for (int32_t i = 0; i < count; ++i) {
        std::copy_n(logits.data() + i * vocabulary, vocabulary, row.data());
        kernels::reference::log_softmax(row.data(), vocabulary);
        // One NaN among the logits makes every log-probability NaN.
        if (std::isnan(row[0])) throw Error(Code::numeric, "the model's logits are not numbers");
        const int32_t next = work.first + done + i + 1;
        if (next < sequence.prompt_tokens()) {
          event.token_logprobs.push_back(row[size_t(sequence.spec.prompt[size_t(next)])]);
        }
        if (sequence.spec.evaluate_rows) event.rows.insert(event.rows.end(), row.begin(), row.end());
      }
    }
    sequence.awaiting_acknowledge = true;
    if (sequence.in_prompt()) return;
    sequence.first_token = Clock::now();
    end(sequence.id, FinishReason::stop);
  }

  // Takes a request out and completes its last event, which is this step's if it has one already.
  void end(uint64_t id, FinishReason reason, std::optional<Error> error = {}) {
    const std::unique_ptr<Sequence> sequence = scheduler_.remove(id);
    if (sequence) finish(*sequence, reason, std::move(error));
  }

  void finish(Sequence& sequence, FinishReason reason, std::optional<Error> error) {
    {
      const std::lock_guard lock(mutex_);
      --queued_;
    }
    const bool continues = !events_.empty() && events_.back().request == sequence.id;
    Event& event = continues ? events_.back() : events_.emplace_back();
    event.request = sequence.id;
    event.finish = reason;
    event.error = std::move(error);
    if (const std::string* stop = sequence.stop_matcher.matched()) {
      event.stop = *stop;
    } else {
      sequence.stop_matcher.flush(event.text);
    }
    const Clock::time_point now = Clock::now();
    const bool started = sequence.started != Clock::time_point();
    const bool answered = sequence.first_token != Clock::time_point();
    Usage& usage = event.usage;
    usage.prompt_tokens = sequence.prompt_tokens();
    usage.computed_prompt_tokens = std::min(sequence.computed, sequence.prompt_tokens());
    usage.completion_tokens = sequence.completion_tokens;
    usage.queue_ms = milliseconds(sequence.submitted, started ? sequence.started : now);
    if (started) usage.prompt_ms = milliseconds(sequence.started, answered ? sequence.first_token : now);
    if (answered) usage.decode_ms = milliseconds(sequence.first_token, now);
  }

  void end_all(FinishReason reason, const std::optional<Error>& error = {}) noexcept {
    for (auto& sequence : scheduler_.remove_all()) {
      try {
        finish(*sequence, reason, error);
      } catch (...) {
        // Not even memory for the event: its reader learns of the end when the engine does.
      }
    }
  }

  std::shared_ptr<Model> model_;
  const Vocabulary vocabulary_;
  EngineOptions options_;
  EventSink& sink_;
  KvCache cache_;
  ForwardPass forward_;
  Scheduler scheduler_;

  std::mutex mutex_;  // guards what callers and the thread share:
  std::condition_variable wake_;
  SequenceList inbox_;
  std::vector<uint64_t> cancelled_, acknowledged_;
  uint64_t next_id_ = 1;
  int32_t queued_ = 0;  // requests submitted and not yet ended
  std::atomic<bool> stop_{false};

  // The thread's own.
  std::vector<uint64_t> cancelled_now_, acknowledged_now_;
  std::vector<Event> events_;
  std::thread thread_;  // last: it starts when everything else is there
};

}  // namespace

std::unique_ptr<Engine> Engine::create(std::shared_ptr<Model> model, Vocabulary vocabulary,
                                       const EngineOptions& options, EventSink& sink) {
  if (vocabulary.size() > model->hyper().vocabulary) {
    throw Error(Code::model_invalid, "the tokenizer has " + std::to_string(vocabulary.size()) +
                                         " tokens, the model only " +
                                         std::to_string(model->hyper().vocabulary));
  }
  return std::make_unique<EngineThread>(std::move(model), std::move(vocabulary), options, sink);
}

}  // namespace inhouse
