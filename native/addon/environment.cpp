#include "native/addon/environment.h"

#include <optional>
#include <utility>

namespace inhouse::addon {
namespace {

// The environment's last word, while its thread-safe function still exists.
void end_environment(void* data) {
  auto* shared = static_cast<std::pair<std::shared_ptr<Mailbox>, std::shared_ptr<JobGroup>>*>(data);
  shared->first->close();
  shared->second->stop_and_wait();
  delete shared;
}

class Task final : public Source, public std::enable_shared_from_this<Task> {
 public:
  Task(uint64_t callback, std::function<void()> work, std::function<Napi::Value(Napi::Env)> result)
      : callback_(callback), work_(std::move(work)), result_(std::move(result)) {}

  void run(Mailbox& mailbox) noexcept {
    try {
      work_();
    } catch (...) {
      error_ = describe_current_exception();
    }
    work_ = nullptr;
    mailbox.post(shared_from_this());
  }

  void deliver(Napi::Env env) override {
    auto& environment = Environment::of(env);
    napi_value error = env.Null();
    napi_value value = env.Undefined();
    if (!error_) {
      try {
        value = result_(env);
      } catch (const Napi::Error&) {
        error_ = Error(Code::out_of_memory, "out of memory");
      } catch (...) {
        error_ = describe_current_exception();
      }
    }
    try {
      if (error_) error = error_value(env, *error_);
    } catch (...) {  // no memory for that either, or no environment much longer: tries again
      return environment.mailbox->post(shared_from_this());
    }
    environment.mailbox->release(env);
    environment.callbacks->call(env, callback_, {error, value});
    environment.callbacks->drop(callback_);
  }

 private:
  const uint64_t callback_;
  std::function<void()> work_;
  std::function<Napi::Value(Napi::Env)> result_;
  std::optional<Error> error_;
};

}  // namespace

Environment::Environment(Napi::Env env) : mailbox(Mailbox::create(env)), jobs(JobGroup::create()) {
  // Hooks run in reverse order: this one before the thread-safe function's, which was added before it.
  auto* shared = new std::pair<std::shared_ptr<Mailbox>, std::shared_ptr<JobGroup>>(mailbox, jobs);
  if (napi_add_env_cleanup_hook(env, end_environment, shared) != napi_ok) {
    delete shared;
    throw Napi::Error::New(env, "inhouse: napi_add_env_cleanup_hook failed");
  }
}

Environment& Environment::of(Napi::Env env) {
  return *env.GetInstanceData<Environment>();
}

uint64_t Callbacks::keep(Napi::Function callback) {
  kept_.emplace(next_, Napi::Persistent(callback));
  return next_++;
}

void Callbacks::call(Napi::Env env, uint64_t callback, const std::vector<napi_value>& arguments) {
  const auto found = kept_.find(callback);
  if (found == kept_.end()) return;
  const napi_value function = found->second.Value();
  const napi_status status =
      napi_call_function(env, env.Undefined(), function, arguments.size(), arguments.data(), nullptr);
  if (status != napi_pending_exception) return;
  napi_value thrown = nullptr;
  if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) napi_fatal_exception(env, thrown);
}

Napi::Object error_value(Napi::Env env, const Error& error) {
  auto value = Napi::Object::New(env);
  value.Set("code", Napi::String::New(env, code_name(error.code())));
  value.Set("message", Napi::String::New(env, error.message()));
  return value;
}

void run_task(Napi::Env env, Napi::Function callback, std::function<void()> work,
              std::function<Napi::Value(Napi::Env)> result) {
  auto& environment = Environment::of(env);
  auto task =
      std::make_shared<Task>(environment.callbacks->keep(callback), std::move(work), std::move(result));
  std::function<void()> job = [task, mailbox = environment.mailbox] { task->run(*mailbox); };
  environment.mailbox->hold(env);
  environment.jobs->run(std::move(job));
}

}  // namespace inhouse::addon
