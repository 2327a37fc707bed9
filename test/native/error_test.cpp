#include "native/core/error.h"

#include <new>
#include <string>

#include "test/native/check.h"

using namespace inhouse;

template <class F>
static Error caught(F f) {
  try {
    f();
  } catch (...) {
    return describe_current_exception();
  }
  return Error(Code::internal, "nothing thrown");
}

TEST(codes_have_their_prefix) {
  CHECK_EQ(std::string(code_name(Code::gguf_truncated)), std::string("ERR_INHOUSE_GGUF_TRUNCATED"));
}

TEST(any_exception_becomes_an_error) {
  CHECK(caught([] { throw Error(Code::numeric, "x"); }).code() == Code::numeric);
  CHECK(caught([] { throw std::bad_alloc(); }).code() == Code::out_of_memory);
  CHECK(caught([] { throw 7; }).code() == Code::internal);
}
