// Qwen3: Llama's block with split rope, RMS norms on each head of Q and K, and no biases; its mixtures of
// experts have a router and experts in place of every feed-forward layer (Qwen Team, "Qwen3 Technical
// Report", 2025).
#include "native/model/arch/arch.h"

namespace inhouse::arch {

void read_qwen3(const GgufFile&, HyperParameters& hyper) {
  hyper.rope_style = RopeStyle::split;
  hyper.activation = Activation::silu;
  hyper.qk_norm = true;
}

void read_qwen3moe(const GgufFile& file, HyperParameters& hyper) {
  read_qwen3(file, hyper);
  read_experts(file, hyper);
}

}  // namespace inhouse::arch
