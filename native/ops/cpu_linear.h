// The products of a forward pass on the CPU: activation quantization, work distribution, kernels.
#pragma once

#include <span>
#include <vector>

#include "native/ops/cpu_weight.h"
#include "native/ops/routing.h"

namespace inhouse {

class CpuLinear {
 public:
  CpuLinear(const kernels::Kernels& kernels, int32_t threads);
  ~CpuLinear();
  void run(const float* x, int64_t rows, std::span<const Projection> outs, Place place) {
    const RowGroup all[] = {{0, 0, rows}};
    run(x, rows, {}, all, outs, place);
  }
  // Each group of rows meets a matrix of its own in every projection's stack. places [rows, copies]: where
  // the copies of each row of x stand among the groups' rows; empty: the rows of x are the groups' rows. With
  // places, weights must be packed ones.
  void run(const float* x, int64_t rows, std::span<const int32_t> places, std::span<const RowGroup> groups,
           std::span<const Projection> outs, Place place);

 private:
  struct Job;
  struct Extras;
  void quantize(const float* x, int64_t rows, std::span<const int32_t> places, int64_t cols, int planes,
                std::span<Extras> extras);
  uint64_t cut(Job& job, int64_t item_bytes) const;
  void work(const Job& job, int64_t item, uint8_t* scratch) const;

  const kernels::Kernels& kernels_;
  int32_t threads_;
  // Reused from call to call: quantized activations and a piece of scratch per worker.
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<int16_t> sums_;
  std::vector<int32_t> extras_;
  std::vector<Job> jobs_;
  std::vector<std::vector<uint8_t>> scratch_;
};

// Planes of 8 bits (1 or 2) that the activations of a layer get: the one place where precision is decided.
int activation_planes(Place place, const kernels::PackedType& type);

}  // namespace inhouse
