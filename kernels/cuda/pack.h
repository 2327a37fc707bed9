// Brings rows of a GGUF file into the layout of the GPU kernels (layout.h), on the host.
#pragma once

#include "kernels/cuda/layout.h"
#include "kernels/quant/types.h"

namespace inhouse::kernels::cuda {

// The format that a GGUF type is kept in.
int cuda_format(TypeId type);

// Packs one panel. rows: 16 rows as they stand in the file; null ones (padding) become zeros.
void pack_cuda_panel(const QuantType& type, const uint8_t* const* rows, int64_t cols, uint8_t* panel);

}  // namespace inhouse::kernels::cuda
