// Names of temporary files that no other process or test has.
#pragma once

#ifdef _WIN32
#include <process.h>
#else
#include <unistd.h>
#endif

#include <atomic>
#include <filesystem>
#include <string>

namespace inhouse::test {

inline std::string temp_path(const std::string& name) {
  static std::atomic<int> count{0};
#ifdef _WIN32
  const int process = _getpid();
#else
  const int process = getpid();
#endif
  const std::string unique = "inhouse-" + std::to_string(process) + "-" + std::to_string(++count) + "-";
  return (std::filesystem::temp_directory_path() / (unique + name)).string();
}

}  // namespace inhouse::test
