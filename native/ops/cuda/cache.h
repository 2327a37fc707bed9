// The KV cache of the CUDA backend, in the layout of kernels/cuda/cache.h.
#pragma once

#include "kernels/cuda/layout.h"
#include "native/ops/backend.h"
#include "native/ops/cuda/device.h"

namespace inhouse::cuda {

// A pool block holds, for each layer and KV head, 32 tokens of K and then of V; blocks of one layer and head
// stand side by side.
class CudaKvPool final : public KvPool {
 public:
  CudaKvPool(std::shared_ptr<Device> device, const KvGroupSpec& wanted, int32_t count);
  int64_t block_stride() const { return block_stride_; }
  int64_t head_stride() const { return block_stride_ * blocks; }
  int64_t v_offset() const { return v_offset_; }
  uint8_t* layer(int32_t index) const {
    return memory_.as<uint8_t>(uint64_t(int64_t(index) * spec.kv_heads * head_stride()));
  }
  void export_block(int32_t block, uint8_t* out) const override;
  void import_block(int32_t block, const uint8_t* in) override;
  kernels::cuda::CudaCache k_type, v_type;

 private:
  Address address(int32_t layer, int32_t head, int32_t block) const {
    return memory_.address() +
           uint64_t((int64_t(layer) * spec.kv_heads + head) * head_stride() + block * block_stride_);
  }

  std::shared_ptr<Device> device_;
  int64_t v_offset_, block_stride_;
  Memory memory_;
};

}  // namespace inhouse::cuda
