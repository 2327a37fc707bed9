// The weights of one file in one layout, shared by every model of this process that runs it, worker threads
// included: read once, freed with their last user.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "native/io/gguf.h"
#include "native/ops/backend.h"

namespace inhouse {

// One tensor that a model needs, and where the pointer to it goes.
struct WeightRequest {
  const TensorInfo* tensor;
  WeightUse use;
  const Weight** slot;
};

class WeightStore {
 public:
  // The process's store for this file's content and this layout; a new one where nobody holds it.
  static std::shared_ptr<WeightStore> shared(const GgufFile& file, const std::string& layout);

  // Fills every slot, reading what is not there yet. One caller reads at a time; the others wait and then
  // share. Where a load is cancelled, what it has read stays for the next.
  //
  // Throws out_of_memory, with `advice`, before reading where the weights take more than `available` bytes
  // (0: unknown, or nothing is copied): such a load would not fail, but the system would end a process to
  // make room. Throws file_changed where the file was written to since it was opened.
  void load(const GgufFile& file, Backend& backend, const std::vector<WeightRequest>& requests,
            uint64_t available, const char* advice, const LoadControl& control);

  uint64_t bytes() const;
  // Throws file_changed where a mapped file is no longer what it was.
  void check_mappings() const;

 private:
  mutable std::mutex mutex_;  // held while reading; guards what follows
  std::map<std::string, std::unique_ptr<Weight>> weights_;
  std::vector<std::shared_ptr<Mapping>> mappings_;  // distinct
};

}  // namespace inhouse
