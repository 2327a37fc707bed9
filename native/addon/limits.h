// The machine's limits, for `inhouse bench`.
#pragma once

#include <napi.h>

namespace inhouse::addon {

// measureLimits({threads, instructionSet}, callback(error, {readBytes, dotMultiplyAdds, floatMultiplyAdds,
// bf16MultiplyAdds})), per second; takes about a second, on a thread of its own.
Napi::Value measure_limits(const Napi::CallbackInfo& info);

}  // namespace inhouse::addon
