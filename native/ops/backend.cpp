#include "native/ops/backend.h"

#include "kernels/quant/blocks.h"
#include "native/core/error.h"

namespace inhouse {

namespace {

uint64_t row_bytes(KvType type, int32_t dims) {
  const uint64_t numbers = uint64_t(dims), groups = (numbers + 31) / 32;
  switch (type) {
    case KvType::f32:
      return numbers * 4;
    case KvType::f16:
      return numbers * 2;
    case KvType::q8_0:
      return groups * sizeof(kernels::BlockQ8_0);
    case KvType::q4_0:
      break;
  }
  return groups * sizeof(kernels::BlockQ4_0);
}

}  // namespace

uint64_t kv_block_file_bytes(const KvGroupSpec& spec) {
  const uint64_t token = row_bytes(spec.type_k, spec.head_dim_k) + row_bytes(spec.type_v, spec.head_dim_v);
  return uint64_t(spec.layers) * uint64_t(kKvBlockTokens) * uint64_t(spec.kv_heads) * token;
}

void LoadControl::check() const {
  if (cancelled && cancelled->load(std::memory_order_relaxed)) {
    throw Error(Code::aborted, "loading was cancelled");
  }
}

}  // namespace inhouse
