// The C++ tests' few macros: TEST registers a case under its file's name, CHECK* record failures and go on.
#pragma once
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace inhouse::test {

struct Case {
  const char* file;
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}
inline bool add(const char* file, const char* name, void (*run)()) {
  cases().push_back({file, name, run});
  return true;
}
inline void fail(const char* file, int line, const std::string& what) {
  ++failures();
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}
template <class A, class B>
void check_eq(const A& a, const B& b, const char* text, const char* file, int line) {
  if (a == b) return;
  std::ostringstream out;
  out << text << ": " << a << " != " << b;
  fail(file, line, out.str());
}

}  // namespace inhouse::test

#define TEST(name)                                                                      \
  static void test_##name();                                                            \
  static const bool added_##name = ::inhouse::test::add(__FILE__, #name, &test_##name); \
  static void test_##name()
#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) ::inhouse::test::fail(__FILE__, __LINE__, "CHECK(" #condition ")"); \
  } while (0)
#define CHECK_EQ(a, b) ::inhouse::test::check_eq((a), (b), #a " == " #b, __FILE__, __LINE__)
