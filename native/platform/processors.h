// How many processors this process may use for computing.
#pragma once

#include <cstdint>

namespace inhouse {

// Physical cores within the affinity mask, on Linux no more than the cgroup's processor quota (rounded down),
// on macOS the fast ones; at least 1.
int32_t usable_processors();

// Names the calling thread, for debuggers and `top`; at most 15 characters.
void name_this_thread(const char* name);

}  // namespace inhouse
