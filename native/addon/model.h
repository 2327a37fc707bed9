// Loading a model, and the loaded model as JavaScript holds it.
#pragma once

#include <napi.h>

#include <memory>

#include "native/addon/jobs.h"
#include "native/model/model.h"

namespace inhouse::addon {

class ModelObject : public Napi::ObjectWrap<ModelObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit ModelObject(const Napi::CallbackInfo& info);
  ~ModelObject() override;

  // loadModel(file, options, onProgress(loaded bytes), onEnd(error, model)) → a function that cancels the
  // load
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  // {architecture, parameters, weightBytes, trainedContextLength, vocabularySize, layers, embeddingLength,
  // pooling, device, deviceDescription}
  Napi::Value describe(const Napi::CallbackInfo& info);
  // createEngine(vocabulary, options, onEvents(events), onReady(error, engine), draft or undefined)
  Napi::Value create_engine(const Napi::CallbackInfo& info);
  // Lets go of the model; its memory is freed on another thread once the last engine has let go of it too.
  Napi::Value release(const Napi::CallbackInfo& info);

  friend class Load;
  const std::shared_ptr<Model>& model() const;
  const std::shared_ptr<JobGroup> jobs_;
  std::shared_ptr<Model> model_;
};

}  // namespace inhouse::addon
