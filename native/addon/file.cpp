#include "native/addon/file.h"

#include "native/addon/arguments.h"
#include "native/addon/environment.h"
#include "native/model/hyperparameters.h"

namespace inhouse::addon {
namespace {

constexpr double kExact = 9007199254740992.0;  // 2^53

const GgufArray* array_of(const GgufValue& value) {
  const auto* pointer = std::get_if<std::shared_ptr<GgufArray>>(&value);
  return pointer != nullptr ? pointer->get() : nullptr;
}

Napi::Value to_js(Napi::Env env, const GgufValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return Napi::String::New(env, *text);
  if (const auto* flag = std::get_if<bool>(&value)) return Napi::Boolean::New(env, *flag);
  if (const auto* number = std::get_if<double>(&value)) return Napi::Number::New(env, *number);
  if (const auto* number = std::get_if<uint64_t>(&value)) {
    if (double(*number) < kExact) return Napi::Number::New(env, double(*number));
    return Napi::BigInt::New(env, *number);
  }
  if (const auto* number = std::get_if<int64_t>(&value)) {
    if (double(*number) > -kExact && double(*number) < kExact) return Napi::Number::New(env, double(*number));
    return Napi::BigInt::New(env, *number);
  }
  auto object = Napi::Object::New(env);
  if (const GgufArray* array = array_of(value)) {
    object.Set("type", Napi::Number::New(env, double(array->type)));
    object.Set("count", Napi::Number::New(env, double(array->count)));
  }
  return object;
}

struct Range {
  size_t from, to;
};
Range range_arguments(const Napi::CallbackInfo& info, size_t size) {
  const auto from = integer_argument(info, 0, 0, int64_t(size));
  return {size_t(from), size_t(integer_argument(info, 1, from, int64_t(size)))};
}

}  // namespace

Napi::Function FileObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeFile",
      {InstanceMethod<&FileObject::summary>("summary"), InstanceMethod<&FileObject::metadata>("metadata"),
       InstanceMethod<&FileObject::array>("array"), InstanceMethod<&FileObject::tensors>("tensors"),
       InstanceMethod<&FileObject::attention>("attention"), InstanceMethod<&FileObject::close>("close")});
}

Napi::Value FileObject::open(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string path = string_argument(info, 0);
    const std::vector<std::string> overrides = strings_field(object_argument(info, 1), "list");
    const auto file = std::make_shared<std::shared_ptr<GgufFile>>();
    run_task(
        info.Env(), function_argument(info, 2),
        [path, overrides, file] {
          *file = GgufFile::open(path);
          for (const auto& assignment : overrides) (*file)->override_metadata(assignment);
        },
        [file](Napi::Env env) -> Napi::Value {
          const Napi::Object object = Environment::of(env).file_class.New({});
          Unwrap(object)->file_ = *file;
          return object;
        });
    return info.Env().Undefined();
  });
}

const std::shared_ptr<const GgufFile>& FileObject::opened() const {
  if (!file_) throw Error(Code::disposed, "this file was closed");
  return file_;
}

const GgufFile& FileObject::file() const {
  return *opened();
}

Napi::Value FileObject::attention(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const HyperParameters hyper = read_hyperparameters(file());
    std::vector<int32_t> windows;
    for (const LayerConfig& layer : hyper.layer) windows.push_back(layer.window);
    auto object = Napi::Object::New(env);
    object.Set("heads", Napi::Number::New(env, hyper.heads));
    object.Set("kvHeads", Napi::Number::New(env, hyper.kv_heads));
    object.Set("keyLength", Napi::Number::New(env, hyper.head_dim));
    object.Set("valueLength", Napi::Number::New(env, hyper.head_dim_v));
    object.Set("windows", numbers(env, windows));
    return object;
  });
}

Napi::Value FileObject::close(const Napi::CallbackInfo& info) {
  file_.reset();
  return info.Env().Undefined();
}

Napi::Value FileObject::summary(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    auto object = Napi::Object::New(env);
    object.Set("path", Napi::String::New(env, file().path()));
    object.Set("version", Napi::Number::New(env, file().version()));
    object.Set("alignment", Napi::Number::New(env, file().alignment()));
    object.Set("fileBytes", Napi::Number::New(env, double(file().file_bytes())));
    object.Set("metadataCount", Napi::Number::New(env, double(file().metadata().size())));
    object.Set("tensorCount", Napi::Number::New(env, double(file().tensors().size())));
    return object;
  });
}

Napi::Value FileObject::metadata(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const Range range = range_arguments(info, file().metadata().size());
    auto list = Napi::Array::New(env, range.to - range.from);
    for (size_t i = range.from; i < range.to; ++i) {
      const GgufEntry& entry = file().metadata()[i];
      auto object = Napi::Object::New(env);
      object.Set("key", Napi::String::New(env, entry.key));
      object.Set("type", Napi::Number::New(env, double(entry.type)));
      object.Set("value", to_js(env, entry.value));
      list[uint32_t(i - range.from)] = object;
    }
    return list;
  });
}

Napi::Value FileObject::array(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const auto index = integer_argument(info, 0, 0, int64_t(file().metadata().size()) - 1);
    const GgufArray* array = array_of(file().metadata()[size_t(index)].value);
    for (const uint32_t step : uint32_elements(info[1], "path")) {
      if (array != nullptr) array = step < array->nested.size() ? array_of(array->nested[step]) : nullptr;
    }
    if (array == nullptr) throw Error(Code::invalid_argument, "the entry is not an array");
    auto object = Napi::Object::New(env);
    object.Set("type", Napi::Number::New(env, double(array->type)));
    object.Set("count", Napi::Number::New(env, double(array->count)));
    object.Set("bytes", uint8_array(env, array->bytes.data(), array->bytes.size()));
    object.Set("offsets", uint32_array(env, array->offsets.data(), array->offsets.size()));
    return object;
  });
}

Napi::Value FileObject::tensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const Range range = range_arguments(info, file().tensors().size());
    auto list = Napi::Array::New(env, range.to - range.from);
    for (size_t i = range.from; i < range.to; ++i) {
      const TensorInfo& tensor = file().tensors()[i];
      auto shape = Napi::Array::New(env, tensor.n_dims);
      for (uint32_t d = 0; d < tensor.n_dims; ++d) shape[d] = Napi::Number::New(env, double(tensor.dims[d]));
      auto object = Napi::Object::New(env);
      object.Set("name", Napi::String::New(env, tensor.name));
      object.Set("type", Napi::String::New(env, tensor.type->name));
      object.Set("shape", shape);
      object.Set("bytes", Napi::Number::New(env, double(tensor.bytes)));
      object.Set("part", Napi::Number::New(env, tensor.part));
      object.Set("offset", Napi::Number::New(env, double(tensor.offset)));
      list[uint32_t(i - range.from)] = object;
    }
    return list;
  });
}

}  // namespace inhouse::addon
