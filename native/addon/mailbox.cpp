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

void Mailbox::post(std::shared_ptr<Source> source) noexcept {
  // The call is made under the lock: `close` takes it too, before Node deletes the function.
  std::lock_guard lock(mutex_);
  if (function_ == nullptr) return;
  Source* const added = source.get();
  (last_ == nullptr ? first_ : last_->next_) = std::move(source);
  last_ = added;
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

std::shared_ptr<Source> Mailbox::take_all() {
  std::lock_guard lock(mutex_);
  last_ = nullptr;
  scheduled_ = false;
  return std::move(first_);
}

void Mailbox::close() {
  {
    std::lock_guard lock(mutex_);
    function_ = nullptr;
  }
  // One after the other, not each by the one before it: the queue may be long.
  for (auto source = take_all(); source;) source = std::move(source->next_);
}

void Mailbox::drain(Napi::Env env) {
  for (auto source = take_all(); source;) {
    const auto next = std::move(source->next_);  // once it speaks, the source may queue anew
    try {
      Napi::HandleScope scope(env);
      source->deliver(env);
    } catch (...) {  // an environment that is being torn down refuses all calls
    }
    source = next;
  }
}

}  // namespace inhouse::addon
