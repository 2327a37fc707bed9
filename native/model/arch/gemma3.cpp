// Gemma 3 (text): RMS norms on each head of Q and K and after both halves of a block, GeGLU, embeddings
// scaled by the square root of the width, and five sliding-window layers with a rope base of their own for
// every full one (Gemma Team, "Gemma 3 Technical Report", 2025). The converter has added 1 to all norm gains.
#include <cmath>

#include "native/model/arch/arch.h"

namespace inhouse::arch {

void read_gemma3(const GgufFile& file, HyperParameters& hyper) {
  hyper.rope_style = RopeStyle::split;
  hyper.activation = Activation::gelu_tanh;
  hyper.qk_norm = true;
  hyper.post_norms = true;
  hyper.embedding_scale = std::sqrt(float(hyper.width));
  // The 27B model alone (62 layers) scales queries by the width per head; the format has no key for it.
  if (hyper.layers == 62) hyper.attention_scale = 1.0f / std::sqrt(float(hyper.width) / float(hyper.heads));

  const int32_t window = int32_t(file.get_uint("gemma3.attention.sliding_window", 1 << 30));
  if (window == 0) return;
  const int32_t pattern = int32_t(file.get_uint("gemma3.attention.sliding_window_pattern", 1 << 20, 6));
  RopeConfig local;
  local.base = positive_float(file, "gemma3.rope.freq_base_swa", 10000.0);
  hyper.ropes.push_back(local);
  for (int32_t l = 0; l < hyper.layers; ++l) {
    if (pattern > 0 && (l + 1) % pattern == 0) continue;
    hyper.layer[size_t(l)].window = window;
    hyper.layer[size_t(l)].rope = 1;
  }
}

}  // namespace inhouse::arch
