// The forward pass: one decoder block for all architectures, as a list of op calls.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "native/model/adapter.h"
#include "native/model/model.h"

namespace inhouse {

class ForwardPass {
 public:
  // Holds activations for up to max_rows tokens a step and max_outputs rows of logits at a time.
  ForwardPass(const Model& model, int32_t max_rows, int32_t max_outputs);
  ~ForwardPass();
  ForwardPass(const ForwardPass&) = delete;
  ForwardPass& operator=(const ForwardPass&) = delete;

  // Runs all layers over the batch and keeps the hidden states of batch.outputs. pools: [kv groups]. Returns
  // false where `stop` became true between two layers; the step is then void.
  bool run(const Batch& batch, std::span<const std::unique_ptr<KvPool>> pools, const std::atomic<bool>& stop);

  // Logits [count, vocabulary] of outputs first … first + count - 1 of the last run; count <= max_outputs.
  // Valid until the next call.
  std::span<const float> logits(int32_t first, int32_t count);

  // Hidden states [count, width] of the same outputs, after the output norm. Valid until the next run.
  std::span<const float> hidden(int32_t first, int32_t count) const;

  int32_t max_outputs() const { return max_outputs_; }
  uint64_t bytes() const { return floats_ * sizeof(float); }
  // What a pass of these sizes allocates, in bytes. (A few megabytes more with the first adapter.)
  static uint64_t bytes_for(const Model& model, int32_t max_rows, int32_t max_outputs);

 private:
  struct Sizes;
  // Consecutive rows with one adapter at one scale.
  struct AdapterRows {
    const Adapter* adapter;
    float scale;
    int64_t row, count;
  };

  float* allocate(uint64_t floats);
  void find_adapters(const Batch& batch);
  void linear(const float* x, int64_t rows, std::span<const Projection> outs, Place place, int32_t layer);
  void adapt(const float* x, const AdapterRows& rows, std::span<const LoraPair> pairs,
             std::span<const Projection> outs, Place place);
  void attention(int32_t layer, KvPool& pool, const Batch& batch);
  void feed_forward(int32_t layer, int64_t rows);
  void keep_outputs(const Batch& batch);
  void add_branch(const Weight* post_norm, float* branch, int64_t rows);

  const Model& model_;
  Backend& ops_;
  int32_t max_outputs_;
  uint64_t floats_ = 0;
  std::vector<float*> buffers_;
  std::vector<AdapterRows> adapted_;          // of the rows at hand: the batch's, in the end its outputs
  std::vector<AdapterRows> adapted_outputs_;  // of the rows that are kept for the outputs
  std::vector<std::vector<float>> inverse_frequencies_;  // [ropes][rope_dims / 2]
  std::vector<float*> rope_tables_;                      // [ropes] of [rows, rope_dims]
  float* x_;                                             // [rows, width], the residual stream
  float* h_;                                             // [rows, width]
  float* q_;                                             // [rows, heads, head_dim]
  float* k_;                                             // [rows, kv_heads, head_dim]
  float* v_;                                             // [rows, kv_heads, head_dim_v]
  float* attended_;                                      // [rows, heads, head_dim_v]
  float* gate_;                                          // [rows, ffn_width], with experts [rows * used, …]
  float* up_;                                            // as gate
  float* router_;                                        // [rows, experts]
  float* down_;                                          // [rows * used, width], with experts
  float* kept_;    // room for the rows of x or attended that are kept for the outputs
  float* logits_;  // [max_outputs, vocabulary]
  // For adapters' intermediate results; made with the first adapter.
  float* adapter_scratch_ = nullptr;
  uint64_t adapter_floats_ = 0;
};

}  // namespace inhouse
