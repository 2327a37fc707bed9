// The kernels of the CUDA image, a line each: name, threads of a block, bytes of shared memory that the
// backend asks for (of attention: with keys as wide as values). scripts/cuda-kernels.mjs puts beside it what
// the compiler made.
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/list.h"

using namespace inhouse::kernels::cuda;

namespace {

// The numbers that a name ends in.
std::vector<int> numbers_of(const std::string& name) {
  std::vector<int> numbers;
  for (size_t at = name.find('_'); at != std::string::npos; at = name.find('_', at + 1))
    if (name[at + 1] >= '0' && name[at + 1] <= '9') numbers.push_back(std::stoi(name.substr(at + 1)));
  return numbers;
}

uint32_t shared_bytes(const std::string& name) {
  const std::vector<int> numbers = numbers_of(name);
  if (name.starts_with("product_")) return product_shared_bytes(numbers.back());
  if (name.starts_with("attention_")) return attention_shared_bytes(numbers.back(), numbers.back());
  if (name.starts_with("combine_attention_")) return combine_shared_bytes(numbers.back());
  return 0;
}

}  // namespace

int main() {
#define KERNEL(name, Args, threads, ...) \
  std::printf("%s %d %u\n", #name, int(threads), unsigned(shared_bytes(#name)));
  INHOUSE_CUDA_KERNELS(KERNEL)
#undef KERNEL
  return 0;
}
