#include "native/engine/engine_options.h"

#include <algorithm>

#include "native/engine/draft.h"
#include "native/engine/speculation.h"
#include "native/model/forward.h"
#include "native/platform/platform.h"

namespace inhouse {
namespace {

constexpr int32_t kDefaultContext = 8192;
constexpr int32_t kSmallestContext = 256;  // what an automatic context never goes below
constexpr int32_t kLeastOutputs = 32;      // rows of logits computed at once
static_assert(kLeastOutputs > kMostGuesses);

// Chooses the context where none was asked for: the trained one, at most kDefaultContext and what the cache
// is to hold, halved until it fits; and how many tokens the cache holds. Refuses what cannot fit; memory that
// is promised and not there would end the process later.
void fit_memory(EngineOptions& options, const Model& model) {
  const bool automatic = options.context_length == 0;
  const bool automatic_tokens = options.kv_tokens == 0 && options.kv_bytes == 0;
  if (automatic) {
    options.context_length = std::min(model.hyper().trained_context, kDefaultContext);
    if (options.kv_tokens > 0)
      options.context_length = int32_t(std::min<int64_t>(options.context_length, options.kv_tokens));
  }
  const uint64_t known = model.backend().available_memory();
  const uint64_t available = known == 0 ? UINT64_MAX : known;
  uint64_t activations = ForwardPass::bytes_for(model, step_tokens(options), output_rows(options));
  if (options.draft) activations += Draft::activation_bytes_for(options);
  const auto cache_bytes = [&](int64_t tokens) {
    options.kv_tokens = tokens;
    const uint64_t own = KvCache::bytes_for(model, *options.kv_type_k, *options.kv_type_v, sizes_of(options));
    const uint64_t draft = options.draft ? Draft::cache_bytes_for(options, sizes_of(options)) : 0;
    return own > UINT64_MAX - draft ? UINT64_MAX : own + draft;
  };
  if (options.kv_bytes > 0) {
    int64_t tokens = 0, most = INT32_MAX;
    while (tokens < most) {
      const int64_t middle = (tokens + most + 1) / 2;
      if (cache_bytes(middle) <= options.kv_bytes) {
        tokens = middle;
      } else {
        most = middle - 1;
      }
    }
    if (tokens < options.context_length && !automatic)
      throw Error(Code::invalid_argument,
                  "kvMemory of " + megabytes(options.kv_bytes) + " holds " + std::to_string(tokens) +
                      " tokens; expected at least contextLength, " + std::to_string(options.context_length));
    options.context_length = int32_t(std::min<int64_t>(options.context_length, tokens));
    options.kv_tokens = tokens;
  }
  const int64_t wanted = options.kv_tokens;
  for (;;) {
    const int64_t least = std::max<int64_t>(options.context_length, wanted);
    const uint64_t cache = cache_bytes(least);
    if (cache <= available && activations <= available - cache) {
      if (!automatic_tokens) return;
      const int64_t context = (options.context_length + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
      int64_t tokens = std::min<int64_t>(context * options.max_concurrent, INT32_MAX);
      while (tokens > least && cache_bytes(tokens) > (available - activations) / 2) tokens = tokens / 4 * 3;
      cache_bytes(std::max(tokens, least));
      return;
    }
    if (!automatic || options.context_length <= kSmallestContext) {
      throw Error(Code::out_of_memory,
                  "a cache of " + std::to_string(least) + " tokens takes " + megabytes(cache) +
                      " and activations for maxBatchTokens " + std::to_string(options.max_batch_tokens) +
                      " take " + megabytes(activations) + ", with " + megabytes(available) +
                      " available; lower contextLength, kvTokens or maxBatchTokens, or choose kvType q8_0");
    }
    options.context_length = std::max(kSmallestContext, options.context_length / 2);
  }
}

}  // namespace

int32_t output_rows(const EngineOptions& options) {
  return std::max(options.max_concurrent, kLeastOutputs);
}

int32_t step_tokens(const EngineOptions& options) {
  return std::max(options.max_batch_tokens, options.max_concurrent + 1);
}

KvSizes sizes_of(const EngineOptions& options) {
  return {int32_t(options.kv_tokens), options.max_concurrent, step_tokens(options)};
}

void check_range(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return;
  throw Error(Code::invalid_argument, std::string(name) + " is " + std::to_string(value) + "; expected " +
                                          std::to_string(min) + " to " + std::to_string(max));
}

EngineOptions resolve(EngineOptions options, const Model& model) {
  check_range("contextLength", options.context_length, 0, 1 << 24);
  check_range("maxConcurrent", options.max_concurrent, 1, 4096);
  check_range("maxQueue", options.max_queue, 0, 1 << 20);
  check_range("max_paused", options.max_paused, 1, 1 << 20);
  check_range("maxBatchTokens", options.max_batch_tokens, options.max_concurrent, 1 << 16);
  check_range("kvTokens", options.kv_tokens, 0, INT32_MAX);
  if (options.kv_tokens > 0 && options.kv_bytes > 0)
    throw Error(Code::invalid_argument, "kvTokens and kvMemory are both given; expected one of them");
  if (options.kv_tokens > 0 && options.kv_tokens < options.context_length)
    throw Error(Code::invalid_argument, "kvTokens is " + std::to_string(options.kv_tokens) +
                                            "; expected at least contextLength, " +
                                            std::to_string(options.context_length));
  if (!(options.max_slowdown >= 1 && options.max_slowdown <= 1000))
    throw Error(Code::invalid_argument,
                "maxSlowdown is " + std::to_string(options.max_slowdown) + "; expected 1 to 1000");
  check_range("draft.tokens", options.draft_tokens, 1, kMostGuesses);
  if (options.draft && options.draft->shares_weights(model))
    throw Error(Code::invalid_argument, "the draft is the model itself; expected a smaller one");
  const KvType natural = std::string(model.backend().name()) == "reference" ? KvType::f32 : KvType::f16;
  if (!options.kv_type_k) options.kv_type_k = natural;
  if (!options.kv_type_v) options.kv_type_v = natural;
  fit_memory(options, model);
  return options;
}

}  // namespace inhouse
