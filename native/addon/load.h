// One load in progress: its thread, its progress, and how it is stopped.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "native/addon/jobs.h"
#include "native/addon/mailbox.h"
#include "native/core/error.h"
#include "native/model/model.h"

namespace inhouse::addon {

class Load final : public Source, public Stoppable, public std::enable_shared_from_this<Load> {
 public:
  Load(std::shared_ptr<Mailbox> mailbox, std::shared_ptr<JobGroup> jobs, uint64_t on_progress,
       uint64_t on_end)
      : mailbox_(std::move(mailbox)), jobs_(std::move(jobs)), on_progress_(on_progress), on_end_(on_end) {}
  ~Load() override;

  // On the load's own thread.
  void run(const ModelOptions& options) noexcept;
  void stop() noexcept override { cancelled_ = true; }
  void deliver(Napi::Env env) override;

 private:
  void progress(uint64_t bytes);

  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<JobGroup> jobs_;
  const uint64_t on_progress_;
  const uint64_t on_end_;
  std::atomic<bool> cancelled_{false};

  std::mutex mutex_;  // of what follows
  bool posted_ = false;
  uint64_t loaded_ = 0;    // bytes
  uint64_t reported_ = 0;  // of them, what JavaScript knows
  bool ended_ = false;
  std::shared_ptr<Model> model_;
  std::optional<Error> error_;
};

}  // namespace inhouse::addon
