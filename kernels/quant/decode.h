// The scalar decoders behind the table of types.cpp: `count` elements, whole blocks, to float32, with the
// float operations in the order that the format defines.
#pragma once

#include <cstdint>

namespace inhouse::kernels {

void decode_f32(const void* blocks, float* dst, int64_t count);
void decode_f16(const void* blocks, float* dst, int64_t count);
void decode_bf16(const void* blocks, float* dst, int64_t count);
void decode_q4_0(const void* blocks, float* dst, int64_t count);
void decode_q4_1(const void* blocks, float* dst, int64_t count);
void decode_q5_0(const void* blocks, float* dst, int64_t count);
void decode_q5_1(const void* blocks, float* dst, int64_t count);
void decode_q8_0(const void* blocks, float* dst, int64_t count);
void decode_q2_k(const void* blocks, float* dst, int64_t count);
void decode_q3_k(const void* blocks, float* dst, int64_t count);
void decode_q4_k(const void* blocks, float* dst, int64_t count);
void decode_q5_k(const void* blocks, float* dst, int64_t count);
void decode_q6_k(const void* blocks, float* dst, int64_t count);
void decode_iq1_s(const void* blocks, float* dst, int64_t count);
void decode_iq1_m(const void* blocks, float* dst, int64_t count);
void decode_iq2_xxs(const void* blocks, float* dst, int64_t count);
void decode_iq2_xs(const void* blocks, float* dst, int64_t count);
void decode_iq2_s(const void* blocks, float* dst, int64_t count);
void decode_iq3_xxs(const void* blocks, float* dst, int64_t count);
void decode_iq3_s(const void* blocks, float* dst, int64_t count);
void decode_iq4_nl(const void* blocks, float* dst, int64_t count);
void decode_iq4_xs(const void* blocks, float* dst, int64_t count);
void decode_tq1_0(const void* blocks, float* dst, int64_t count);
void decode_tq2_0(const void* blocks, float* dst, int64_t count);
void decode_mxfp4(const void* blocks, float* dst, int64_t count);
void decode_nvfp4(const void* blocks, float* dst, int64_t count);

// Encodes `count` elements (a multiple of 32) to Q8_0: a scale of the greatest magnitude over 127, values
// rounded to nearest, ties away from zero. A block that holds NaN or infinity gets a NaN scale, so that it
// stays visible.
void encode_q8_0(const float* src, void* blocks, int64_t count);
// The same to Q4_0: the scale is the value of greatest magnitude (the first of several) over -8, codes are 8
// more than the value over the scale, rounded to nearest, ties up, and at most 15.
void encode_q4_0(const float* src, void* blocks, int64_t count);

}  // namespace inhouse::kernels
