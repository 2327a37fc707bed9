#include "native/ops/cuda/cache.h"

#include <cstring>
#include <vector>

#include "native/core/error.h"

namespace inhouse::cuda {
namespace {

using kernels::cuda::CudaCache;

CudaCache cache_type(KvType type, const char* which) {
  if (type == KvType::f16) return CudaCache::f16;
  if (type == KvType::q8_0) return CudaCache::q8_0;
  throw Error(Code::invalid_argument,
              std::string("kvType: device \"cuda\" keeps ") + which + " as \"f16\" or \"q8_0\"");
}

// One head's numbers of one token: in a block as the kernels have it, and as files have them.
template <bool TO_FILE, class Block, class File>
File* copy_row(CudaCache type, bool is_v, int64_t dims, int token, Block* block, File* file) {
  const auto copy = [](auto* in_block, auto* in_file, size_t bytes) {
    if constexpr (TO_FILE) {
      std::memcpy(in_file, in_block, bytes);
    } else {
      std::memcpy(in_block, in_file, bytes);
    }
  };
  const auto place = [&](int dim) {
    return is_v ? kernels::cuda::v_place(type, dims, dim, token)
                : kernels::cuda::k_place(type, dims, dim, token);
  };
  if (type == CudaCache::f16) {
    for (int dim = 0; dim < dims; ++dim, file += 2) copy(block + place(dim).number, file, 2);
    return file;
  }
  for (int first = 0; first < dims; first += 32) {  // a block of Q8_0
    copy(block + place(first).scale, file, 2);
    file += 2;
    for (int dim = first; dim < first + 32; ++dim, ++file) copy(block + place(dim).number, file, 1);
  }
  return file;
}

}  // namespace

CudaKvPool::CudaKvPool(std::shared_ptr<Device> device, const KvGroupSpec& wanted, int32_t count)
    : device_(std::move(device)) {
  spec = wanted;
  blocks = count;
  k_type = cache_type(spec.type_k, "K");
  v_type = cache_type(spec.type_v, "V");
  v_offset_ = kernels::cuda::cuda_cache_bytes(k_type, spec.head_dim_k);
  block_stride_ = v_offset_ + kernels::cuda::cuda_cache_bytes(v_type, spec.head_dim_v);
  if (double(spec.layers) * spec.kv_heads * double(head_stride()) > 1e15)
    throw Error(Code::out_of_memory, "the KV cache is larger than any memory");
  bytes = uint64_t(int64_t(spec.layers) * spec.kv_heads * head_stride());
  memory_ = device_->allocate(bytes, "the KV cache");
}

void CudaKvPool::export_block(int32_t block, uint8_t* out) const {
  std::vector<std::vector<uint8_t>> heads(size_t(spec.kv_heads), std::vector<uint8_t>(size_t(block_stride_)));
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    for (int32_t h = 0; h < spec.kv_heads; ++h)
      device_->copy_out(heads[size_t(h)].data(), address(layer, h, block), uint64_t(block_stride_));
    for (int token = 0; token < kKvBlockTokens; ++token)
      for (auto& head : heads) out = copy_row<true>(k_type, false, spec.head_dim_k, token, head.data(), out);
    for (int token = 0; token < kKvBlockTokens; ++token)
      for (auto& head : heads)
        out = copy_row<true>(v_type, true, spec.head_dim_v, token, head.data() + v_offset_, out);
  }
}

void CudaKvPool::import_block(int32_t block, const uint8_t* in) {
  std::vector<std::vector<uint8_t>> heads(size_t(spec.kv_heads), std::vector<uint8_t>(size_t(block_stride_)));
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    for (int token = 0; token < kKvBlockTokens; ++token)
      for (auto& head : heads) in = copy_row<false>(k_type, false, spec.head_dim_k, token, head.data(), in);
    for (int token = 0; token < kKvBlockTokens; ++token)
      for (auto& head : heads)
        in = copy_row<false>(v_type, true, spec.head_dim_v, token, head.data() + v_offset_, in);
    for (int32_t h = 0; h < spec.kv_heads; ++h)
      device_->copy_in(address(layer, h, block), heads[size_t(h)].data(), uint64_t(block_stride_));
  }
}

}  // namespace inhouse::cuda
