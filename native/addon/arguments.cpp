#include "native/addon/arguments.h"

#include <cmath>
#include <cstring>

#include "native/core/error.h"

namespace inhouse::addon {
namespace {

[[noreturn]] void refuse(const std::string& what, const char* expected) {
  throw Error(Code::invalid_argument, what + " must be " + expected);
}

std::string argument(size_t index) {
  return "argument " + std::to_string(index + 1);
}

int64_t integer(Napi::Value value, const std::string& what, int64_t low, int64_t high) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= double(low) && number <= double(high)) || number != std::floor(number))
    throw Error(Code::invalid_argument,
                what + " must be a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return int64_t(number);
}

template <class T>
std::vector<T> elements(Napi::Value value, const char* name, napi_typedarray_type type,
                        const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) refuse(name, expected);
  const auto array = value.As<Napi::TypedArrayOf<T>>();
  const size_t count = array.ElementLength();
  std::vector<T> copy(count);
  if (count != 0) std::memcpy(copy.data(), array.Data(), count * sizeof(T));
  return copy;
}

template <class T>
Napi::Value typed_array(Napi::Env env, const void* values, size_t count) {
  auto array = Napi::TypedArrayOf<T>::New(env, count);
  if (count != 0) std::memcpy(array.Data(), values, count * sizeof(T));
  return array;
}

}  // namespace

Napi::Object object_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsObject()) refuse(argument(index), "an object");
  return info[index].As<Napi::Object>();
}

Napi::Function function_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsFunction()) refuse(argument(index), "a function");
  return info[index].As<Napi::Function>();
}

std::string string_argument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsString()) refuse(argument(index), "a string");
  return info[index].As<Napi::String>().Utf8Value();
}

int64_t integer_argument(const Napi::CallbackInfo& info, size_t index, int64_t low, int64_t high) {
  return integer(info[index], argument(index), low, high);
}

int64_t integer_field(Napi::Object object, const char* name, int64_t low, int64_t high) {
  return integer(object.Get(name), name, low, high);
}

double number_field(Napi::Object object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsNumber()) refuse(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

bool bool_field(Napi::Object object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsBoolean()) refuse(name, "true or false");
  return value.As<Napi::Boolean>().Value();
}

std::string string_field(Napi::Object object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsString()) refuse(name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

uint64_t bigint_field(Napi::Object object, const char* name) {
  const Napi::Value value = object.Get(name);
  bool lossless = false;
  const uint64_t number = value.IsBigInt() ? value.As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless) refuse(name, "a bigint from 0 to 2^64 - 1");
  return number;
}

Napi::Array array_field(Napi::Object object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsArray()) refuse(name, "an array");
  return value.As<Napi::Array>();
}

std::vector<std::string> strings_field(Napi::Object object, const char* name) {
  const Napi::Array array = array_field(object, name);
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value value = array[i];
    if (!value.IsString()) refuse(name, "an array of strings");
    strings.push_back(value.As<Napi::String>().Utf8Value());
  }
  return strings;
}

std::vector<int32_t> int32_elements(Napi::Value value, const char* name) {
  return elements<int32_t>(value, name, napi_int32_array, "an Int32Array");
}
std::vector<uint32_t> uint32_elements(Napi::Value value, const char* name) {
  return elements<uint32_t>(value, name, napi_uint32_array, "a Uint32Array");
}
std::vector<uint8_t> uint8_elements(Napi::Value value, const char* name) {
  return elements<uint8_t>(value, name, napi_uint8_array, "a Uint8Array");
}
std::vector<float> float32_elements(Napi::Value value, const char* name) {
  return elements<float>(value, name, napi_float32_array, "a Float32Array");
}

Napi::Value uint8_array(Napi::Env env, const void* bytes, size_t count) {
  return typed_array<uint8_t>(env, bytes, count);
}
Napi::Value uint32_array(Napi::Env env, const uint32_t* values, size_t count) {
  return typed_array<uint32_t>(env, values, count);
}
Napi::Value float32_array(Napi::Env env, const float* values, size_t count) {
  return typed_array<float>(env, values, count);
}

Napi::Value numbers(Napi::Env env, const std::vector<int32_t>& values) {
  auto array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array[i] = Napi::Number::New(env, values[i]);
  return array;
}

}  // namespace inhouse::addon
