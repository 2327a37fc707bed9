#include "native/platform/processors.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#elif defined(__APPLE__)
#include <pthread.h>
#include <sys/sysctl.h>
#elif defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <vector>
#endif

namespace inhouse {

#if defined(__linux__)
namespace {

// The first line of a small file, or "" where it cannot be read.
std::string first_line(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (!file) return "";
  char text[512] = "";
  const bool got = std::fgets(text, sizeof text, file) != nullptr;
  std::fclose(file);
  if (!got) return "";
  text[std::strcspn(text, "\n")] = 0;
  return text;
}

// Cores in the affinity mask: hyperthreads of one core count once, for they share its multipliers.
int32_t cores_in_affinity() {
  // A fixed mask is enough for 1,024 processors; larger machines grow it.
  for (int size = 1024; size <= (1 << 16); size *= 4) {
    cpu_set_t* mask = CPU_ALLOC(size_t(size));
    if (!mask) return 1;
    const size_t bytes = CPU_ALLOC_SIZE(size_t(size));
    CPU_ZERO_S(bytes, mask);
    if (sched_getaffinity(0, bytes, mask) != 0) {
      CPU_FREE(mask);
      continue;
    }
    int32_t unknown = 0;
    std::set<std::string> cores;
    for (int cpu = 0; cpu < size; ++cpu) {
      if (!CPU_ISSET_S(size_t(cpu), bytes, mask)) continue;
      const std::string siblings =
          first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      if (siblings.empty()) {
        ++unknown;
      } else {
        cores.insert(siblings);
      }
    }
    CPU_FREE(mask);
    return std::max<int32_t>(1, int32_t(cores.size()) + unknown);
  }
  return 1;
}

// Whole processors the cgroup at this folder allows, or a large number where it sets no limit.
int32_t quota_at(const std::string& folder) {
  constexpr int32_t none = 1 << 20;
  double quota = -1, period = 0;
  const std::string both = first_line(folder + "/cpu.max");  // version 2: "max 100000" or "150000 100000"
  if (!both.empty()) {
    if (std::sscanf(both.c_str(), "%lf %lf", &quota, &period) != 2) return none;
  } else {  // version 1
    const std::string q = first_line(folder + "/cpu.cfs_quota_us"),
                      p = first_line(folder + "/cpu.cfs_period_us");
    if (q.empty() || p.empty()) return none;
    quota = std::atof(q.c_str());
    period = std::atof(p.c_str());
  }
  if (quota <= 0 || period <= 0) return none;
  return std::max(1, int32_t(std::min(quota / period, double(none))));
}

// The smallest quota on the way from this process's cgroup up to the root.
int32_t cgroup_quota() {
  int32_t best = std::min(quota_at("/sys/fs/cgroup"), quota_at("/sys/fs/cgroup/cpu"));
  std::FILE* file = std::fopen("/proc/self/cgroup", "r");
  if (!file) return best;
  char line[1024];
  while (std::fgets(line, sizeof line, file)) {
    line[std::strcspn(line, "\n")] = 0;
    const char* first = std::strchr(line, ':');
    const char* second = first ? std::strchr(first + 1, ':') : nullptr;
    if (!second) continue;
    const std::string controllers(first + 1, second);
    std::string root = "/sys/fs/cgroup";
    if (!controllers.empty()) {
      if (("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
      root += "/" + controllers;
    }
    for (std::string path = second + 1; path.size() > 1; path.resize(path.find_last_of('/'))) {
      best = std::min(best, quota_at(root + path));
      if (path.find_last_of('/') == std::string::npos) break;
    }
  }
  std::fclose(file);
  return best;
}

}  // namespace

int32_t usable_processors() {
  return std::max(1, std::min(cores_in_affinity(), cgroup_quota()));
}

void name_this_thread(const char* name) {
  pthread_setname_np(pthread_self(), name);
}

#elif defined(__APPLE__)

int32_t usable_processors() {
  int32_t count = 0;
  size_t size = sizeof count;
  // Fast cores alone: a slow core would hold up every step.
  if (sysctlbyname("hw.perflevel0.physicalcpu", &count, &size, nullptr, 0) == 0 && count > 0) return count;
  size = sizeof count;
  if (sysctlbyname("hw.physicalcpu", &count, &size, nullptr, 0) == 0 && count > 0) return count;
  return std::max<int32_t>(1, int32_t(std::thread::hardware_concurrency()));
}

void name_this_thread(const char* name) {
  pthread_setname_np(name);
}

#else

#ifdef _WIN32
// Cores that share a processor with the affinity mask, of this process's processor group; 0: unknown.
static int32_t cores_in_affinity() {
  DWORD_PTR mask = 0, all = 0;
  GROUP_AFFINITY group = {};
  if (!GetProcessAffinityMask(GetCurrentProcess(), &mask, &all) || mask == 0) return 0;
  if (!GetThreadGroupAffinity(GetCurrentThread(), &group)) return 0;
  DWORD bytes = 0;
  GetLogicalProcessorInformationEx(RelationProcessorCore, nullptr, &bytes);
  std::vector<char> memory(bytes);
  const auto info = [&](DWORD at) {
    return reinterpret_cast<SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX*>(memory.data() + at);
  };
  if (bytes == 0 || !GetLogicalProcessorInformationEx(RelationProcessorCore, info(0), &bytes)) return 0;
  int32_t cores = 0;
  for (DWORD at = 0; at < bytes; at += info(at)->Size) {
    const GROUP_AFFINITY& own = info(at)->Processor.GroupMask[0];  // a core is in one group
    cores += own.Group == group.Group && (own.Mask & mask) != 0;
  }
  return cores;
}
#else
static int32_t cores_in_affinity() {
  return 0;
}
#endif

int32_t usable_processors() {
  const int32_t cores = cores_in_affinity();
  return std::max<int32_t>(1, cores > 0 ? cores : int32_t(std::thread::hardware_concurrency()));
}

void name_this_thread(const char*) {}

#endif

}  // namespace inhouse
