// Command lines of the executables here: what cannot be right is refused with exit code 2.
#pragma once

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernels/quant/types.h"
#include "native/core/error.h"

namespace inhouse::bench {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The whole of `text` as a decimal number from min to max.
inline int32_t number(std::string_view option, std::string_view text, int32_t min, int32_t max) {
  int32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < min || value > max)
    throw UsageError(std::string(option) + ": expected a whole number from " + std::to_string(min) + " to " +
                     std::to_string(max) + ", got \"" + std::string(text) + "\"");
  return value;
}

// A GGUF type, in upper or lower case.
inline const kernels::QuantType& type_named(std::string_view option, std::string_view text) {
  std::string name(text), known;
  for (char& c : name) c = char(std::toupper(static_cast<unsigned char>(c)));
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  for (uint32_t i = 0; i < count; ++i) {
    if (name == types[i]->name) return *types[i];
    known += std::string(known.empty() ? "" : ", ") + types[i]->name;
  }
  throw UsageError(std::string(option) + ": no such type: " + name + "; there are " + known);
}

// Goes through the arguments of main.
class Arguments {
 public:
  Arguments(int argc, char** argv) : argc_(argc), argv_(argv) {}
  // The next argument, or nullptr at the end.
  const char* next() { return at_ < argc_ ? argv_[at_++] : nullptr; }
  // The value that follows an option.
  std::string value(std::string_view option) {
    const char* text = next();
    if (!text) throw UsageError(std::string(option) + ": expected a value");
    return text;
  }

 private:
  int argc_;
  char** argv_;
  int at_ = 1;
};

// A whole main: prints `usage` for --help, and calls `program` with the arguments otherwise. Exit codes: 1
// for what failed, the output included, 2 for what was asked wrongly.
template <class Program>
int run_main(int argc, char** argv, const char* usage, Program&& program) {
  try {
    if (std::any_of(argv + 1, argv + argc, [](std::string_view argument) { return argument == "--help"; })) {
      std::printf("usage: %s\n", usage);
    } else {
      program(Arguments(argc, argv));
    }
  } catch (const UsageError& error) {
    std::fprintf(stderr, "%s; --help prints the usage\n", error.what());
    return 2;
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  } catch (...) {
    const Error error = describe_current_exception();
    std::fprintf(stderr, "%s: %s\n", code_name(error.code()), error.message().c_str());
    return 1;
  }
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return 0;
  std::fprintf(stderr, "the output could not be written\n");
  return 1;
}

}  // namespace inhouse::bench
