// Mapped files on POSIX systems, and the guard that keeps a shrinking file from ending the process.
//
// Reading a mapped page that the file no longer has raises SIGBUS. The handler below looks the address up in
// a table of our mappings, puts zero pages in its place and notes the damage; any other SIGBUS goes on to
// whoever handled it before. The table has a fixed size and takes no lock, because the handler must not wait.
#ifndef _WIN32
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <system_error>

#include "native/core/error.h"
#include "native/platform/platform.h"

namespace inhouse::platform {
namespace {

// One guarded range; `version` is odd while the range is being changed.
struct Range {
  std::atomic<uint32_t> version{0};
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> damaged{false};
};
constexpr int range_count = 1024;
Range ranges[range_count];
std::mutex ranges_mutex;  // for changes only; the handler never takes it
struct sigaction previous_action;
uintptr_t handler_page_size = 4096;

void pass_on(int signal, siginfo_t* info, void* context) {
  if (previous_action.sa_flags & SA_SIGINFO) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal);
  } else if (info->si_code > 0 || previous_action.sa_handler == SIG_DFL) {
    // A fault happens again on return and then takes the default action; a signal that was sent does not.
    struct sigaction action = {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
    if (info->si_code <= 0) raise(signal);
  }
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Range& range : ranges) {
    const uint32_t version = range.version.load(std::memory_order_acquire);
    const uintptr_t begin = range.begin.load(std::memory_order_acquire);
    const uintptr_t end = range.end.load(std::memory_order_acquire);
    if (info->si_code <= 0 || version % 2 || begin == 0 || address < begin || address >= end) continue;
    if (range.version.load(std::memory_order_acquire) != version) continue;
    // All that follows the page is lost too; one mapping over it keeps the number of mappings small.
    const uintptr_t page = address & ~(handler_page_size - 1);
    void* zeros = mmap(reinterpret_cast<void*>(page), size_t(end - page), PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    range.damaged.store(true, std::memory_order_release);
    errno = saved_errno;
    return;
  }
  errno = saved_errno;
  pass_on(signal, info, context);
}

void install_handler() {
  static const bool installed = [] {
    handler_page_size = uintptr_t(page_size());
    struct sigaction action = {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &previous_action) == 0;
  }();
  (void)installed;
}

int guard(uintptr_t begin, uintptr_t end) {
  install_handler();
  const std::lock_guard lock(ranges_mutex);
  for (int slot = 0; slot < range_count; ++slot) {
    Range& range = ranges[slot];
    if (range.begin.load(std::memory_order_relaxed) != 0) continue;
    range.version.fetch_add(1, std::memory_order_acq_rel);
    range.damaged.store(false, std::memory_order_relaxed);
    range.end.store(end, std::memory_order_release);
    range.begin.store(begin, std::memory_order_release);
    range.version.fetch_add(1, std::memory_order_acq_rel);
    return slot;
  }
  return -1;
}

}  // namespace

MappedFile File::map() const {
  struct stat status;
  if (fstat(int(handle_), &status) != 0 || uint64_t(status.st_size) < size()) {
    throw Error(Code::file_changed, path_ + ": has become shorter than the " + std::to_string(size()) +
                                        " bytes it had when it was opened");
  }
  void* data = mmap(nullptr, size_t(size()), PROT_READ, MAP_SHARED, int(handle_), 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    throw Error(error == ENOMEM ? Code::out_of_memory : Code::file_read,
                path_ + ": cannot be mapped: " + std::generic_category().message(error));
  }
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data);
  const uint64_t whole_pages = (size() + page_size() - 1) / page_size() * page_size();
  const int slot = guard(begin, begin + uintptr_t(whole_pages));
  if (slot < 0) {
    munmap(data, size_t(size()));
    throw Error(Code::out_of_memory,
                path_ + ": cannot be mapped: " + std::to_string(range_count) + " files are mapped already");
  }
  return MappedFile(static_cast<const uint8_t*>(data), size(), slot);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(other.data_), size_(other.size_), slot_(std::exchange(other.slot_, -1)) {}

MappedFile::~MappedFile() {
  if (slot_ < 0) return;
  {
    const std::lock_guard lock(ranges_mutex);
    Range& range = ranges[slot_];
    range.version.fetch_add(1, std::memory_order_acq_rel);
    range.begin.store(0, std::memory_order_release);
    range.version.fetch_add(1, std::memory_order_acq_rel);
  }
  munmap(const_cast<uint8_t*>(data_), size_t(size_));
}

bool MappedFile::damaged() const {
  return slot_ >= 0 && ranges[slot_].damaged.load(std::memory_order_acquire);
}

}  // namespace inhouse::platform
#endif
