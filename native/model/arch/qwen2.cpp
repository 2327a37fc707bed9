// Qwen2 and Qwen2.5: Llama's block with split rope and biases on Q, K and V.
#include "native/model/arch/arch.h"

namespace inhouse::arch {

void read_qwen2(const GgufFile&, HyperParameters& hyper) {
  hyper.rope_style = RopeStyle::split;
  hyper.activation = Activation::silu;
  hyper.qkv_bias = true;
}

}  // namespace inhouse::arch
