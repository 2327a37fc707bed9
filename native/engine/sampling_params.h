#pragma once

#include <cstdint>

#include "native/engine/sampling.h"

namespace inhouse {

// Throws invalid_argument with the setting's name as the library spells it, its value and what was expected.
void validate(const SamplingParams& params, int32_t vocabulary, int32_t top_logprobs);

}  // namespace inhouse
