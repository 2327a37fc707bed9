#include "kernels/quant/types.h"

#include "kernels/quant/decode.h"

namespace inhouse::kernels {
namespace {

#define TYPE(id, name, elements, bytes) \
  constexpr QuantType type_##id = {TypeId::id, name, elements, bytes, decode_##id}
TYPE(f32, "F32", 1, 4);
TYPE(f16, "F16", 1, 2);
TYPE(bf16, "BF16", 1, 2);
TYPE(q4_0, "Q4_0", 32, 18);
TYPE(q4_1, "Q4_1", 32, 20);
TYPE(q5_0, "Q5_0", 32, 22);
TYPE(q5_1, "Q5_1", 32, 24);
TYPE(q8_0, "Q8_0", 32, 34);
TYPE(q2_k, "Q2_K", 256, 84);
TYPE(q3_k, "Q3_K", 256, 110);
TYPE(q4_k, "Q4_K", 256, 144);
TYPE(q5_k, "Q5_K", 256, 176);
TYPE(q6_k, "Q6_K", 256, 210);
TYPE(iq1_s, "IQ1_S", 256, 50);
TYPE(iq1_m, "IQ1_M", 256, 56);
TYPE(iq2_xxs, "IQ2_XXS", 256, 66);
TYPE(iq2_xs, "IQ2_XS", 256, 74);
TYPE(iq2_s, "IQ2_S", 256, 82);
TYPE(iq3_xxs, "IQ3_XXS", 256, 98);
TYPE(iq3_s, "IQ3_S", 256, 110);
TYPE(iq4_nl, "IQ4_NL", 32, 18);
TYPE(iq4_xs, "IQ4_XS", 256, 136);
TYPE(tq1_0, "TQ1_0", 256, 54);
TYPE(tq2_0, "TQ2_0", 256, 66);
TYPE(mxfp4, "MXFP4", 32, 17);
TYPE(nvfp4, "NVFP4", 64, 36);
#undef TYPE

constexpr const QuantType* all_types[] = {
    &type_f32,    &type_f16,     &type_bf16,   &type_q4_0,  &type_q4_1,    &type_q5_0,  &type_q5_1,
    &type_q8_0,   &type_q2_k,    &type_q3_k,   &type_q4_k,  &type_q5_k,    &type_q6_k,  &type_iq1_s,
    &type_iq1_m,  &type_iq2_xxs, &type_iq2_xs, &type_iq2_s, &type_iq3_xxs, &type_iq3_s, &type_iq4_nl,
    &type_iq4_xs, &type_tq1_0,   &type_tq2_0,  &type_mxfp4, &type_nvfp4,
};
constexpr uint32_t type_count = sizeof all_types / sizeof all_types[0];

}  // namespace

const QuantType* quant_type(uint32_t id) {
  for (const QuantType* type : all_types) {
    if (uint32_t(type->id) == id) return type;
  }
  return nullptr;
}

const QuantType* const* quant_types(uint32_t* count) {
  *count = type_count;
  return all_types;
}

}  // namespace inhouse::kernels
