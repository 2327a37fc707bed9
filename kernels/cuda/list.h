// Every kernel that the CUDA image holds: KERNEL(name, type of its arguments, threads of a block, body). The
// image (kernels.cu) and the host's twin (test/native/cuda_twin) are made from this list; the backend finds
// kernels by name, "inhouse_" and what stands here, which ends in the numbers of a template's arguments.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cache.h"
#include "kernels/cuda/probe.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/routing.h"
#include "kernels/cuda/rows.h"

// clang-format off
#define INHOUSE_CUDA_PRODUCTS(KERNEL, F) \
  KERNEL(product_##F##_1, ProductArgs, kProductThreads, product<F, 1>) \
  KERNEL(product_##F##_2, ProductArgs, kProductThreads, product<F, 2>) \
  KERNEL(product_##F##_4, ProductArgs, kProductThreads, product<F, 4>) \
  KERNEL(product_##F##_8, ProductArgs, kProductThreads, product<F, 8>) \
  KERNEL(embed_##F, EmbedArgs, kRowThreads, embed<F>)

#define INHOUSE_CUDA_ATTENTION(KERNEL, K, V, DV) \
  KERNEL(attention_##K##_##V##_##DV, AttentionArgs, kWarp, attention<CudaCache(K), CudaCache(V), DV>)
#define INHOUSE_CUDA_ATTENTIONS(KERNEL, DV) \
  INHOUSE_CUDA_ATTENTION(KERNEL, 0, 0, DV) \
  INHOUSE_CUDA_ATTENTION(KERNEL, 0, 1, DV) \
  INHOUSE_CUDA_ATTENTION(KERNEL, 1, 0, DV) \
  INHOUSE_CUDA_ATTENTION(KERNEL, 1, 1, DV) \
  KERNEL(combine_attention_##DV, AttentionArgs, kWarp, combine_attention<DV>)

#define INHOUSE_CUDA_KERNELS(KERNEL) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 0) INHOUSE_CUDA_PRODUCTS(KERNEL, 1) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 2) INHOUSE_CUDA_PRODUCTS(KERNEL, 3) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 4) INHOUSE_CUDA_PRODUCTS(KERNEL, 5) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 6) INHOUSE_CUDA_PRODUCTS(KERNEL, 7) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 8) INHOUSE_CUDA_PRODUCTS(KERNEL, 9) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 10) INHOUSE_CUDA_PRODUCTS(KERNEL, 11) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 12) INHOUSE_CUDA_PRODUCTS(KERNEL, 13) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 14) INHOUSE_CUDA_PRODUCTS(KERNEL, 15) \
  INHOUSE_CUDA_PRODUCTS(KERNEL, 16) INHOUSE_CUDA_PRODUCTS(KERNEL, 17) \
  INHOUSE_CUDA_ATTENTIONS(KERNEL, 32) INHOUSE_CUDA_ATTENTIONS(KERNEL, 64) \
  INHOUSE_CUDA_ATTENTIONS(KERNEL, 96) INHOUSE_CUDA_ATTENTIONS(KERNEL, 128) \
  INHOUSE_CUDA_ATTENTIONS(KERNEL, 192) INHOUSE_CUDA_ATTENTIONS(KERNEL, 256) \
  KERNEL(store_k_0, StoreArgs, kStoreThreads, store<CudaCache::f16, false>) \
  KERNEL(store_v_0, StoreArgs, kStoreThreads, store<CudaCache::f16, true>) \
  KERNEL(store_k_1, StoreArgs, kStoreThreads, store<CudaCache::q8_0, false>) \
  KERNEL(store_v_1, StoreArgs, kStoreThreads, store<CudaCache::q8_0, true>) \
  KERNEL(rms_norm, NormArgs, kRowThreads, rms_norm) \
  KERNEL(convert, ConvertArgs, kRowThreads, convert) \
  KERNEL(rope_table, RopeTableArgs, kRopeTableThreads, rope_table) \
  KERNEL(rope, RopeArgs, kRowThreads, rope) \
  KERNEL(gated_silu, ElementArgs, kRowThreads, gated_silu) \
  KERNEL(gated_gelu, ElementArgs, kRowThreads, gated_gelu) \
  KERNEL(add_scaled, ElementArgs, kRowThreads, add_scaled) \
  KERNEL(softcap, ElementArgs, kRowThreads, softcap) \
  KERNEL(gather, GatherArgs, kRowThreads, gather) \
  KERNEL(choose_experts, ChooseArgs, kRoutingThreads, choose_experts) \
  KERNEL(sort_by_expert, SortArgs, kRoutingThreads, sort_by_expert) \
  KERNEL(combine_experts, CombineArgs, kRowThreads, combine_experts) \
  KERNEL(probe_read, ProbeArgs, kProbeThreads, probe_read) \
  KERNEL(probe_multiply, ProbeArgs, kProbeThreads, probe_multiply)
// clang-format on
