// Reading what JavaScript passed. lib/ has checked it already and says more in its messages; these checks
// keep the core safe from a caller that went around lib/. All throw Code::invalid_argument.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace inhouse::addon {

Napi::Object object_argument(const Napi::CallbackInfo& info, size_t index);
Napi::Function function_argument(const Napi::CallbackInfo& info, size_t index);
std::string string_argument(const Napi::CallbackInfo& info, size_t index);
// A whole number from `low` to `high`.
int64_t integer_argument(const Napi::CallbackInfo& info, size_t index, int64_t low, int64_t high);

int64_t integer_field(Napi::Object object, const char* name, int64_t low, int64_t high);
double number_field(Napi::Object object, const char* name);
bool bool_field(Napi::Object object, const char* name);
std::string string_field(Napi::Object object, const char* name);
uint64_t bigint_field(Napi::Object object, const char* name);
Napi::Array array_field(Napi::Object object, const char* name);
std::vector<std::string> strings_field(Napi::Object object, const char* name);

// The elements of an Int32Array, Uint32Array or Uint8Array.
std::vector<int32_t> int32_elements(Napi::Value value, const char* name);
std::vector<uint32_t> uint32_elements(Napi::Value value, const char* name);
std::vector<uint8_t> uint8_elements(Napi::Value value, const char* name);

// The elements of a Float32Array.
std::vector<float> float32_elements(Napi::Value value, const char* name);

// Copies; memory of ours is never lent to JavaScript.
Napi::Value uint8_array(Napi::Env env, const void* bytes, size_t count);
Napi::Value uint32_array(Napi::Env env, const uint32_t* values, size_t count);
Napi::Value float32_array(Napi::Env env, const float* values, size_t count);
Napi::Value numbers(Napi::Env env, const std::vector<int32_t>& values);

}  // namespace inhouse::addon
