#include "native/addon/model.h"

#include <optional>

#include "native/addon/arguments.h"
#include "native/addon/engine.h"
#include "native/addon/environment.h"
#include "native/addon/file.h"
#include "native/addon/load.h"
#include "native/addon/session.h"

namespace inhouse::addon {
namespace {

// JavaScript's handle of a load; its cancel function is all it can do.
Napi::Value cancel_function(Napi::Env env, const std::shared_ptr<Load>& load) {
  return Napi::Function::New(
      env,
      [weak = std::weak_ptr<Load>(load)](const Napi::CallbackInfo&) {
        if (const auto alive = weak.lock()) alive->stop();
      },
      "cancelLoad");
}

ModelOptions read_model_options(std::shared_ptr<const GgufFile> file, Napi::Object object) {
  ModelOptions options;
  options.file = std::move(file);
  const std::string device = string_field(object, "device");
  if (device != "cpu" && device != "cuda" && device != "reference")
    throw Error(Code::invalid_argument, "device must be \"cpu\", \"cuda\" or \"reference\"");
  options.device = device == "cpu" ? Device::cpu : device == "cuda" ? Device::cuda : Device::reference;
  options.cuda.device = int32_t(integer_field(object, "cudaDevice", 0, 1024));
  options.cuda.image = string_field(object, "cudaImage");
  options.cuda.driver = string_field(object, "cudaDriver");
  options.cpu.threads = int32_t(integer_field(object, "threads", 0, 512));
  options.cpu.instruction_set = string_field(object, "instructionSet");
  options.cpu.repack = bool_field(object, "repack");
  options.cpu.lock_memory = bool_field(object, "lockMemory");
  return options;
}

const char* pooling_name(Pooling pooling) {
  switch (pooling) {
    case Pooling::none:
      return "none";
    case Pooling::mean:
      return "mean";
    case Pooling::cls:
      return "cls";
    case Pooling::last:
      return "last";
    case Pooling::rank:
      return "rank";
  }
  return "none";
}

// Empty: the device's own choice.
std::optional<KvType> kv_type(const std::string& name) {
  if (name.empty()) return std::nullopt;
  if (name == "f32") return KvType::f32;
  if (name == "f16") return KvType::f16;
  if (name == "q8_0") return KvType::q8_0;
  if (name == "q4_0") return KvType::q4_0;
  throw Error(Code::invalid_argument, "kvType must be \"f32\", \"f16\", \"q8_0\" or \"q4_0\"");
}

EngineOptions read_engine_options(Napi::Object object) {
  EngineOptions options;
  options.context_length = int32_t(integer_field(object, "contextLength", 0, 1 << 20));
  options.max_concurrent = int32_t(integer_field(object, "maxConcurrent", 1, 1024));
  options.max_queue = int32_t(integer_field(object, "maxQueue", 0, 1'000'000));
  options.max_batch_tokens = int32_t(integer_field(object, "maxBatchTokens", 1, 65'536));
  options.max_slowdown = number_field(object, "maxSlowdown");
  options.kv_tokens = integer_field(object, "kvTokens", 0, INT32_MAX);
  options.kv_bytes = uint64_t(integer_field(object, "kvMemory", 0, int64_t{1} << 53));
  options.draft_tokens = int32_t(integer_field(object, "draftTokens", 1, 64));
  options.kv_type_k = kv_type(string_field(object, "kvTypeK"));
  options.kv_type_v = kv_type(string_field(object, "kvTypeV"));
  return options;
}

Vocabulary read_vocabulary(Napi::Object object) {
  Vocabulary vocabulary;
  vocabulary.bytes = uint8_elements(object.Get("bytes"), "vocabulary.bytes");
  vocabulary.offsets = uint32_elements(object.Get("offsets"), "vocabulary.offsets");
  uint32_t before = 0;
  for (const uint32_t offset : vocabulary.offsets) {
    if (offset < before || offset > vocabulary.bytes.size())
      throw Error(Code::invalid_argument, "vocabulary.offsets must rise and stay within vocabulary.bytes");
    before = offset;
  }
  return vocabulary;
}

}  // namespace

ModelObject::ModelObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ModelObject>(info), jobs_(Environment::of(info.Env()).jobs) {}

ModelObject::~ModelObject() {
  jobs_->retire(std::move(model_));
}

Napi::Function ModelObject::define(Napi::Env env) {
  return DefineClass(env, "NativeModel",
                     {InstanceMethod<&ModelObject::describe>("describe"),
                      InstanceMethod<&ModelObject::create_engine>("createEngine"),
                      InstanceMethod<&ModelObject::release>("release")});
}

Napi::Value ModelObject::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    auto& environment = Environment::of(env);
    const Napi::Object file = object_argument(info, 0);
    if (!file.InstanceOf(environment.file_class.Value()))
      throw Error(Code::invalid_argument, "the file must be one that openFile gave");
    ModelOptions options = read_model_options(FileObject::Unwrap(file)->opened(), object_argument(info, 1));
    const Napi::Function on_progress = function_argument(info, 2);
    const Napi::Function on_end = function_argument(info, 3);
    const auto load =
        std::make_shared<Load>(environment.mailbox, environment.jobs,
                               environment.callbacks->keep(on_progress), environment.callbacks->keep(on_end));
    environment.jobs->add(load);
    const Napi::Value cancel = cancel_function(env, load);
    std::function<void()> work = [load, options = std::move(options)]() mutable {
      load->run(options);
      options.file.reset();
    };
    environment.mailbox->hold(env);
    environment.jobs->run(std::move(work));
    return cancel;
  });
}

const std::shared_ptr<Model>& ModelObject::model() const {
  if (!model_) throw Error(Code::disposed, "the model was disposed of");
  return model_;
}

Napi::Value ModelObject::describe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const HyperParameters& hyper = model()->hyper();
    auto object = Napi::Object::New(env);
    object.Set("architecture", Napi::String::New(env, hyper.architecture));
    object.Set("parameters", Napi::Number::New(env, double(model()->parameters())));
    object.Set("weightBytes", Napi::Number::New(env, double(model()->weight_bytes())));
    object.Set("trainedContextLength", Napi::Number::New(env, hyper.trained_context));
    object.Set("vocabularySize", Napi::Number::New(env, hyper.vocabulary));
    object.Set("layers", Napi::Number::New(env, hyper.layers));
    object.Set("embeddingLength", Napi::Number::New(env, hyper.width));
    object.Set("pooling", Napi::String::New(env, pooling_name(hyper.pooling)));
    object.Set("device", Napi::String::New(env, model()->backend().name()));
    object.Set("deviceDescription", Napi::String::New(env, model()->backend().description()));
    return object;
  });
}

Napi::Value ModelObject::create_engine(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    auto& environment = Environment::of(env);
    const auto vocabulary = std::make_shared<Vocabulary>(read_vocabulary(object_argument(info, 0)));
    EngineOptions options = read_engine_options(object_argument(info, 1));
    if (!info[4].IsUndefined()) {
      const Napi::Object draft = object_argument(info, 4);
      if (!draft.InstanceOf(environment.model_class.Value()))
        throw Error(Code::invalid_argument, "the draft must be one that loadModel gave");
      options.draft = Unwrap(draft)->model();
    }
    const Napi::Function on_events = function_argument(info, 2);
    const Napi::Function on_ready = function_argument(info, 3);
    const auto session =
        std::make_shared<Session>(environment.mailbox, environment.jobs,
                                  environment.callbacks->keep(on_events), model()->hyper().vocabulary);
    environment.jobs->add(session);
    run_task(
        env, on_ready,
        [session, options, vocabulary, model = model()]() mutable {
          session->start(std::move(model), std::move(*vocabulary), options);
          options.draft.reset();
        },
        [session](Napi::Env later) { return EngineObject::wrap(later, session); });
    return env.Undefined();
  });
}

Napi::Value ModelObject::release(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    jobs_->retire(std::move(model_));
    return info.Env().Undefined();
  });
}

}  // namespace inhouse::addon
