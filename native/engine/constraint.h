// What a request's next token may be, beyond its settings: the way to structured output.
#pragma once

#include <cstdint>
#include <span>

namespace inhouse {

// The state of one request. Its calls come from one thread at a time, and each may throw.
class Constraint {
 public:
  virtual ~Constraint() = default;
  // Sets the bits of the tokens that may come next; bit i % 32 of word i / 32 is token i. All are 0 before.
  // Runs beside the forward pass that computes their logits. Where no token may come, the request fails with
  // invalid_argument.
  virtual void allow(std::span<uint32_t> mask) = 0;
  // The token that was drawn. Ends tokens are not told of.
  virtual void accept(int32_t token) = 0;
};

}  // namespace inhouse
