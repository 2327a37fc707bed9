#include "native/addon/machine.h"

#include "kernels/kernels.h"
#include "native/addon/environment.h"
#include "native/core/thread_pool.h"
#include "native/platform/platform.h"

namespace inhouse::addon {

Napi::Value machine(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    int count = 0;
    const kernels::Implementation* all = kernels::implementations(&count);
    auto sets = Napi::Array::New(env, size_t(count));
    for (int i = 0; i < count; ++i) {
      auto set = Napi::Object::New(env);
      set.Set("name", all[i].kernels->name);
      set.Set("title", all[i].kernels->title);
      set.Set("supported", all[i].supported);
      sets.Set(uint32_t(i), set);
    }
    const platform::MemoryInfo memory = platform::memory_info();
    auto object = Napi::Object::New(env);
    object.Set("instructionSets", sets);
    object.Set("processors", ThreadPool::available());
    object.Set("memoryTotal", double(memory.total));
    object.Set("memoryAvailable", double(memory.available));
    return object;
  });
}

}  // namespace inhouse::addon
