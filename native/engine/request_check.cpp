#include "native/engine/request_check.h"

#include <algorithm>
#include <cmath>

#include "native/engine/engine_options.h"

namespace inhouse {
namespace {

void check_token(const std::string& what, int32_t token, int32_t vocabulary) {
  if (token >= 0 && token < vocabulary) return;
  throw Error(Code::token_out_of_range,
              what + " is " + std::to_string(token) + "; expected 0 to " + std::to_string(vocabulary - 1));
}

template <class Spec>
void check_adapter(const Spec& spec, const std::shared_ptr<const Model>& model) {
  if (spec.adapter && !spec.adapter->belongs_to(model))
    throw Error(Code::invalid_argument, "the adapter is of another model; expected one of this model");
  if (!std::isfinite(spec.adapter_scale))
    throw Error(Code::invalid_argument, "the adapter's scale must be a finite number");
}

template <class Spec>
void check_timeouts(const Spec& spec) {
  if (!(spec.queue_timeout_ms >= 0) || !(spec.timeout_ms >= 0))
    throw Error(Code::invalid_argument, "a timeout is negative; expected milliseconds, 0 for none");
}

}  // namespace

void check(const EmbedSpec& spec, int32_t context, const std::shared_ptr<const Model>& model) {
  check_range("the number of texts", int64_t(spec.ends.size()), 1, INT32_MAX);
  check_range("the number of tokens", int64_t(spec.tokens.size()), 1, INT32_MAX);
  uint32_t begin = 0;
  for (size_t i = 0; i < spec.ends.size(); ++i) {
    const std::string text = "text " + std::to_string(i);
    const uint32_t end = spec.ends[i];
    if (end <= begin || end > spec.tokens.size())
      throw Error(Code::invalid_argument, text + " has no tokens; expected at least one");
    if (end - begin > uint32_t(context))
      throw Error(Code::context_overflow, text + " has " + std::to_string(end - begin) +
                                              " tokens, which the context of " + std::to_string(context) +
                                              " does not hold");
    for (uint32_t t = begin; t < end; ++t) {
      if (spec.tokens[t] < 0 || spec.tokens[t] >= model->hyper().vocabulary)
        check_token("token " + std::to_string(t - begin) + " of " + text, spec.tokens[t],
                    model->hyper().vocabulary);
    }
    begin = end;
  }
  if (begin != spec.tokens.size()) throw Error(Code::invalid_argument, "tokens are left after the last text");
  if (spec.pooling != Pooling::mean && spec.pooling != Pooling::cls && spec.pooling != Pooling::last)
    throw Error(Code::invalid_argument, "pooling must be mean, cls or last");
  check_range("dimensions", spec.dimensions, 0, model->hyper().width);
  check_timeouts(spec);
  check_adapter(spec, model);
}

int32_t check(const RequestSpec& spec, int32_t context, const std::shared_ptr<const Model>& model) {
  const int32_t vocabulary = model->hyper().vocabulary;
  if (spec.prompt.empty())
    throw Error(Code::invalid_argument, "the prompt has no tokens; expected at least one");
  for (size_t i = 0; i < spec.prompt.size(); ++i)
    check_token("token " + std::to_string(i) + " of the prompt", spec.prompt[i], vocabulary);
  check_range("maxTokens", spec.max_tokens, -1, INT32_MAX);
  check_range("minTokens", spec.min_tokens, 0, INT32_MAX);
  for (int32_t token : spec.forced) check_token("forcedTokens", token, vocabulary);
  for (int32_t token : spec.stop_tokens) check_range("stopTokens", token, 0, INT32_MAX);
  check_timeouts(spec);
  check_range("logitsFrom", spec.logits_from, 0, int64_t(spec.prompt.size()) - 1);
  check_range("shiftKeep", spec.shift_keep, -1, context / 2);
  for (const std::string& stop : spec.stop) {
    if (stop.empty()) throw Error(Code::invalid_argument, "a stop string is empty");
  }
  check_adapter(spec, model);
  // The last token drawn needs no place in the cache, but counts towards the context all the same.
  const int64_t room = int64_t(context) - int64_t(spec.prompt.size());
  const bool draws = !spec.evaluate && spec.max_tokens != 0;
  if (room < (draws ? 1 : 0)) {
    throw Error(Code::context_overflow, "the prompt has " + std::to_string(spec.prompt.size()) +
                                            " tokens, which leaves no room in the context of " +
                                            std::to_string(context) +
                                            "; shorten it or load the model with a larger contextLength");
  }
  if (spec.evaluate) return 0;
  if (spec.shift_keep >= 0) return spec.max_tokens < 0 ? INT32_MAX : spec.max_tokens;
  return int32_t(spec.max_tokens < 0 ? room : std::min<int64_t>(room, spec.max_tokens));
}

}  // namespace inhouse
