// Weights of the CUDA backend, in the layout of kernels/cuda/layout.h.
#pragma once

#include <memory>

#include "kernels/cuda/layout.h"
#include "native/ops/backend.h"
#include "native/ops/cuda/device.h"

namespace inhouse::cuda {

class CudaWeight final : public Weight {
 public:
  int format = 0;  // of matrices
  int64_t panel_bytes = 0;
  float multiplier = 1;
  int32_t zero_point = 0;
  uint32_t lookup[4] = {};  // bytes: a code's number + 128
  Memory memory;            // panels, or a vector's float32

  int64_t panels() const { return (rows + kernels::kPanelRows - 1) / kernels::kPanelRows; }
};

// Reads a tensor, packs it on the host's threads and copies it over, a few megabytes at a time.
std::unique_ptr<CudaWeight> load_cuda_weight(Device& device, const GgufFile& file, const TensorInfo& tensor,
                                             WeightUse use, const LoadControl& control);

}  // namespace inhouse::cuda
