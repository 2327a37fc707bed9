// What the binding keeps for one JavaScript environment (the main thread, or a worker).
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "native/addon/jobs.h"
#include "native/addon/mailbox.h"
#include "native/core/error.h"

namespace inhouse::addon {

// JavaScript functions by number, so that objects that die on other threads hold no handles. JavaScript
// thread only.
class Callbacks {
 public:
  uint64_t keep(Napi::Function callback);
  void drop(uint64_t callback) { kept_.erase(callback); }
  void clear() { kept_.clear(); }
  // Calls it, if it is still there. What it throws becomes an uncaught exception (lib/ catches its own).
  void call(Napi::Env env, uint64_t callback, const std::vector<napi_value>& arguments);

 private:
  std::unordered_map<uint64_t, Napi::FunctionReference> kept_;
  uint64_t next_ = 1;
};

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment() { callbacks->clear(); }
  static Environment& of(Napi::Env env);

  // Threads and sources hold the first two, JavaScript objects all three; an Environment is held by nobody.
  const std::shared_ptr<Mailbox> mailbox;
  const std::shared_ptr<JobGroup> jobs;
  const std::shared_ptr<Callbacks> callbacks = std::make_shared<Callbacks>();

  Napi::FunctionReference file_class;
  Napi::FunctionReference model_class;
  Napi::FunctionReference engine_class;
  Napi::FunctionReference adapter_class;
};

// {code, message}; lib/ makes an InhouseError of it.
Napi::Object error_value(Napi::Env env, const Error& error);

// Runs an entry point's body: errors of the core become JavaScript errors with a code; nothing else gets out.
template <class Body>
Napi::Value guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    const Error error = describe_current_exception();
    Napi::Error js = Napi::Error::New(env, error.message());
    js.Value().Set("code", Napi::String::New(env, code_name(error.code())));
    throw js;
  }
}

// Runs `work` on a thread of its own, then `callback(error, result(env))` on the JavaScript thread, where
// error is null or {code, message}. The event loop stays alive in between. What the two capture may be
// destroyed on either thread.
void run_task(Napi::Env env, Napi::Function callback, std::function<void()> work,
              std::function<Napi::Value(Napi::Env)> result);

}  // namespace inhouse::addon
