// Which of the CPU's kernels to use.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace inhouse {

// Those of the named instruction set; with an empty name, the best here. Errors: device_unavailable, naming
// those that are here.
const kernels::Kernels& choose_kernels(const std::string& name);

}  // namespace inhouse
