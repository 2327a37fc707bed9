// What an engine makes of its options: defaults by the model and the memory there is, and refusals.
#pragma once

#include <cstdint>

#include "native/engine/engine.h"
#include "native/engine/kv_cache.h"

namespace inhouse {

// Checks the options and fills in what is left to the engine. Errors: invalid_argument, out_of_memory.
EngineOptions resolve(EngineOptions options, const Model& model);

// Rows of logits computed at once.
int32_t output_rows(const EngineOptions& options);

// Tokens of the longest step: where all of it are of those that write, texts have one more.
int32_t step_tokens(const EngineOptions& options);

// The cache of resolved options.
KvSizes sizes_of(const EngineOptions& options);

// Error: invalid_argument, which names the value and its range.
void check_range(const char* name, int64_t value, int64_t min, int64_t max);

}  // namespace inhouse
