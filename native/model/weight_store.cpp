#include "native/model/weight_store.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "native/core/error.h"

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
                       uint64_t available, const char* advice, const LoadControl& control) {
  std::unique_lock lock(mutex_, std::defer_lock);
  while (!lock.try_lock()) {
    control.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  uint64_t missing = 0;
  for (const WeightRequest& request : requests) {
    const auto at = weights_.find(request.tensor->name);
    if (at == weights_.end() || !at->second) missing += request.tensor->bytes;
  }
  if (available > 0 && missing > available) {
    throw Error(Code::out_of_memory, "the weights of " + file.path() + " take " + megabytes(missing) +
                                         ", with " + megabytes(available) + " available; " + advice);
  }
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
  file.check_unchanged();
}

uint64_t WeightStore::bytes() const {
  const std::lock_guard lock(mutex_);
  uint64_t sum = 0;
  for (const auto& [name, weight] : weights_) sum += weight ? weight->bytes : 0;
  return sum;
}

void WeightStore::check_mappings() const {
  // No lock: models ask only after their load, when the list no longer changes for them; a second file of the
  // same identity adds no mapping.
  for (const auto& mapping : mappings_) mapping->check();
}

}  // namespace inhouse
