// One pool of compute threads per process. Workers spin briefly within a step and park between steps, so that
// an idle model takes no processor time from the host's event loop.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace inhouse {

// A reference to a callable, without allocation; valid while the callable lives.
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, FunctionRef>>>
  FunctionRef(F&& f)  // NOLINT: implicit on purpose, as std::function
      : object_(const_cast<void*>(static_cast<const void*>(&f))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(args...);
        }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

class ThreadPool {
 public:
  // The process's pool. Never destroyed: threads may outlive static destruction at exit.
  static ThreadPool& shared();

  // Processors this process may use: affinity mask and cgroup quota, physical cores; at least 1.
  static int32_t available();

  // Calls task(chunk, worker) for every chunk in [0, chunks), on the caller and up to threads - 1 workers;
  // worker is in [0, threads). Each worker goes through a range of its own, so that it reads memory in one
  // stream, and then takes what is left of the ranges of those behind. Returns when all are done. The task
  // must not throw. Calls from several engine threads take turns.
  virtual void run(int32_t threads, int64_t chunks,
                   FunctionRef<void(int64_t chunk, int32_t worker)> task) = 0;

  // A step brackets many `run`s: inside it workers spin between them; outside they are parked.
  virtual void begin_step(int32_t threads) = 0;
  virtual void end_step() = 0;

 protected:
  ~ThreadPool() = default;
};

}  // namespace inhouse
