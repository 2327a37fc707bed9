// What the core knows of this machine, for `inhouse doctor`.
#pragma once

#include <napi.h>

namespace inhouse::addon {

// machine(): {instructionSets: [{name, title, supported}], processors, memoryTotal, memoryAvailable};
// instruction sets are those of this build, best first, and memory is in bytes, 0 where unknown.
Napi::Value machine(const Napi::CallbackInfo& info);

}  // namespace inhouse::addon
