#include "native/engine/embedding.h"

#include <algorithm>
#include <cmath>

namespace inhouse {
namespace {

// The vector of a text whose hidden states are summed up.
void write_vector(const PooledText& text, const EmbedSpec& spec, std::vector<float>& out) {
  const size_t dimensions = spec.dimensions > 0 ? size_t(spec.dimensions) : text.sum.size();
  double squares = 0;
  for (size_t i = 0; i < dimensions; ++i) squares += text.sum[i] * text.sum[i];
  if (!std::isfinite(squares)) throw Error(Code::numeric, "the model's hidden states are not numbers");
  const double length = spec.normalize ? std::sqrt(squares) : double(text.rows);
  for (size_t i = 0; i < dimensions; ++i) out.push_back(float(length > 0 ? text.sum[i] / length : 0.0));
}

}  // namespace

// The call whose text comes next, or the end: of those of the highest priority each in turn.
std::list<EmbedCall>::iterator Embeddings::next_call() {
  auto best = calls_.end();
  for (auto at = calls_.begin(); at != calls_.end(); ++at) {
    if (at->next == at->spec.ends.size() || at->error) continue;
    if (best == calls_.end() || at->spec.priority > best->spec.priority) best = at;
  }
  return best;
}

void Embeddings::feed(std::atomic<uint64_t>& next_id) {
  if (calls_.empty()) return;
  std::optional<int32_t> priority;
  int64_t tokens = 0;  // of that priority and higher ones: texts of lower ones hold up nobody
  for (auto call = next_call(); call != calls_.end(); call = next_call()) {
    const EmbedSpec& spec = call->spec;
    if (priority != spec.priority) {
      priority = spec.priority;
      tokens = 0;
      for (const Sequence* sequence : active_)
        if (sequence->spec.priority >= spec.priority) tokens += sequence->left();
    }
    if (tokens >= step_tokens_) return;
    const uint32_t begin = call->next > 0 ? spec.ends[call->next - 1] : 0, end = spec.ends[call->next];
    RequestSpec request;
    // No token sees those after it, so the first one's hidden state needs no other.
    const uint32_t needed = spec.pooling == Pooling::cls ? begin + 1 : end;
    request.prompt.assign(spec.tokens.begin() + begin, spec.tokens.begin() + needed);
    request.max_tokens = 0;
    request.priority = spec.priority;
    request.share_prefix = spec.share_prefix;
    request.adapter = spec.adapter;
    request.adapter_scale = spec.adapter_scale;
    auto sequence = std::make_unique<Sequence>(std::move(request), vocabulary_);
    sequence->id = next_id++;
    sequence->scope = call->scope;
    sequence->logits_from = spec.pooling == Pooling::mean ? 0 : sequence->size() - 1;
    sequence->text = std::make_unique<PooledText>(
        PooledText{&*call, int32_t(call->next), 0, std::vector<double>(size_t(width_))});
    active_.reserve(active_.size() + 1);
    made_.push_back(std::move(sequence));
    active_.push_back(made_.back().get());
    tokens += made_.back()->size();
    scheduler_.add(made_);
    ++call->next;
    calls_.splice(calls_.end(), calls_, call);
  }
}

void Embeddings::carried(const Sequence& sequence) {
  EmbedCall& call = *sequence.text->call;
  if (call.started == Clock::time_point()) call.started = sequence.started;
}

void Embeddings::pool(Sequence& sequence, std::span<const float> rows) {
  PooledText& text = *sequence.text;
  EmbedCall& call = *text.call;
  if (call.error) return;
  for (auto row = rows.begin(); row != rows.end(); row += width_) {
    for (size_t i = 0; i < text.sum.size(); ++i) text.sum[i] += double(row[std::ptrdiff_t(i)]);
    ++text.rows;
  }
  sequence.logits_from = sequence.computed;
  if (sequence.left() > 0) return;
  write_vector(text, call.spec, call.vectors);
  call.texts.push_back(text.index);
  ++call.done;
  call.cached += sequence.cached;
  call.computed += sequence.size() - sequence.cached;
  std::erase(active_, &sequence);
  scheduler_.remove(sequence.id);
}

void Embeddings::fail(Sequence& sequence, Error error) {
  std::optional<Error>& first = sequence.text->call->error;
  if (!first) first = std::move(error);
}

void Embeddings::flush(std::vector<Event>& events) {
  for (auto at = calls_.begin(); at != calls_.end();) {
    const auto call = at++;
    if (call->error) {
      finish(call, FinishReason::error, std::move(call->error), events);
    } else if (call->done == call->spec.ends.size()) {
      finish(call, FinishReason::stop, {}, events);
    } else if (!call->texts.empty()) {
      Event& event = events.emplace_back();
      event.request = call->id;
      event.texts.swap(call->texts);
      event.vectors.swap(call->vectors);
    }
  }
}

void Embeddings::end(uint64_t id, FinishReason reason, std::optional<Error> error,
                     std::vector<Event>& events) {
  const auto call = std::find_if(calls_.begin(), calls_.end(), [id](const auto& c) { return c.id == id; });
  if (call != calls_.end()) finish(call, reason, std::move(error), events);
}

void Embeddings::end_all(FinishReason reason, const std::optional<Error>& error,
                         std::vector<Event>& events) noexcept {
  active_.clear();
  while (!calls_.empty()) {
    try {
      finish(calls_.begin(), reason, error, events);
    } catch (...) {  // no memory for the event: its reader learns of the end when the engine does
      calls_.pop_front();
    }
  }
}

void Embeddings::finish(std::list<EmbedCall>::iterator call, FinishReason reason, std::optional<Error> error,
                        std::vector<Event>& events) {
  Event& event = events.emplace_back();
  event.request = call->id;
  event.finish = reason;
  event.error = std::move(error);
  event.texts.swap(call->texts);
  event.vectors.swap(call->vectors);
  const Clock::time_point now = Clock::now();
  const auto ms = [](Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); };
  const bool started = call->started != Clock::time_point();
  event.usage.prompt_tokens = int32_t(call->spec.tokens.size());
  event.usage.cached_tokens = call->cached;
  event.usage.computed_prompt_tokens = call->computed;
  event.usage.queue_ms = ms((started ? call->started : now) - call->submitted);
  if (started) event.usage.prompt_ms = ms(now - call->started);
  for (size_t i = active_.size(); i-- > 0;) {
    if (active_[i]->text->call != &*call) continue;
    const uint64_t id = active_[i]->id;
    active_.erase(active_.begin() + std::ptrdiff_t(i));
    scheduler_.remove(id);
  }
  if (!call->spec.share_prefix) scheduler_.forget(call->scope);
  calls_.erase(call);
}

}  // namespace inhouse
