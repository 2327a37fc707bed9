#include "native/addon/limits.h"

#include <memory>

#include "native/addon/arguments.h"
#include "native/addon/environment.h"
#include "native/core/thread_pool.h"
#include "native/ops/cpu_kernels.h"
#include "native/ops/cpu_limits.h"

namespace inhouse::addon {

Napi::Value measure_limits(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object options = object_argument(info, 0);
    const kernels::Kernels& kernels = choose_kernels(string_field(options, "instructionSet"));
    const auto given = int32_t(integer_field(options, "threads", 0, 512));
    const int32_t threads = given > 0 ? given : ThreadPool::available();
    const auto limits = std::make_shared<CpuLimits>();
    run_task(
        info.Env(), function_argument(info, 1),
        [&kernels, threads, limits] { *limits = measure_cpu_limits(kernels, threads); },
        [limits](Napi::Env env) {
          auto object = Napi::Object::New(env);
          object.Set("readBytes", Napi::Number::New(env, limits->read_bytes));
          object.Set("dotMultiplyAdds", Napi::Number::New(env, limits->dot_multiply_adds));
          object.Set("floatMultiplyAdds", Napi::Number::New(env, limits->float_multiply_adds));
          object.Set("bf16MultiplyAdds", Napi::Number::New(env, limits->bf16_multiply_adds));
          return object;
        });
    return info.Env().Undefined();
  });
}

}  // namespace inhouse::addon
