// Node-API on Windows. Its functions stand in the program that loads the addon: node.exe, node.exe under
// another name, Electron, a single executable. An import library would ask for them in "node.exe" alone. So
// the pointers that calls go through, which the linker would make, are made here, and are set when the addon
// is loaded.
#ifdef _WIN32
#include "native/platform/host.h"

extern "C" {

#define X(name) void* __imp_##name = nullptr;
#include "native/addon/node_api_names.inc"
#undef X

// The loader's own call. Zero refuses to load: a program that lacks one of the functions is no host for
// Node-API 8.
int __stdcall DllMain(void*, unsigned long reason, void*) {
  constexpr unsigned long process_attach = 1;
  if (reason != process_attach) return 1;
#define X(name) \
  if (!(__imp_##name = inhouse::platform::host_function(#name))) return 0;
#include "native/addon/node_api_names.inc"
#undef X
  return 1;
}
}
#endif
