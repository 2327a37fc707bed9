// What the engine refuses at once, before a request has cost anything.
#pragma once

#include <cstdint>
#include <memory>

#include "native/engine/engine.h"

namespace inhouse {

// Checks a request of an engine of `model` with a context of so many tokens. Returns how many tokens it may
// draw. Errors: invalid_argument, token_out_of_range, context_overflow.
int32_t check(const RequestSpec& spec, int32_t context, const std::shared_ptr<const Model>& model);

// The same for texts to embed.
void check(const EmbedSpec& spec, int32_t context, const std::shared_ptr<const Model>& model);

}  // namespace inhouse
