// Weights of the CPU backend: panels of 16 interleaved rows, or the file's own blocks where it is not to
// repack.
#pragma once

#include <memory>

#include "kernels/kernels.h"
#include "native/core/thread_pool.h"
#include "native/ops/backend.h"
#include "native/ops/cpu_memory.h"

namespace inhouse {

class CpuWeight final : public Weight {
 public:
  const kernels::QuantType* type = nullptr;
  const kernels::PackedType* packed = nullptr;  // integer types
  kernels::DenseType dense{};                   // the others
  CpuMemory memory;                             // panels, or a vector's float32
  const uint8_t* file_rows = nullptr;           // in the mapping, instead of panels
  uint64_t row_bytes = 0;                       // of a row in the file
  int64_t panel_bytes = 0;

  // Of one matrix.
  int64_t panels() const { return (rows + kernels::kPanelRows - 1) / kernels::kPanelRows; }
  const float* vector() const { return reinterpret_cast<const float*>(memory.data()); }
  // A matrix of the stack: its panels, or its rows in the file.
  const uint8_t* matrix(int64_t index) const {
    return file_rows ? file_rows + uint64_t(index * rows) * row_bytes
                     : memory.data() + index * panels() * panel_bytes;
  }
  // Packs one panel from the file's rows at `first_row` (row 16 * panel of a matrix).
  void pack(const uint8_t* first_row, int64_t panel, uint8_t* dst) const;
  // The numbers of one row. dst [cols]
  void decode_row(int64_t row, float* dst) const;
};

std::unique_ptr<CpuWeight> load_cpu_weight(const GgufFile& file, const TensorInfo& tensor, WeightUse use,
                                           const LoadControl& control, const CpuOptions& options,
                                           int32_t threads);

}  // namespace inhouse
