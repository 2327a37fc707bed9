// Large zeroed memory straight from the system.
#pragma once

#include <cstdint>

namespace inhouse::platform {

// Page-aligned zeroed memory; pages cost nothing until they are touched. With `large_pages` the system is
// asked to back it with large pages. Null where the system refuses.
void* reserve_memory(uint64_t bytes, bool large_pages) noexcept;
void release_memory(void* memory, uint64_t bytes) noexcept;

}  // namespace inhouse::platform
