#include "native/platform/library.h"

#ifdef _WIN32
#include <windows.h>

#include <system_error>
#else
#include <dlfcn.h>
#endif

namespace inhouse::platform {

#ifdef _WIN32
void* open_library(const std::string& name, std::string* why) {
  std::wstring wide(name.size() + 1, L'\0');
  const int length = MultiByteToWideChar(CP_UTF8, 0, name.c_str(), -1, wide.data(), int(wide.size()));
  HMODULE library = nullptr;
  // A bare name is the system's own: no library beside the program or in the working directory takes its
  // place.
  if (length > 0)
    library = LoadLibraryExW(wide.c_str(), nullptr,
                             name.find_first_of("/\\") == std::string::npos ? LOAD_LIBRARY_SEARCH_SYSTEM32
                                                                            : LOAD_WITH_ALTERED_SEARCH_PATH);
  if (!library) *why = std::system_category().message(int(GetLastError()));
  return reinterpret_cast<void*>(library);
}

void* library_function(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
#else
void* open_library(const std::string& name, std::string* why) {
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) {
    const char* words = dlerror();
    *why = words ? words : "dlopen failed";
  }
  return library;
}

void* library_function(void* library, const char* name) {
  return dlsym(library, name);
}
#endif

}  // namespace inhouse::platform
