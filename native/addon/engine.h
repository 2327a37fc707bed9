// An engine as JavaScript holds it.
#pragma once

#include <napi.h>

#include <memory>

#include "native/addon/environment.h"
#include "native/addon/session.h"

namespace inhouse::addon {

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Value wrap(Napi::Env env, std::shared_ptr<Session> session);
  explicit EngineObject(const Napi::CallbackInfo& info);
  ~EngineObject() override;

 private:
  // {contextLength, maxConcurrent, maxQueue, maxBatchTokens, kvTypeK, kvTypeV, kvBytes, activationBytes}
  Napi::Value describe(const Napi::CallbackInfo& info);
  // submit(prompt: Int32Array, spec) → request number
  Napi::Value submit(const Napi::CallbackInfo& info);
  // embed(tokens: Int32Array, ends: Uint32Array, spec) → request number
  Napi::Value embed(const Napi::CallbackInfo& info);
  Napi::Value cancel(const Napi::CallbackInfo& info);       // cancel(request)
  Napi::Value acknowledge(const Napi::CallbackInfo& info);  // acknowledge(request): drops its rows too
  Napi::Value provide(const Napi::CallbackInfo& info);
  Napi::Value pause(const Napi::CallbackInfo& info);
  Napi::Value resume(const Napi::CallbackInfo& info);
  Napi::Value forget(const Napi::CallbackInfo& info);  // forget({cacheScope, adapter, adapterScale})
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value rows(const Napi::CallbackInfo& info);  // rows(request, from, count) → Float32Array
  // loadAdapter(source, callback(error, adapter)) → a function that cancels the load; see AdapterObject::load
  Napi::Value load_adapter(const Napi::CallbackInfo& info);
  // saveState(path, {cacheScope, adapter, adapterScale, prompt, maxBytes}, callback(error, {blocks, bytes}))
  // → function that cancels it
  Napi::Value save_state(const Napi::CallbackInfo& info);
  Napi::Value load_state(const Napi::CallbackInfo& info);  // the same, without prompt and maxBytes
  Napi::Value transfer(const Napi::CallbackInfo& info, bool saves);
  // dispose(callback()): ends the engine on another thread; no event comes after the callback.
  Napi::Value dispose(const Napi::CallbackInfo& info);

  Session& session() const;
  const std::shared_ptr<Callbacks> callbacks_;
  std::shared_ptr<Session> session_;
};

}  // namespace inhouse::addon
