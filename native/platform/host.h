// The program that has loaded this library.
#pragma once

namespace inhouse::platform {

#ifdef _WIN32
// A function that the program itself exports, under whatever name it runs; null where it has none such.
void* host_function(const char* name) noexcept;
#endif

// From now on nothing unloads this library: it would be unloaded with the worker thread that alone has loaded
// it, while threads of ours still run its code.
void stay_loaded() noexcept;

}  // namespace inhouse::platform
