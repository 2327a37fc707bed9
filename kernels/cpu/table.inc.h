// The op table of one instruction set: include after its simd_*.h and dot_*.h.
#include "kernels/kernels.h"
#include "kernels/quant/half.h"
//
#include "kernels/cpu/product.inc.h"
#include "kernels/cpu/vector_ops.inc.h"
//
#include "kernels/cpu/attention.inc.h"
#include "kernels/cpu/dense.inc.h"
#include "kernels/cpu/probe.inc.h"

namespace inhouse::kernels {
namespace {

#define INHOUSE_EACH_FORMAT(X) \
  X(0), X(1), X(2), X(3), X(4), X(5), X(6), X(7), X(8), X(9), X(10), X(11), X(12), X(13), X(14), X(15)
static_assert(kFormats == 16);
#define INHOUSE_FEW(i) few<packed_formats[i]>
#define INHOUSE_MANY(i) many<packed_formats[i]>
#define INHOUSE_CACHE_TYPES(f) f<CacheType::f32>, f<CacheType::f16>, f<CacheType::q8_0>, f<CacheType::q4_0>
#define INHOUSE_ATTENTION(k)                                                                   \
  {                                                                                            \
    attention<k, CacheType::f32>, attention<k, CacheType::f16>, attention<k, CacheType::q8_0>, \
        attention<k, CacheType::q4_0>                                                          \
  }
static_assert(int(CacheType::count) == 4);
#define INHOUSE_DENSE_PROBES(type)                                                         \
  probe_dense<type, 4>, probe_dense<type, 6>, probe_dense<type, 8>, probe_dense<type, 12>, \
      probe_dense<type, 16>

constexpr Kernels table(const char* name, const char* title) {
  return {
      .name = name,
      .title = title,
      .full_zero_point = kFullZeroPoint,
      .quantize = quantize,
      .few_rows = kFewRows,
      .few = {INHOUSE_EACH_FORMAT(INHOUSE_FEW)},
      .many = {INHOUSE_EACH_FORMAT(INHOUSE_MANY)},
      .dense = {dense<DenseType::f32>, dense<DenseType::f16>, dense<DenseType::bf16>},
      .rms_norm = rms_norm,
      .rope = rope,
      .silu = silu,
      .gelu_tanh = gelu_tanh,
      .add = add_to,
      .add_scaled = add_scaled,
      .softcap = softcap,
      .store_k = {INHOUSE_CACHE_TYPES(store_k)},
      .store_v = {INHOUSE_CACHE_TYPES(store_v)},
      .attention = {INHOUSE_ATTENTION(CacheType::f32), INHOUSE_ATTENTION(CacheType::f16),
                    INHOUSE_ATTENTION(CacheType::q8_0), INHOUSE_ATTENTION(CacheType::q4_0)},
      .attention_merge = attention_merge,
      .attention_finish = attention_finish,
      .probe_read = {probe_read<1>, probe_read<2>, probe_read<4>, probe_read<8>},
      .probe_dot = {probe_dot<4>, probe_dot<6>, probe_dot<8>, probe_dot<12>, probe_dot<16>},
      .probe_fma = {INHOUSE_DENSE_PROBES(DenseType::f32)},
      .probe_bf16 = {INHOUSE_DENSE_PROBES(kBf16Probe)},
  };
}

}  // namespace
}  // namespace inhouse::kernels
