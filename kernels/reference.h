// Every op once more in plain C++ and float32: what the SIMD and CUDA kernels are tested against, and what
// the "reference" device computes with. Clear before fast; loops keep several sums only where that costs no
// clarity.
#pragma once

#include <cstdint>

namespace inhouse::kernels::reference {

// sum of a[i] * b[i]
float dot(const float* a, const float* b, int64_t count);

// out = x / sqrt(mean(x^2) + eps) * gain, over `width`; out may be x.
void rms_norm(const float* x, const float* gain, float eps, int64_t width, float* out);

// table [2 * half]: cos of position * inverse_frequencies[i] for i < half, then sin.
void rope_table(int32_t position, const float* inverse_frequencies, int64_t half, float* table);

// Rotates head [>= 2 * half] in place by `table`. interleaved: pairs (2i, 2i + 1), else (i, i + half).
void rope(float* head, const float* table, int64_t half, bool interleaved);

float silu(float x);
float gelu_tanh(
    float x);  // the tanh approximation of Hendrycks & Gimpel, "Gaussian Error Linear Units" (2016)
float softcap(float x, float cap);

// In place: exp(x - max) / sum over `count`.
void softmax(float* x, int64_t count);

// In place: x - log(sum(exp(x))), summed in double.
void log_softmax(float* x, int64_t count);

}  // namespace inhouse::kernels::reference
