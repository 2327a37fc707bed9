// Loading an adapter, and the loaded adapter as JavaScript holds it.
#pragma once

#include <napi.h>

#include <memory>

#include "native/addon/jobs.h"
#include "native/model/adapter.h"

namespace inhouse::addon {

class AdapterObject : public Napi::ObjectWrap<AdapterObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit AdapterObject(const Napi::CallbackInfo& info);
  ~AdapterObject() override;

  // Loads what `source` describes for a model: {path, fileBytes, pairs}, where pairs is null for a GGUF file,
  // else what a safetensors file of fileBytes bytes holds, as lib/native.ts declares it. Calls
  // callback(error, adapter). Returns a function that cancels the load.
  static Napi::Value load(Napi::Env env, std::shared_ptr<const Model> model, Napi::Object source,
                          Napi::Function callback);

  // The adapter behind an object of this class; an Error where the value is none, or it was released.
  static std::shared_ptr<const Adapter> of(Napi::Value value);

 private:
  Napi::Value describe(const Napi::CallbackInfo& info);  // {rank, bytes}
  // Lets go of the adapter; requests that use it keep it until they end.
  Napi::Value release(const Napi::CallbackInfo& info);

  const std::shared_ptr<JobGroup> jobs_;
  std::shared_ptr<const Adapter> adapter_;
};

}  // namespace inhouse::addon
