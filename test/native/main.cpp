// Runs the registered C++ tests: all of them, or those of the suites (file names without extension) given.
#include <exception>
#include <string_view>

#include "test/native/check.h"

int main(int argc, char** argv) {
  using namespace inhouse::test;
  int ran = 0;
  for (const Case& c : cases()) {
    std::string_view file = c.file;
    file = file.substr(file.find_last_of("/\\") + 1);
    file = file.substr(0, file.find('.'));
    bool wanted = argc < 2;
    for (int i = 1; i < argc; ++i) wanted |= file == argv[i];
    if (!wanted) continue;
    ++ran;
    const int before = failures();
    try {
      c.run();
    } catch (const std::exception& e) {
      fail(c.file, 0, std::string(c.name) + " threw: " + e.what());
    }
    std::printf("%s %.*s.%s\n", failures() == before ? "ok  " : "FAIL", int(file.size()), file.data(),
                c.name);
  }
  std::printf("%d run, %d failed checks\n", ran, failures());
  return failures() != 0 || ran == 0;
}
