#include "native/ops/cpu_weight.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/quant/half.h"

namespace inhouse {
namespace {

using kernels::kPanelRows;

// Bytes of file that are read at once and then packed by the pool in one turn: other engines' steps wait no
// longer than for such a turn, and never for the disk.
constexpr uint64_t kTurnBytes = 4 << 20;

bool dense_type(kernels::TypeId id, kernels::DenseType* type) {
  switch (id) {
    case kernels::TypeId::f32:
      *type = kernels::DenseType::f32;
      return true;
    case kernels::TypeId::f16:
      *type = kernels::DenseType::f16;
      return true;
    case kernels::TypeId::bf16:
      *type = kernels::DenseType::bf16;
      return true;
    default:
      return false;
  }
}

void read_panels(const GgufFile& file, const TensorInfo& tensor, const LoadControl& control, int32_t threads,
                 int64_t matrix, CpuWeight& weight) {
  uint8_t* panels = weight.memory.data() + matrix * weight.panels() * weight.panel_bytes;
  const uint64_t panel_file_bytes = weight.row_bytes * kPanelRows;
  const int64_t turn = std::max<int64_t>(1, int64_t(kTurnBytes / std::max<uint64_t>(1, panel_file_bytes)));
  std::vector<uint8_t> buffer;
  for (int64_t first = 0; first < weight.panels(); first += turn) {
    control.check();
    const int64_t end = std::min(weight.panels(), first + turn);
    const int64_t row = first * kPanelRows, rows = std::min(weight.rows, end * kPanelRows) - row;
    buffer.resize(uint64_t(rows) * weight.row_bytes);
    file.read(tensor, uint64_t(matrix * weight.rows + row) * weight.row_bytes, buffer.size(), buffer.data());
    // One processor is left to the host: with all of them busy, its event loop waits for a time slice.
    ThreadPool::shared().run(std::max(1, threads - 1), end - first, [&](int64_t p, int32_t) {
      weight.pack(buffer.data() + uint64_t(p) * panel_file_bytes, first + p,
                  panels + (first + p) * weight.panel_bytes);
    });
    control.report(buffer.size());
  }
}

}  // namespace

void CpuWeight::pack(const uint8_t* first_row, int64_t panel, uint8_t* dst) const {
  const uint8_t* from[kPanelRows];
  for (int r = 0; r < kPanelRows; ++r)
    from[r] = panel * kPanelRows + r < rows ? first_row + uint64_t(r) * row_bytes : nullptr;
  if (packed) {
    kernels::pack_panel(*packed, *type, from, cols, dst);
  } else {
    kernels::pack_dense_panel(dense, from, cols, dst);
  }
}

void CpuWeight::decode_row(int64_t row, float* dst) const {
  if (file_rows) {
    type->decode(file_rows + uint64_t(row) * row_bytes, dst, cols);
    return;
  }
  const uint8_t* panel = memory.data() + row / kPanelRows * panel_bytes;
  const int lane = int(row % kPanelRows);
  if (packed) {
    kernels::decode_packed_row(*packed, panel, lane, cols, dst);
  } else {
    kernels::decode_dense_row(dense, panel, lane, cols, dst);
  }
}

std::unique_ptr<CpuWeight> load_cpu_weight(const GgufFile& file, const TensorInfo& tensor, WeightUse use,
                                           const LoadControl& control, const CpuOptions& options,
                                           int32_t threads) {
  control.check();
  auto weight = std::make_unique<CpuWeight>();
  weight->type = tensor.type;
  weight->cols = tensor.dims[0];
  weight->rows = tensor.dims[1];
  weight->stack = tensor.dims[2];
  weight->row_bytes = uint64_t(weight->cols) / tensor.type->block_elements * tensor.type->block_bytes;
  const std::string what = "tensor " + tensor.name;
  if (use == WeightUse::vector) {
    std::vector<uint8_t> raw(weight->row_bytes);
    file.read(tensor, 0, raw.size(), raw.data());
    weight->memory = CpuMemory(uint64_t(weight->cols) * sizeof(float), false, what);
    tensor.type->decode(raw.data(), reinterpret_cast<float*>(weight->memory.data()), weight->cols);
    control.report(raw.size());
  } else {
    weight->packed = kernels::packed_type(tensor.type->id);
    if (weight->packed) {
      weight->panel_bytes = kernels::packed_panel_bytes(weight->packed->layout(), weight->cols);
    } else if (dense_type(tensor.type->id, &weight->dense)) {
      weight->panel_bytes = kernels::dense_panel_bytes(weight->dense, weight->cols);
    } else {
      throw Error(Code::unsupported_type, what + ": the CPU backend has no layout for " + tensor.type->name);
    }
    if (!options.repack) {
      weight->mapping = file.map(tensor.part);
      if (options.lock_memory) weight->mapping->lock();
      weight->file_rows = weight->mapping->data() + tensor.offset;
      control.report(tensor.bytes);
      return weight;
    }
    // Not in large pages: decoding gains 2% by them, but where memory is fragmented the system takes seconds
    // to find them while a model is read.
    weight->memory = CpuMemory(uint64_t(weight->stack * weight->panels() * weight->panel_bytes), false, what);
    for (int64_t m = 0; m < weight->stack; ++m) read_panels(file, tensor, control, threads, m, *weight);
  }
  weight->bytes = weight->memory.bytes();
  if (options.lock_memory && weight->bytes > 0) weight->memory.lock();
  return weight;
}

}  // namespace inhouse
