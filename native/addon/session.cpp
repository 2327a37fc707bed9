#include "native/addon/session.h"

#include <algorithm>
#include <cstring>

#include "native/addon/arguments.h"
#include "native/addon/environment.h"
#include "native/engine/breakers.h"

namespace inhouse::addon {
namespace {

// Lists of DRY breakers whose tokens are kept for the next request; most programs use one.
constexpr size_t kKeptBreakers = 8;

bool is_evaluate(const Event& event) {
  return !event.token_logprobs.empty() || !event.rows.empty();
}

// Appends a later event of the same request.
void merge(Event& into, Event&& later) {
  into.tokens.insert(into.tokens.end(), later.tokens.begin(), later.tokens.end());
  into.text += later.text;
  std::move(later.logprobs.begin(), later.logprobs.end(), std::back_inserter(into.logprobs));
  into.texts.insert(into.texts.end(), later.texts.begin(), later.texts.end());
  into.vectors.insert(into.vectors.end(), later.vectors.begin(), later.vectors.end());
  into.finish = later.finish;
  into.stop = std::move(later.stop);
  into.usage = later.usage;
  into.error = std::move(later.error);
}

const char* finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  return "none";
}

Napi::Value usage_value(Napi::Env env, const Usage& usage) {
  auto object = Napi::Object::New(env);
  object.Set("promptTokens", Napi::Number::New(env, usage.prompt_tokens));
  object.Set("cachedTokens", Napi::Number::New(env, usage.cached_tokens));
  object.Set("droppedTokens", Napi::Number::New(env, usage.dropped_tokens));
  object.Set("computedPromptTokens", Napi::Number::New(env, usage.computed_prompt_tokens));
  object.Set("completionTokens", Napi::Number::New(env, usage.completion_tokens));
  object.Set("draftTokens", Napi::Number::New(env, usage.draft_tokens));
  object.Set("acceptedDraftTokens", Napi::Number::New(env, usage.accepted_draft_tokens));
  object.Set("queueMs", Napi::Number::New(env, usage.queue_ms));
  object.Set("promptMs", Napi::Number::New(env, usage.prompt_ms));
  object.Set("decodeMs", Napi::Number::New(env, usage.decode_ms));
  return object;
}

// [{token, logprob, top: [{token, logprob}]}]
Napi::Value logprobs_value(Napi::Env env, const std::vector<Sampled>& logprobs) {
  auto list = Napi::Array::New(env, logprobs.size());
  const auto pair = [env](int32_t token, float logprob) {
    auto object = Napi::Object::New(env);
    object.Set("token", Napi::Number::New(env, token));
    object.Set("logprob", Napi::Number::New(env, double(logprob)));
    return object;
  };
  for (uint32_t i = 0; i < logprobs.size(); ++i) {
    auto object = pair(logprobs[i].token, logprobs[i].logprob);
    auto top = Napi::Array::New(env, logprobs[i].top.size());
    for (uint32_t k = 0; k < logprobs[i].top.size(); ++k)
      top[k] = pair(logprobs[i].top[k].token, logprobs[i].top[k].logprob);
    object.Set("top", top);
    list[i] = object;
  }
  return list;
}

}  // namespace

void Session::start(std::shared_ptr<Model> model, Vocabulary vocabulary, const EngineOptions& options) {
  const std::weak_ptr<const Model> seen = model;
  std::shared_ptr<Engine> engine = Engine::create(std::move(model), std::move(vocabulary), options, *this);
  std::lock_guard lock(mutex_);
  if (stopped_) throw Error(Code::disposed, "the model was disposed of");
  engine_ = std::move(engine);
  model_ = seen;
}

std::shared_ptr<Engine> Session::engine() {
  std::lock_guard lock(mutex_);
  if (!engine_) throw Error(Code::disposed, "the model was disposed of");
  return engine_;
}

std::shared_ptr<const Model> Session::model() {
  const std::shared_ptr<Engine> alive = engine();
  std::lock_guard lock(mutex_);
  return model_.lock();  // which the engine holds
}

std::shared_ptr<Engine> Session::take_engine() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  return std::move(engine_);
}

void Session::stop() noexcept {
  // The session comes along: the sink must outlive the engine.
  jobs_->retire(take_engine(), shared_from_this());
}

void Session::on_events(std::vector<Event>&& events) {
  {
    std::lock_guard lock(mutex_);
    try {
      for (Event& event : events) keep(std::move(event));
    } catch (...) {
      lost_ = true;
    }
    if (posted_ || (pending_.empty() && !lost_)) return;
    posted_ = true;
  }
  mailbox_->post(shared_from_this());
}

void Session::keep(Event&& event) {
  const bool mergeable = !is_evaluate(event);
  const uint64_t request = event.request;
  const auto found = mergeable ? merged_.find(request) : merged_.end();
  if (found != merged_.end()) return merge(pending_[found->second], std::move(event));
  pending_.push_back(std::move(event));
  if (mergeable) merged_.emplace(request, pending_.size() - 1);
}

void Session::deliver(Napi::Env env) {
  auto& environment = Environment::of(env);
  std::vector<Event> events;
  bool lost = false;
  {
    std::lock_guard lock(mutex_);
    posted_ = false;
    events.swap(pending_);
    merged_.clear();
    std::swap(lost, lost_);
  }
  auto batch = Napi::Array::New(env, events.size());
  uint32_t count = 0;
  for (Event& event : events) {
    batch[count++] = event_value(env, event);
    if (event.finish != FinishReason::none) forget(env, event.request);
  }
  // Events did not fit into memory, and nobody knows whose: every request ends with an error.
  while (lost && !open_.empty()) {
    Event event;
    event.request = open_.begin()->first;
    event.finish = FinishReason::error;
    event.error = Error(Code::out_of_memory, "out of memory");
    batch[count++] = event_value(env, event);
    open_.erase(open_.begin());
    mailbox_->release(env);
    cancel(event.request);
  }
  environment.callbacks->call(env, on_events_, {batch});
}

void Session::cancel(uint64_t request) {
  try {
    engine()->cancel(request);
  } catch (...) {  // there is no engine any more
  }
}

Napi::Value Session::event_value(Napi::Env env, Event& event) {
  auto object = Napi::Object::New(env);
  object.Set("request", Napi::Number::New(env, double(event.request)));
  object.Set("finish", Napi::String::New(env, finish_name(event.finish)));
  if (is_evaluate(event)) {
    object.Set("first", Napi::Number::New(env, event.first));
    object.Set("tokenLogprobs", float32_array(env, event.token_logprobs.data(), event.token_logprobs.size()));
    object.Set("rowCount",
               Napi::Number::New(env, double(event.rows.size() / size_t(std::max(vocabulary_, 1)))));
    if (!event.rows.empty()) rows_[event.request] = std::move(event.rows);
    if (!event.greedy.empty())
      object.Set("greedy", uint8_array(env, event.greedy.data(), event.greedy.size()));
  }
  if (!event.texts.empty()) {
    object.Set("texts", numbers(env, event.texts));
    object.Set("vectors", float32_array(env, event.vectors.data(), event.vectors.size()));
  }
  if (!event.tokens.empty()) object.Set("tokens", numbers(env, event.tokens));
  if (!event.text.empty()) object.Set("text", uint8_array(env, event.text.data(), event.text.size()));
  if (!event.logprobs.empty()) object.Set("logprobs", logprobs_value(env, event.logprobs));
  if (event.finish != FinishReason::none) object.Set("usage", usage_value(env, event.usage));
  if (event.stop) object.Set("stop", Napi::String::New(env, *event.stop));
  if (event.error) object.Set("error", error_value(env, *event.error));
  return object;
}

void Session::opened(Napi::Env env, uint64_t request) {
  if (open_.emplace(request, true).second) mailbox_->hold(env);
}

void Session::forget(Napi::Env env, uint64_t request) {
  paused(env, request);
  open_.erase(request);
}

void Session::paused(Napi::Env env, uint64_t request) {
  const auto found = open_.find(request);
  if (found != open_.end() && std::exchange(found->second, false)) mailbox_->release(env);
}

void Session::resumed(Napi::Env env, uint64_t request) {
  const auto found = open_.find(request);
  if (found != open_.end() && !std::exchange(found->second, true)) mailbox_->hold(env);
}

void Session::closed_all(Napi::Env env) {
  while (!open_.empty()) forget(env, open_.begin()->first);
  rows_.clear();
}

Napi::Value Session::rows(Napi::Env env, uint64_t request, size_t from, size_t count) {
  engine();  // throws where the model was disposed of, whose rows are gone
  const auto found = rows_.find(request);
  const size_t width = size_t(std::max(vocabulary_, 1));
  const size_t have = found == rows_.end() ? 0 : found->second.size() / width;
  if (from > have || count > have - from) throw Error(Code::invalid_argument, "rows outside the event");
  return float32_array(env, found == rows_.end() ? nullptr : found->second.data() + from * width,
                       count * width);
}

const std::vector<int32_t>& Session::tokens_containing(const std::vector<std::string>& breakers) {
  const auto same = [&](const auto& entry) { return entry.first == breakers; };
  auto found = std::find_if(breaker_tokens_.begin(), breaker_tokens_.end(), same);
  if (found == breaker_tokens_.end()) {
    auto tokens = inhouse::tokens_containing(engine()->vocabulary(), breakers);
    if (breaker_tokens_.size() == kKeptBreakers) breaker_tokens_.erase(breaker_tokens_.begin());
    found = breaker_tokens_.emplace(breaker_tokens_.end(), breakers, std::move(tokens));
  }
  return found->second;
}

void Session::drop_rows(uint64_t request) {
  rows_.erase(request);
}

}  // namespace inhouse::addon
