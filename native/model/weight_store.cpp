#include "native/model/weight_store.h"

#include <algorithm>
#include <chrono>

namespace inhouse {

std::shared_ptr<WeightStore> WeightStore::shared(const GgufFile& file, const std::string& layout) {
  // Never destroyed: worker threads may still end while the process exits.
  static auto& mutex = *new std::mutex;
  static auto& stores = *new std::map<std::string, std::weak_ptr<WeightStore>>;
  const std::lock_guard lock(mutex);
  std::erase_if(stores, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<WeightStore>& entry = stores[layout + "|" + file.identity()];
  std::shared_ptr<WeightStore> store = entry.lock();
  if (!store) entry = store = std::make_shared<WeightStore>();
  return store;
}

void WeightStore::load(const GgufFile& file, Backend& backend, const std::vector<WeightRequest>& requests,
                       const LoadControl& control) {
  std::unique_lock lock(mutex_, std::defer_lock);
  while (!lock.try_lock_for(std::chrono::milliseconds(20))) control.check();
  for (const WeightRequest& request : requests) {
    std::unique_ptr<Weight>& weight = weights_[request.tensor->name];
    if (weight) {
      control.report(request.tensor->bytes);
    } else {
      weight = backend.load(file, *request.tensor, request.use, control);
      if (weight->mapping &&
          std::find(mappings_.begin(), mappings_.end(), weight->mapping) == mappings_.end()) {
        mappings_.push_back(weight->mapping);
      }
    }
    *request.slot = weight.get();
  }
}

uint64_t WeightStore::bytes() const {
  const std::lock_guard lock(mutex_);
  uint64_t sum = 0;
  for (const auto& [name, weight] : weights_) sum += weight ? weight->bytes : 0;
  return sum;
}

bool WeightStore::damaged() const {
  // No lock: models ask only after their load, when the list no longer changes for them; a second file of the
  // same identity adds no mapping.
  return std::any_of(mappings_.begin(), mappings_.end(),
                     [](const auto& mapping) { return mapping->damaged(); });
}

}  // namespace inhouse
