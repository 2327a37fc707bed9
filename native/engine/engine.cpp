#include "native/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "kernels/reference.h"
#include "native/core/thread_pool.h"
#include "native/engine/embedding.h"
#include "native/engine/engine_options.h"
#include "native/engine/mask_thread.h"
#include "native/engine/request_check.h"
#include "native/engine/scheduler.h"
#include "native/model/forward.h"

namespace inhouse {
namespace {

// Whether a greedy draw gives the token: of equal logits the lowest id counts.
bool is_highest(std::span<const float> logits, int32_t token) {
  const float own = logits[size_t(token)];
  int64_t higher = 0;
  for (size_t i = 0; i < size_t(token); ++i) higher += logits[i] >= own;
  for (size_t i = size_t(token) + 1; i < logits.size(); ++i) higher += logits[i] > own;
  return higher == 0;
}

class EngineThread final : public Engine {
 public:
  EngineThread(std::shared_ptr<Model> model, Vocabulary vocabulary, const EngineOptions& options,
               EventSink& sink)
      : model_(std::move(model)),
        vocabulary_(std::move(vocabulary)),
        options_(resolve(options, *model_)),
        sink_(sink),
        cache_(*model_, *options_.kv_type_k, *options_.kv_type_v, sizes_of(options_)),
        forward_(*model_, step_tokens(options_), output_rows(options_)),
        scheduler_(cache_, options_, sizes_of(options_), vocabulary_.size()),
        embeddings_(scheduler_, model_->hyper().vocabulary, model_->hyper().width,
                    options_.max_batch_tokens) {
    note_state();
    thread_ = std::thread([this] { loop(); });
  }

  ~EngineThread() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  uint64_t submit(RequestSpec spec) override {
    const int32_t max_tokens = check(spec, options_.context_length, model_);
    auto sequence = std::make_unique<Sequence>(std::move(spec), model_->hyper().vocabulary);
    sequence->max_tokens = max_tokens;
    const std::lock_guard lock(mutex_);
    // Those that wait for their reader are in nobody's way, up to where they take memory.
    const int32_t paused = std::min(stats_.paused, open_requests_);
    check_queue(open_requests_ - paused, "requests run or wait");
    if (paused >= options_.max_paused)
      refuse(paused, "requests wait for their readers", "read their answers");
    const uint64_t id = next_id_++;
    sequence->id = id;
    sequence->scope = scope_of(sequence->spec, id);
    inbox_.push_back(std::move(sequence));
    return arrived(id, open_requests_);
  }

  uint64_t embed(EmbedSpec spec) override {
    check(spec, options_.context_length, model_);
    // Hidden states of all tokens are wanted: no prefix can come from the cache, nor need it stay there.
    if (spec.pooling != Pooling::last) spec.share_prefix = false;
    std::list<EmbedCall> call(1);
    call.front().spec = std::move(spec);
    call.front().submitted = Clock::now();
    const std::lock_guard lock(mutex_);
    check_queue(open_calls_, "calls of embed run or wait");
    const uint64_t id = next_id_++;
    call.front().id = id;
    call.front().scope = scope_of(call.front().spec, id);
    embed_inbox_.splice(embed_inbox_.end(), call);
    return arrived(id, open_calls_);
  }

  void cancel(uint64_t request) override { post(Order::cancel, request); }
  void acknowledge(uint64_t request) override { post(Order::acknowledge, request); }
  void provide(uint64_t request, std::vector<float> logits) override {
    if (logits.size() != size_t(model_->hyper().vocabulary))
      throw Error(Code::invalid_argument, std::to_string(logits.size()) +
                                              " logits; expected one per token, " +
                                              std::to_string(model_->hyper().vocabulary));
    post(Order::provide, request, std::move(logits));
  }
  void pause(uint64_t request) override { post(Order::pause, request); }
  void resume(uint64_t request) override { post(Order::resume, request); }
  void forget(std::string scope) override { post(Order::forget, 0, {}, std::move(scope)); }

  void between_steps(const std::function<void(KvCache&)>& work) override {
    Call call{&work, false, {}};
    std::unique_lock lock(mutex_);
    if (over_) throw Error(Code::disposed, "the engine has ended");
    calls_.push_back(&call);
    wake_.notify_one();
    called_.wait(lock, [&] { return call.done; });
    if (call.error) throw *call.error;
  }
  const Model& model() const override { return *model_; }

  const Vocabulary& vocabulary() const override { return vocabulary_; }

  EngineInfo info() const override {
    const Draft* const draft = scheduler_.draft();
    return {options_.context_length,
            options_.max_concurrent,
            options_.max_queue,
            options_.max_batch_tokens,
            int32_t(options_.kv_tokens),
            *options_.kv_type_k,
            *options_.kv_type_v,
            cache_.bytes() + (draft ? draft->cache_bytes() : 0),
            forward_.bytes() + (draft ? draft->activation_bytes() : 0)};
  }

  EngineStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  // What callers post about a request.
  enum class Order : uint8_t { cancel, acknowledge, provide, pause, resume, forget };
  struct Mail {
    Order order;
    uint64_t request;
    std::vector<float> logits;
    std::string scope;
  };

  // Work that a caller waits for.
  struct Call {
    const std::function<void(KvCache&)>* work;
    bool done;
    std::optional<Error> error;
  };

  // Scopes that callers name never meet those of requests that share with none.
  template <class Spec>
  static std::string scope_of(const Spec& spec, uint64_t id) {
    return spec.share_prefix ? shared_scope(spec.cache_scope, spec.adapter.get(), spec.adapter_scale)
                             : "request " + std::to_string(id);
  }

  // With the lock.
  void check_queue(int32_t count, const char* what) {
    if (count < options_.max_queue + options_.max_concurrent) return;
    refuse(count, what, "raise maxQueue");
  }

  // With the lock.
  [[noreturn]] void refuse(int32_t count, const char* what, const char* remedy) {
    ++stats_.refused;
    throw Error(Code::queue_full, std::to_string(count) + " " + what + " already; " + remedy +
                                      ", or try again when some have ended");
  }

  uint64_t arrived(uint64_t id, int32_t& open) {
    ++open;
    ++stats_.requests;
    wake_.notify_one();
    return id;
  }

  void post(Order order, uint64_t request, std::vector<float> logits = {}, std::string scope = {}) {
    const std::lock_guard lock(mutex_);
    mail_.push_back({order, request, std::move(logits), std::move(scope)});
    wake_.notify_one();
  }

  void loop() noexcept {
    bool idle = false;
    while (take_mail(idle)) {
      events_.clear();
      bool worked = false;
      try {
        for (Mail& mail : mail_now_) obey(mail);
        answer_calls(false);
        end_overdue();
        embeddings_.feed(next_id_);
        worked = scheduler_.plan() && step();
      } catch (...) {
        end_all(FinishReason::error, describe_current_exception());
      }
      idle = !worked;
      note_state();
      if (!events_.empty()) sink_.on_events(std::move(events_));
    }
    answer_calls(true);
    events_.clear();
    end_all(FinishReason::cancelled);
    if (!events_.empty()) sink_.on_events(std::move(events_));
  }

  // Moves what callers posted to this thread's side; waits for more where there is nothing to compute. False
  // once the engine is to end.
  bool take_mail(bool idle) {
    std::unique_lock lock(mutex_);
    const auto ready = [&] {
      return stop_ || !inbox_.empty() || !embed_inbox_.empty() || !mail_.empty() || !calls_.empty();
    };
    if (idle && next_deadline_ == Clock::time_point::max()) wake_.wait(lock, ready);
    if (idle && next_deadline_ != Clock::time_point::max()) wake_.wait_until(lock, next_deadline_, ready);
    scheduler_.add(inbox_);
    embeddings_.add(embed_inbox_);
    mail_now_.clear();
    mail_now_.swap(mail_);
    return !stop_;
  }

  // Does what callers wait for, the longest waiting first, or at the end refuses it. A call lives until it is
  // done. However many callers come back at once, requests wait for kSliceTime and one call's work at most.
  void answer_calls(bool over) noexcept {
    const Clock::time_point end = Clock::now() + kSliceTime;
    std::unique_lock lock(mutex_);
    over_ = over;
    for (bool goes_on = true; goes_on && !calls_.empty(); goes_on = over || Clock::now() < end) {
      Call& call = *calls_.front();
      calls_.pop_front();
      lock.unlock();
      std::optional<Error> error;
      try {
        if (over) throw Error(Code::disposed, "the engine has ended");
        (*call.work)(cache_);
      } catch (...) {
        error = describe_current_exception();
      }
      note_state();  // who has called finds what it did in `stats`
      lock.lock();
      call.error = std::move(error);
      call.done = true;
      called_.notify_all();
    }
  }

  void obey(Mail& mail) {
    switch (mail.order) {
      case Order::cancel:
        return end(mail.request, FinishReason::cancelled);
      case Order::acknowledge:
        if (Sequence* sequence = scheduler_.find(mail.request); sequence && sequence->spec.evaluate)
          sequence->awaits = false;
        return;
      case Order::provide:
        if (Sequence* sequence = scheduler_.find(mail.request);
            sequence && sequence->awaits && sequence->spec.process_logits)
          guarded(*sequence, [&] {
            sequence->awaits = false;
            draw(*sequence, mail.logits);
          });
        return;
      case Order::pause:
        return scheduler_.pause(mail.request);
      case Order::resume:
        return scheduler_.resume(mail.request);
      case Order::forget:
        return scheduler_.forget(mail.scope);
    }
  }

  // Ends the requests whose time is over, and finds out when the next one's is.
  void end_overdue() {
    const Clock::time_point now = Clock::now();
    next_deadline_ = Clock::time_point::max();
    overdue_.clear();
    const auto look = [&](const auto& request, bool seen) {
      const auto check = [&](double ms, const char* what) {
        if (ms <= 0 || ms > 1e12) return;
        const auto deadline = request.submitted + std::chrono::microseconds(int64_t(ms * 1000));
        if (deadline > now) {
          next_deadline_ = std::min(next_deadline_, deadline);
        } else if (overdue_.empty() || overdue_.back().first != request.id) {
          overdue_.emplace_back(request.id, what);
        }
      };
      check(request.spec.timeout_ms, "the request was not done within its timeoutMs");
      if (!seen) check(request.spec.queue_timeout_ms, "the request got no place within its queueTimeoutMs");
    };
    scheduler_.each([&](const Sequence& sequence) { look(sequence, sequence.seen); });
    embeddings_.each([&](const EmbedCall& call) { look(call, call.started != Clock::time_point()); });
    for (const auto& [id, what] : overdue_) end(id, FinishReason::error, Error(Code::timeout, what));
  }

  void note_state() {
    const KvCache::Usage kv = cache_.usage();
    const std::lock_guard lock(mutex_);
    stats_.running = scheduler_.running();
    stats_.waiting = scheduler_.waiting() + int32_t(inbox_.size());
    stats_.paused = scheduler_.paused();
    stats_.set_aside = uint64_t(scheduler_.set_aside());
    stats_.kv_blocks = kv.total_blocks;
    stats_.kv_held = kv.held_blocks;
    stats_.kv_idle = kv.idle_blocks;
  }

  // Computes the planned step and hands out its results.
  bool step() {
    Backend& ops = model_->backend();
    ops.begin_step();
    struct EndStep {
      Backend& ops;
      ~EndStep() { ops.end_step(); }
    } end_step{ops};
    const Clock::time_point start = Clock::now();
    constrained_.clear();
    for (const Work& w : scheduler_.work())
      if (w.outputs > 0 && w.sequence->spec.constraint) constrained_.push_back(w.sequence);
    {
      const MaskThread::Filling filling(masks_, constrained_, model_->hyper().vocabulary);
      if (!forward_.run(scheduler_.batch(), cache_.pools(), stop_)) return true;
    }
    model_->check_file();
    // Rows of logits are computed for several sequences at once, up to what the buffer holds.
    const std::vector<Work>& work = scheduler_.work();
    for (const Work& w : work) {
      computed(*w.sequence, w.count - w.guesses);
      if (w.sequence->text) embeddings_.carried(*w.sequence);
    }
    size_t from = 0;
    while (from < work.size()) {
      size_t to = from + 1;
      int32_t rows = work[from].outputs;
      if (delivers(work[from])) {
        guarded(*work[from].sequence, [&] {
          if (work[from].sequence->text) return pooled(work[from]);
          evaluated(work[from]);
        });
      } else {
        const auto joins = [&](const Work& w) {
          return !delivers(w) && rows + w.outputs <= forward_.max_outputs();
        };
        while (to < work.size() && joins(work[to])) rows += work[to++].outputs;
        hand_out(std::span(work).subspan(from, to - from), rows);
      }
      from = to;
    }
    const size_t before = events_.size();
    embeddings_.flush(events_);
    note_ended(before);
    const double ms = milliseconds(start, Clock::now());
    scheduler_.took(ms * 1e-3);
    const std::lock_guard lock(mutex_);
    ++stats_.steps;
    stats_.rows += scheduler_.batch().tokens.size();
    stats_.step.add(ms);
    stats_.batch.add(double(scheduler_.batch().tokens.size()));
    return true;
  }

  // Whether log-probabilities or hidden states of the work's own tokens are wanted.
  static bool delivers(const Work& w) { return w.sequence->logits_from < w.first + w.count; }

  // K and V of so many more of its tokens are in the cache now.
  void computed(Sequence& sequence, int32_t count) {
    sequence.computed += count;
    sequence.most_computed = std::max(sequence.most_computed, sequence.computed);
    cache_.commit(sequence.cache, sequence.tokens, sequence.computed);
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
      guarded(*w.sequence, [&] {
        if (w.sequence->spec.process_logits)
          return ask(*w.sequence, logits.subspan(row * vocabulary, vocabulary));
        draw_all(w, logits.subspan(row * vocabulary, size_t(w.outputs) * vocabulary));
      });
    }
  }

  // Draws the next token and, as long as a guess turns out to be what was drawn, the one after it: a row of
  // logits counts exactly where the sequence would have come to it by itself.
  void draw_all(const Work& w, std::span<const float> logits) {
    Sequence& sequence = *w.sequence;
    const auto vocabulary = size_t(model_->hyper().vocabulary);
    sequence.guessed += w.guesses;
    for (int32_t i = 0;; ++i) {
      if (i > 0 && sequence.spec.constraint) MaskThread::fill(sequence, int32_t(vocabulary));
      const bool goes_on = draw(sequence, logits.subspan(size_t(i) * vocabulary, vocabulary), i > 0);
      if (!goes_on || i == w.guesses || sequence.tokens.back() != sequence.guesses[size_t(i)]) return;
      ++sequence.held;
      computed(sequence, 1);
    }
  }

  // What goes wrong with one request ends that request alone.
  template <class F>
  void guarded(const Sequence& sequence, F f) {
    const uint64_t id = sequence.id;
    try {
      f();
    } catch (...) {
      Sequence* failed = scheduler_.find(id);
      if (failed && failed->text) return embeddings_.fail(*failed, describe_current_exception());
      end(id, FinishReason::error, describe_current_exception());
    }
  }

  // A prompt chunk that asked for no logits: the end of a request that draws nothing, or just a chunk.
  void prompt_progress(Sequence& sequence) {
    if (sequence.left() > 0) return;
    sequence.first_token = Clock::now();
    end(sequence.id, FinishReason::length);
  }

  // Delivers the logits of the next token, which is drawn from what they become.
  void ask(Sequence& sequence, std::span<const float> logits) {
    Event& event = events_.emplace_back();
    event.request = sequence.id;
    event.rows.assign(logits.begin(), logits.end());
    sequence.awaits = true;
  }

  // False where the sequence has ended, or was changed so that it must be computed anew. `again`: not the
  // first token of this step.
  bool draw(Sequence& sequence, std::span<const float> logits, bool again = false) {
    const RequestSpec& spec = sequence.spec;
    const auto is_stop = [&](int32_t token) {
      return std::find(spec.stop_tokens.begin(), spec.stop_tokens.end(), token) != spec.stop_tokens.end();
    };
    Restriction restriction;
    if (size_t(sequence.drawn) < spec.forced.size()) restriction.forced = spec.forced[size_t(sequence.drawn)];
    if (sequence.drawn < spec.min_tokens) restriction.banned = spec.stop_tokens;
    if (spec.constraint) {
      if (sequence.mask_error) throw *sequence.mask_error;
      restriction.allowed = sequence.mask;
    }
    Sampled sampled = sequence.sampler.sample(logits, sequence.prompt_tokens + sequence.drawn, restriction);
    if (!again) note_token(sequence);
    const int32_t token = sampled.token;
    const auto ends = [&](FinishReason reason) {
      end(sequence.id, reason);
      return false;
    };
    if (is_stop(token) && restriction.forced < 0) return ends(FinishReason::stop);

    sequence.sampler.accept(token);
    if (spec.constraint) spec.constraint->accept(token);
    sequence.tokens.push_back(token);
    ++sequence.drawn;
    Event& event = again ? events_.back() : events_.emplace_back();
    event.request = sequence.id;
    event.tokens.push_back(token);
    if (spec.top_logprobs >= 0) event.logprobs.push_back(std::move(sampled));
    if (sequence.stop_matcher.feed(bytes_of(token), event.text)) return ends(FinishReason::stop);
    if (sequence.drawn >= sequence.max_tokens) return ends(FinishReason::length);
    if (spec.shift_keep < 0 || sequence.size() < options_.context_length) return true;
    scheduler_.drop(sequence, spec.shift_keep, (sequence.size() - spec.shift_keep) / 2);
    return false;
  }

  // Times of a token that has come.
  void note_token(Sequence& sequence) {
    const Clock::time_point now = Clock::now();
    const bool first = sequence.drawn == 0;
    if (first) sequence.first_token = now;
    {
      const std::lock_guard lock(mutex_);
      (first ? stats_.first_token : stats_.between_tokens)
          .add(milliseconds(first ? sequence.submitted : sequence.last_token, now));
    }
    sequence.last_token = now;
  }

  std::string_view bytes_of(int32_t token) const {
    if (token >= vocabulary_.size()) return {};
    const uint32_t begin = vocabulary_.offsets[size_t(token)], end = vocabulary_.offsets[size_t(token) + 1];
    return {reinterpret_cast<const char*>(vocabulary_.bytes.data()) + begin, end - begin};
  }

  // A chunk of a text that is embedded.
  void pooled(const Work& work) {
    const int32_t first = std::max(work.first, work.sequence->logits_from);
    embeddings_.pool(*work.sequence, forward_.hidden(work.first_output, work.first + work.count - first));
  }

  // Log-probabilities of a chunk's own tokens, of a prompt that is evaluated or that an answer follows.
  void evaluated(const Work& work) {
    Sequence& sequence = *work.sequence;
    const auto vocabulary = int64_t(model_->hyper().vocabulary);
    Event& event = events_.emplace_back();
    event.request = sequence.id;
    event.first = std::max(work.first, sequence.logits_from);
    const int32_t end_of_chunk = work.first + work.count;
    std::vector<float> row(static_cast<size_t>(vocabulary));
    for (int32_t at = event.first; at < end_of_chunk; at += forward_.max_outputs()) {
      const int32_t count = std::min(forward_.max_outputs(), end_of_chunk - at);
      const std::span<const float> logits = forward_.logits(work.first_output + at - event.first, count);
      for (int32_t i = 0; i < count; ++i) {
        const auto own = logits.subspan(size_t(i * vocabulary), size_t(vocabulary));
        std::copy(own.begin(), own.end(), row.begin());
        kernels::reference::log_softmax(row.data(), vocabulary);
        // One NaN among the logits makes every log-probability NaN.
        if (std::isnan(row[0])) throw Error(Code::numeric, "the model's logits are not numbers");
        const int32_t next = at + i + 1;
        if (next < sequence.prompt_tokens) {
          const int32_t token = sequence.tokens[size_t(next)];
          event.token_logprobs.push_back(row[size_t(token)]);
          if (sequence.spec.evaluate_greedy) event.greedy.push_back(is_highest(own, token));
        }
        if (sequence.spec.evaluate_rows) event.rows.insert(event.rows.end(), row.begin(), row.end());
        if (next == sequence.size() && sequence.draws()) {
          sequence.logits_from = INT32_MAX;
          if (sequence.spec.process_logits) return ask(sequence, own);
          draw(sequence, own);
          return;
        }
      }
    }
    sequence.logits_from = end_of_chunk;
    sequence.awaits = sequence.spec.evaluate;
    if (sequence.left() > 0) return;
    sequence.first_token = Clock::now();
    end(sequence.id, sequence.spec.evaluate ? FinishReason::stop : FinishReason::length);
  }

  // Takes a request out and completes its last event, which is this step's if it has one already.
  void end(uint64_t id, FinishReason reason, std::optional<Error> error = {}) {
    const std::unique_ptr<Sequence> sequence = scheduler_.remove(id);
    if (sequence) return finish(*sequence, reason, std::move(error));
    const size_t before = events_.size();
    embeddings_.end(id, reason, std::move(error), events_);
    note_ended(before);
  }

  // Takes note of calls of `embed` whose last events are among those from `first` on.
  void note_ended(size_t first) {
    for (size_t i = first; i < events_.size(); ++i) {
      const Event& event = events_[i];
      if (event.finish == FinishReason::none) continue;
      count_ended(event.finish, event.usage, open_calls_);
    }
  }

  void count_ended(FinishReason reason, const Usage& usage, int32_t& open) {
    const std::lock_guard lock(mutex_);
    --open;
    stats_.count(reason, usage);
  }

  void finish(Sequence& sequence, FinishReason reason, std::optional<Error> error) {
    const Usage usage = usage_of(sequence);
    count_ended(reason, usage, open_requests_);
    const bool continues = !events_.empty() && events_.back().request == sequence.id;
    Event& event = continues ? events_.back() : events_.emplace_back();
    event.request = sequence.id;
    event.finish = reason;
    event.usage = usage;
    event.error = std::move(error);
    if (const std::string* stop = sequence.stop_matcher.matched()) {
      event.stop = *stop;
    } else {
      sequence.stop_matcher.flush(event.text);
    }
  }

  void end_all(FinishReason reason, const std::optional<Error>& error = {}) noexcept {
    for (auto& sequence : scheduler_.remove_all()) {
      if (sequence->text) continue;
      try {
        finish(*sequence, reason, error);
      } catch (...) {
        // Not even memory for the event: its reader learns of the end when the engine does.
      }
    }
    const size_t before = events_.size();
    embeddings_.end_all(reason, error, events_);
    note_ended(before);
  }

  std::shared_ptr<Model> model_;
  const Vocabulary vocabulary_;
  EngineOptions options_;
  EventSink& sink_;
  KvCache cache_;
  ForwardPass forward_;
  Scheduler scheduler_;
  Embeddings embeddings_;

  mutable std::mutex mutex_;  // guards what callers and the thread share:
  std::condition_variable wake_;
  SequenceList inbox_;
  std::list<EmbedCall> embed_inbox_;
  std::vector<Mail> mail_;
  std::deque<Call*> calls_;
  std::condition_variable called_;
  bool over_ = false;  // no call is taken any more
  EngineStats stats_;
  std::atomic<uint64_t> next_id_{1};
  int32_t open_requests_ = 0, open_calls_ = 0;  // of `submit` and `embed`, not yet ended
  std::atomic<bool> stop_{false};

  // The thread's own.
  MaskThread masks_;
  std::vector<Sequence*> constrained_;
  std::vector<Mail> mail_now_;
  std::vector<std::pair<uint64_t, const char*>> overdue_;
  Clock::time_point next_deadline_ = Clock::time_point::max();
  std::vector<Event> events_;
  std::thread thread_;
};

}  // namespace

std::string shared_scope(const std::string& cache_scope, const Adapter* adapter, float adapter_scale) {
  if (!adapter) return "shared " + cache_scope;
  return "adapter " + std::to_string(adapter->id()) + " " +
         std::to_string(std::bit_cast<uint32_t>(adapter_scale)) + " " + cache_scope;
}

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
