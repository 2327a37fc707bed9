#include "native/addon/load.h"

#include "native/addon/environment.h"
#include "native/addon/model.h"

namespace inhouse::addon {
namespace {

// JavaScript hears of progress once per this many bytes, at most.
constexpr uint64_t kProgressStep = uint64_t{1} << 20;

}  // namespace

Load::~Load() {
  // Dropped before it was delivered: the weights are not freed on whichever thread this is.
  jobs_->retire(std::move(model_));
}

void Load::run(const ModelOptions& options) noexcept {
  std::shared_ptr<Model> model;
  std::optional<Error> error;
  try {
    LoadControl control;
    control.cancelled = &cancelled_;
    control.progress = [this](uint64_t bytes) { progress(bytes); };
    control.check();
    model = Model::load(options, control);
    control.check();
  } catch (...) {
    error = describe_current_exception();
    model.reset();
  }
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    model_ = std::move(model);
    error_ = std::move(error);
    if (posted_) return;
    posted_ = true;
  }
  mailbox_->post(shared_from_this());
}

void Load::progress(uint64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    loaded_ += bytes;
    if (posted_ || loaded_ - reported_ < kProgressStep) return;
    posted_ = true;
  }
  mailbox_->post(shared_from_this());
}

void Load::deliver(Napi::Env env) {
  auto& environment = Environment::of(env);
  std::unique_lock lock(mutex_);
  posted_ = false;
  const bool changed = loaded_ != reported_;
  reported_ = loaded_;
  const bool ended = ended_;
  auto model = std::move(model_);
  const auto loaded = double(loaded_);
  lock.unlock();
  if (changed) environment.callbacks->call(env, on_progress_, {Napi::Number::New(env, loaded)});
  if (!ended) return;
  environment.mailbox->release(env);
  environment.callbacks->drop(on_progress_);
  if (error_) {
    environment.callbacks->call(env, on_end_, {error_value(env, *error_), env.Undefined()});
  } else {
    const Napi::Object object = environment.model_class.New({});
    ModelObject::Unwrap(object)->model_ = std::move(model);
    environment.callbacks->call(env, on_end_, {env.Null(), object});
  }
  environment.callbacks->drop(on_end_);
}

}  // namespace inhouse::addon
