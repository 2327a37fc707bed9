#include "native/ops/cuda/weight.h"

#include <algorithm>
#include <vector>

#include "kernels/cuda/pack.h"
#include "native/core/error.h"
#include "native/core/thread_pool.h"

namespace inhouse::cuda {
namespace {

using kernels::kPanelRows;

// Bytes of file that are read at once.
constexpr uint64_t kTurnBytes = 16 << 20;

void copy_panels(Device& device, const GgufFile& file, const TensorInfo& tensor, const LoadControl& control,
                 int64_t matrix, const CudaWeight& weight) {
  const uint64_t row_bytes = uint64_t(weight.cols) / tensor.type->block_elements * tensor.type->block_bytes;
  const int64_t turn =
      std::max<int64_t>(1, int64_t(kTurnBytes / std::max<uint64_t>(1, row_bytes * kPanelRows)));
  const int32_t threads = std::max(1, ThreadPool::available() - 1);  // one is left to the host
  std::vector<uint8_t> raw, packed;
  for (int64_t first = 0; first < weight.panels(); first += turn) {
    control.check();
    const int64_t end = std::min(weight.panels(), first + turn);
    const int64_t row = first * kPanelRows, rows = std::min(weight.rows, end * kPanelRows) - row;
    raw.resize(uint64_t(rows) * row_bytes);
    packed.resize(uint64_t((end - first) * weight.panel_bytes));
    file.read(tensor, uint64_t(matrix * weight.rows + row) * row_bytes, raw.size(), raw.data());
    ThreadPool::shared().run(threads, end - first, [&](int64_t p, int32_t) {
      const uint8_t* from[kPanelRows];
      for (int r = 0; r < kPanelRows; ++r) {
        const int64_t index = p * kPanelRows + r;
        from[r] = index < rows ? raw.data() + uint64_t(index) * row_bytes : nullptr;
      }
      kernels::cuda::pack_cuda_panel(*tensor.type, from, weight.cols, packed.data() + p * weight.panel_bytes);
    });
    device.copy_in(
        weight.memory.address() + uint64_t((matrix * weight.panels() + first) * weight.panel_bytes),
        packed.data(), packed.size());
    control.report(raw.size());
  }
}

}  // namespace

std::unique_ptr<CudaWeight> load_cuda_weight(Device& device, const GgufFile& file, const TensorInfo& tensor,
                                             WeightUse use, const LoadControl& control) {
  control.check();
  auto weight = std::make_unique<CudaWeight>();
  weight->cols = tensor.dims[0];
  weight->rows = tensor.dims[1];
  weight->stack = tensor.dims[2];
  const std::string what = "tensor " + tensor.name;
  if (use == WeightUse::vector) {
    std::vector<uint8_t> raw(tensor.bytes);
    file.read(tensor, 0, raw.size(), raw.data());
    std::vector<float> numbers(size_t(weight->cols));
    tensor.type->decode(raw.data(), numbers.data(), weight->cols);
    weight->memory = device.allocate(numbers.size() * sizeof(float), what);
    device.copy_in(weight->memory.address(), numbers.data(), numbers.size() * sizeof(float));
    control.report(raw.size());
  } else {
    weight->format = kernels::cuda::cuda_format(tensor.type->id);
    weight->panel_bytes = kernels::cuda::cuda_panel_bytes(weight->format, weight->cols);
    if (const kernels::PackedType* packed = kernels::packed_type(tensor.type->id)) {
      weight->multiplier = packed->multiplier;
      weight->zero_point = packed->zero_point;
      for (int i = 0; packed->values && i < 16; ++i)
        weight->lookup[i / 4] |= uint32_t(uint8_t(packed->values[i] + 128)) << 8 * (i % 4);
    }
    weight->memory = device.allocate(uint64_t(weight->stack * weight->panels() * weight->panel_bytes), what);
    for (int64_t m = 0; m < weight->stack; ++m) copy_panels(device, file, tensor, control, m, *weight);
  }
  device.synchronize();  // other models' streams may read it from now on
  weight->bytes = weight->memory.bytes();
  return weight;
}

}  // namespace inhouse::cuda
