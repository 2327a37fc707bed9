#include "native/addon/session.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

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

// Whether it has more than tokens and text.
bool has_details(const Event& event) {
  return event.finish != FinishReason::none || !event.logprobs.empty() || !event.texts.empty() ||
         is_evaluate(event);
}

// Numbers in front of each event's tokens and bytes.
constexpr size_t kEventHead = 5;

size_t packed_size(const Event& event) {
  return kEventHead + event.tokens.size() + (event.text.size() + 3) / 4;
}

// Writes one event, with its details at place `details` or without any (0), and returns what follows it.
int32_t* pack(int32_t* at, const Event& event, uint32_t details) {
  const size_t words = (event.text.size() + 3) / 4;
  *at++ = int32_t(uint32_t(event.request));
  *at++ = int32_t(uint32_t(event.request >> 32));
  *at++ = int32_t(details);
  *at++ = int32_t(event.tokens.size());
  *at++ = int32_t(event.text.size());
  at = std::copy(event.tokens.begin(), event.tokens.end(), at);
  if (!event.text.empty()) std::memcpy(at, event.text.data(), event.text.size());
  return at + words;
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
  std::vector<Event> events;
  bool lost = false;
  {
    std::lock_guard lock(mutex_);
    posted_ = false;
    events.swap(pending_);
    merged_.clear();
    std::swap(lost, lost_);
  }
  try {
    tell(env, events, lost);
  } catch (...) {
    // JavaScript has no memory for them, or is being torn down and takes no calls: all that is lost. Every
    // request ends with an error, as soon as there is room to say so.
    {
      std::lock_guard lock(mutex_);
      lost_ = true;
      if (std::exchange(posted_, true)) return;
    }
    mailbox_->post(shared_from_this());
  }
}

// Hands events to JavaScript; where some were `lost`, nobody knows whose, every request that goes on ends
// with an error. What is thrown is thrown before JavaScript has seen any of it and before any request is
// forgotten.
void Session::tell(Napi::Env env, std::vector<Event>& events, bool lost) {
  std::unordered_set<uint64_t> ended;
  for (const Event& event : events)
    if (event.finish != FinishReason::none) ended.insert(event.request);
  for (const auto& [request, state] : open_) {
    if (!lost || ended.contains(request)) continue;
    Event& event = events.emplace_back();
    event.request = request;
    event.finish = FinishReason::error;
    event.error = Error(Code::out_of_memory, "out of memory");
  }
  // Rows that come before the end are of no use after it; the last event's own stay until they are taken.
  for (Event& event : events) {
    const bool last = event.finish != FinishReason::none;
    if (last) rows_.erase(event.request);
    const auto found = open_.find(event.request);
    const bool wanted = found != open_.end() && found->second.wanted;
    if (!wanted || (!last && ended.contains(event.request))) event.rows.clear();
  }
  size_t size = 0;
  for (const Event& event : events) size += packed_size(event);
  auto packed = Napi::Int32Array::New(env, size);
  auto details = Napi::Array::New(env);
  int32_t* at = packed.Data();
  uint32_t detailed = 0;
  for (Event& event : events) {
    const bool more = has_details(event);
    if (more) details[detailed++] = details_value(env, event);
    at = pack(at, event, more ? detailed : 0);
  }
  for (const Event& event : events) {
    if (event.finish == FinishReason::none) continue;
    forget(env, event.request);
    if (lost) cancel(event.request);  // it may go on
  }
  Environment::of(env).callbacks->call(env, on_events_, {packed, details});
}

void Session::cancel(uint64_t request) {
  try {
    engine()->cancel(request);
  } catch (...) {  // there is no engine any more
  }
}

Napi::Value Session::details_value(Napi::Env env, Event& event) {
  auto object = Napi::Object::New(env);
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
  if (!event.logprobs.empty()) object.Set("logprobs", logprobs_value(env, event.logprobs));
  if (event.finish != FinishReason::none) object.Set("usage", usage_value(env, event.usage));
  if (event.stop) object.Set("stop", Napi::String::New(env, *event.stop));
  if (event.error) object.Set("error", error_value(env, *event.error));
  return object;
}

void Session::opened(Napi::Env env, uint64_t request) {
  if (open_.try_emplace(request).second) mailbox_->hold(env);
}

void Session::forget(Napi::Env env, uint64_t request) {
  paused(env, request);
  open_.erase(request);
}

void Session::paused(Napi::Env env, uint64_t request) {
  const auto found = open_.find(request);
  if (found != open_.end() && std::exchange(found->second.holds, false)) mailbox_->release(env);
}

void Session::resumed(Napi::Env env, uint64_t request) {
  const auto found = open_.find(request);
  if (found != open_.end() && !std::exchange(found->second.holds, true)) mailbox_->hold(env);
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

void Session::unwanted(uint64_t request) {
  drop_rows(request);
  const auto found = open_.find(request);
  if (found != open_.end()) found->second.wanted = false;
}

}  // namespace inhouse::addon
