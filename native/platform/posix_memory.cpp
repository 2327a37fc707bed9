// Memory sizes and locking on POSIX systems.
#ifndef _WIN32
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "native/core/error.h"
#include "native/platform/platform.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

namespace inhouse::platform {

void lock_memory(const void* data, uint64_t size) {
  if (size == 0 || mlock(data, size_t(size)) == 0) return;
  const int error = errno;
  throw Error(Code::memory_lock,
              "lockMemory: the system refused to lock " + std::to_string(size) +
                  " bytes: " + std::generic_category().message(error) +
                  "; raise the locked-memory limit (ulimit -l, or memlock of the container) or turn it off");
}

void unlock_memory(const void* data, uint64_t size) noexcept {
  if (size != 0) munlock(data, size_t(size));
}

void trim_memory() noexcept {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

#ifdef __APPLE__
MemoryInfo memory_info() {
  MemoryInfo info;
  size_t length = sizeof info.total;
  if (sysctlbyname("hw.memsize", &info.total, &length, nullptr, 0) != 0) return {};
  vm_statistics64_data_t pages;
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (host_statistics64(mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count) ==
      0) {
    info.available =
        (uint64_t(pages.free_count) + pages.inactive_count + pages.purgeable_count) * page_size();
  }
  return info;
}
#else
namespace {

// The number in a one-line file of the kernel; false where it is absent or not a number ("max").
bool read_number(const std::string& path, uint64_t* value) {
  std::ifstream file(path);
  return bool(file >> *value);
}

// The sum of the named lines ("name value [kB]") of a kernel table.
uint64_t sum_of_lines(const std::string& path, std::initializer_list<const char*> names) {
  std::ifstream file(path);
  std::string line, name;
  uint64_t sum = 0;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    uint64_t value = 0;
    if (!(words >> name >> value)) continue;
    if (std::find(names.begin(), names.end(), name) != names.end()) sum += value;
  }
  return sum;
}

// Narrows `info` by one control group. Its page cache counts as used there, but gives way to us.
void apply_group(const std::string& folder, const char* limit_name, const char* usage_name,
                 std::initializer_list<const char*> cache_names, MemoryInfo* info) {
  uint64_t limit = 0, used = 0;
  if (!read_number(folder + "/" + limit_name, &limit) || limit >= info->total) return;
  info->total = limit;
  if (!read_number(folder + "/" + usage_name, &used)) return;
  used -= std::min(used, sum_of_lines(folder + "/memory.stat", cache_names));
  info->available = std::min(info->available, limit - std::min(limit, used));
}

// A group's limit binds all groups below it; in a container the path may be one of the host, unseen from
// here.
template <class Apply>
void for_each_ancestor(const std::string& root, std::string path, Apply apply) {
  for (;;) {
    if (path == "/") path.clear();
    apply(root + path);
    if (path.empty()) return;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

void apply_groups(MemoryInfo* info) {
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {  // "hierarchy:controllers:path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first, second - first) + ":";
    const std::string path = line.substr(second + 1);
    if (controllers == "::") {
      for_each_ancestor("/sys/fs/cgroup", path, [&](const std::string& folder) {
        apply_group(folder, "memory.max", "memory.current", {"active_file", "inactive_file"}, info);
      });
    } else if (controllers.find("memory") != std::string::npos) {
      for_each_ancestor("/sys/fs/cgroup/memory", path, [&](const std::string& folder) {
        apply_group(folder, "memory.limit_in_bytes", "memory.usage_in_bytes",
                    {"total_active_file", "total_inactive_file"}, info);
      });
    }
  }
}

}  // namespace

MemoryInfo memory_info() {
  MemoryInfo info;
  info.total = uint64_t(sysconf(_SC_PHYS_PAGES)) * page_size();
  info.available = sum_of_lines("/proc/meminfo", {"MemAvailable:"}) * 1024;
  if (info.available == 0 || info.available > info.total) info.available = info.total;
  apply_groups(&info);
  info.available = std::min(info.available, info.total);
  return info;
}
#endif

}  // namespace inhouse::platform
#endif
