#include "native/addon/adapter.h"

#include <atomic>
#include <climits>

#include "native/addon/arguments.h"
#include "native/addon/environment.h"

namespace inhouse::addon {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 53;

class AdapterLoad final : public Stoppable {
 public:
  std::atomic<bool> cancelled{false};
  std::shared_ptr<const Adapter> adapter;  // once it has ended
  void stop() noexcept override { cancelled = true; }
};

LoraTarget target_field(Napi::Object object) {
  const std::string name = string_field(object, "target");
  constexpr const char* names[] = {"q", "k", "v", "output", "gate", "up", "down", "head"};
  for (int i = 0; i < int(std::size(names)); ++i)
    if (name == names[i]) return LoraTarget(i);
  throw Error(Code::invalid_argument, "target must name a linear layer");
}

Napi::Object object_field(Napi::Object object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsObject()) throw Error(Code::invalid_argument, std::string(name) + " must be an object");
  return value.As<Napi::Object>();
}

SafetensorsEntry read_entry(Napi::Object object) {
  SafetensorsEntry entry;
  entry.name = string_field(object, "name");
  entry.type = string_field(object, "type");
  entry.rows = integer_field(object, "rows", 0, INT_MAX);
  entry.cols = integer_field(object, "cols", 0, INT_MAX);
  entry.offset = uint64_t(integer_field(object, "offset", 0, kMaxBytes));
  return entry;
}

std::vector<SafetensorsPair> read_pairs(Napi::Value value) {
  if (!value.IsArray()) throw Error(Code::invalid_argument, "pairs must be an array or null");
  const auto array = value.As<Napi::Array>();
  std::vector<SafetensorsPair> pairs;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value item = array[i];
    if (!item.IsObject()) throw Error(Code::invalid_argument, "pairs must be an array of objects");
    const auto object = item.As<Napi::Object>();
    SafetensorsPair& pair = pairs.emplace_back();
    pair.layer = int32_t(integer_field(object, "layer", 0, INT_MAX));
    pair.target = target_field(object);
    pair.scale = number_field(object, "scale");
    pair.a = read_entry(object_field(object, "a"));
    pair.b = read_entry(object_field(object, "b"));
  }
  return pairs;
}

}  // namespace

Napi::Function AdapterObject::define(Napi::Env env) {
  return DefineClass(env, "NativeAdapter",
                     {InstanceMethod<&AdapterObject::describe>("describe"),
                      InstanceMethod<&AdapterObject::release>("release")});
}

AdapterObject::AdapterObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<AdapterObject>(info), jobs_(Environment::of(info.Env()).jobs) {}

AdapterObject::~AdapterObject() {
  jobs_->retire(std::const_pointer_cast<Adapter>(std::move(adapter_)));
}

Napi::Value AdapterObject::load(Napi::Env env, std::shared_ptr<const Model> model, Napi::Object source,
                                Napi::Function callback) {
  const std::string path = string_field(source, "path");
  const bool gguf = source.Get("pairs").IsNull();
  const auto file_bytes = uint64_t(gguf ? 0 : integer_field(source, "fileBytes", 0, kMaxBytes));
  std::vector<SafetensorsPair> pairs;
  if (!gguf) pairs = read_pairs(source.Get("pairs"));
  const auto state = std::make_shared<AdapterLoad>();
  Environment::of(env).jobs->add(state);
  run_task(
      env, callback,
      [state, model = std::move(model), path, gguf, file_bytes, pairs = std::move(pairs)] {
        LoadControl control;
        control.cancelled = &state->cancelled;
        control.check();
        state->adapter = Adapter::load(
            model,
            gguf ? gguf_adapter(GgufFile::open(path), *model) : safetensors_adapter(path, file_bytes, pairs),
            control);
      },
      [state](Napi::Env later) -> Napi::Value {
        const Napi::Object object = Environment::of(later).adapter_class.New({});
        Unwrap(object)->adapter_ = std::move(state->adapter);
        return object;
      });
  return Napi::Function::New(
      env,
      [weak = std::weak_ptr<AdapterLoad>(state)](const Napi::CallbackInfo&) {
        if (const auto alive = weak.lock()) alive->stop();
      },
      "cancelLoad");
}

std::shared_ptr<const Adapter> AdapterObject::of(Napi::Value value) {
  const Napi::Env env = value.Env();
  const bool ours =
      value.IsObject() && value.As<Napi::Object>().InstanceOf(Environment::of(env).adapter_class.Value());
  if (!ours) throw Error(Code::invalid_argument, "the adapter must be one that loadAdapter gave");
  const auto& adapter = Unwrap(value.As<Napi::Object>())->adapter_;
  if (!adapter) throw Error(Code::disposed, "the adapter was disposed of");
  return adapter;
}

Napi::Value AdapterObject::describe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    if (!adapter_) throw Error(Code::disposed, "the adapter was disposed of");
    auto object = Napi::Object::New(env);
    object.Set("rank", Napi::Number::New(env, adapter_->rank()));
    object.Set("bytes", Napi::Number::New(env, double(adapter_->bytes())));
    return object;
  });
}

Napi::Value AdapterObject::release(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    jobs_->retire(std::const_pointer_cast<Adapter>(std::move(adapter_)));
    return info.Env().Undefined();
  });
}

}  // namespace inhouse::addon
