#include "native/addon/mailbox.h"

namespace inhouse::addon {

std::shared_ptr<Mailbox> Mailbox::create(Napi::Env env) {
  auto mailbox = std::make_shared<Mailbox>();
  auto* context = new std::shared_ptr<Mailbox>(mailbox);
  const auto finalize = [](napi_env, void* data, void*) {
    auto* self = static_cast<std::shared_ptr<Mailbox>*>(data);
    (*self)->close();
    delete self;
  };
  const auto call = [](napi_env js_env, napi_value, void* data, void*) {
    if (js_env != nullptr) (*static_cast<std::shared_ptr<Mailbox>*>(data))->drain(Napi::Env(js_env));
  };
  const napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "inhouse"), 0, 1, context,
                                      finalize, context, call, &mailbox->function_);
  if (status != napi_ok) {
    delete context;
    throw Napi::Error::New(env, "inhouse: napi_create_threadsafe_function failed");
  }
  napi_unref_threadsafe_function(env, mailbox->function_);
  return mailbox;
}

void Mailbox::post(std::shared_ptr<Source> source) {
  // The call is made under the lock: `close` takes it too, before Node deletes the function.
  std::lock_guard lock(mutex_);
  if (function_ == nullptr) return;
  queue_.push_back(std::move(source));
  if (scheduled_) return;
  scheduled_ = true;
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void Mailbox::hold(Napi::Env env) {
  if (holds_++ == 0 && function_ != nullptr) napi_ref_threadsafe_function(env, function_);
}

void Mailbox::release(Napi::Env env) {
  if (--holds_ == 0 && function_ != nullptr) napi_unref_threadsafe_function(env, function_);
}

void Mailbox::close() {
  std::vector<std::shared_ptr<Source>> dropped;
  std::lock_guard lock(mutex_);
  function_ = nullptr;
  dropped.swap(queue_);
}

void Mailbox::drain(Napi::Env env) {
  std::vector<std::shared_ptr<Source>> ready;
  {
    std::lock_guard lock(mutex_);
    ready.swap(queue_);
    scheduled_ = false;
  }
  for (const auto& source : ready) {
    try {
      Napi::HandleScope scope(env);
      source->deliver(env);
    } catch (...) {  // an environment that is being torn down refuses all calls
    }
  }
}

}  // namespace inhouse::addon
