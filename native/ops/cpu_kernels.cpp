#include "native/ops/cpu_kernels.h"

#include "native/core/error.h"

namespace inhouse {

const kernels::Kernels& choose_kernels(const std::string& name) {
  if (const kernels::Kernels* found = kernels::find_kernels(name.c_str())) return *found;
  std::string here;
  int count = 0;
  const kernels::Implementation* all = kernels::implementations(&count);
  for (int i = 0; i < count; ++i)
    if (all[i].supported) here += std::string(here.empty() ? "" : ", ") + all[i].kernels->name;
  throw Error(Code::device_unavailable,
              "instruction set \"" + name + "\" is unknown or missing on this machine; it has " + here);
}

}  // namespace inhouse
