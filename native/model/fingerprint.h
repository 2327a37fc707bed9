// Telling models apart without reading all of their weights.
#pragma once

#include <cstdint>

#include "native/io/gguf.h"

namespace inhouse {

// Of all metadata (with overrides), the names, types and shapes of all tensors, and 64 bytes out of each.
// Errors: those of GgufFile::read.
uint64_t fingerprint_of(const GgufFile& file);

}  // namespace inhouse
