#include "native/core/error.h"

namespace inhouse {

const char* code_name(Code code) {
  switch (code) {
#define X(name, text) \
  case Code::name:    \
    return "ERR_INHOUSE_" text;
    INHOUSE_ERROR_CODES(X)
#undef X
  }
  return "ERR_INHOUSE_INTERNAL";
}

namespace {

Error describe() {
  try {
    throw;
  } catch (const Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return Error(Code::out_of_memory,
                 "an allocation failed; use a smaller context or fewer parallel requests");
  } catch (const std::exception& e) {
    return Error(Code::internal, e.what());
  } catch (...) {
    return Error(Code::internal, "unknown exception");
  }
}

}  // namespace

Error describe_current_exception() noexcept {
  try {
    return describe();
  } catch (...) {  // the description did not fit into memory; this one fits into the string itself
    return Error(Code::out_of_memory, "out of memory");
  }
}

std::string megabytes(uint64_t bytes) {
  return std::to_string((bytes + 999'999) / 1'000'000) + " MB";
}

}  // namespace inhouse
