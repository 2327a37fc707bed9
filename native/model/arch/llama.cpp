// Llama and the models that share its block (Llama 1–3, SmolLM2, Mistral 7B): interleaved rope (the converter
// permutes Q and K for it), SwiGLU, full attention in every layer.
#include "native/model/arch/arch.h"

namespace inhouse::arch {

void read_llama(const GgufFile&, HyperParameters& hyper) {
  hyper.rope_style = RopeStyle::interleaved;
  hyper.activation = Activation::silu;
}

}  // namespace inhouse::arch
