#include "native/ops/backend.h"

#include "native/core/error.h"

namespace inhouse {

void LoadControl::check() const {
  if (cancelled && cancelled->load(std::memory_order_relaxed)) {
    throw Error(Code::aborted, "loading was cancelled");
  }
}

}  // namespace inhouse
