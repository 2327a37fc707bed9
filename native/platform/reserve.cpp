#include "native/platform/reserve.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace inhouse::platform {

#ifdef _WIN32
void* reserve_memory(uint64_t bytes, bool) noexcept {
  return VirtualAlloc(nullptr, SIZE_T(bytes), MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
void release_memory(void* memory, uint64_t) noexcept {
  if (memory) VirtualFree(memory, 0, MEM_RELEASE);
}
#else
void* reserve_memory(uint64_t bytes, bool large_pages) noexcept {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
  flags |= MAP_NORESERVE;
#endif
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  if (large_pages) madvise(memory, bytes, MADV_HUGEPAGE);
#else
  (void)large_pages;
#endif
  return memory;
}
void release_memory(void* memory, uint64_t bytes) noexcept {
  if (memory) munmap(memory, bytes);
}
#endif

}  // namespace inhouse::platform
