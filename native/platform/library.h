// Shared libraries found at run time.
#pragma once

#include <string>

namespace inhouse::platform {

// Loads a library by the name that the system's loader looks up, or by path (UTF-8), and keeps it for the
// life of the process. Null where that fails, with the system's words in `why`.
void* open_library(const std::string& name, std::string* why);

// Null where the library has no such function.
void* library_function(void* library, const char* name);

}  // namespace inhouse::platform
