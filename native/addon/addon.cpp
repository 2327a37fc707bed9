// The Node-API binding: argument checks, callbacks and lifetimes over the core. lib/native.ts declares its
// types.
#include <napi.h>

#include "native/addon/adapter.h"
#include "native/addon/engine.h"
#include "native/addon/environment.h"
#include "native/addon/file.h"
#include "native/addon/limits.h"
#include "native/addon/machine.h"
#include "native/addon/model.h"
#include "native/platform/host.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace inhouse::addon;
  inhouse::platform::stay_loaded();
  auto environment = std::make_unique<Environment>(env);
  environment->file_class = Napi::Persistent(FileObject::define(env));
  environment->model_class = Napi::Persistent(ModelObject::define(env));
  environment->engine_class = Napi::Persistent(EngineObject::define(env));
  environment->adapter_class = Napi::Persistent(AdapterObject::define(env));
  env.SetInstanceData(environment.release());
  exports.Set("openFile", Napi::Function::New(env, FileObject::open, "openFile"));
  exports.Set("loadModel", Napi::Function::New(env, ModelObject::load, "loadModel"));
  exports.Set("version", INHOUSE_VERSION);
  exports.Set("machine", Napi::Function::New(env, machine, "machine"));
  exports.Set("measureLimits", Napi::Function::New(env, measure_limits, "measureLimits"));
  return exports;
}

NODE_API_MODULE(inhouse, init)
