// Saving an engine's computed prefixes to a file and reading them back. Both run on a thread of the caller's;
// the engine copies blocks between its steps, some milliseconds at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "native/engine/engine.h"

namespace inhouse {

struct StateReport {
  int64_t blocks = 0;  // of kKvBlockTokens tokens
  uint64_t bytes = 0;  // of the file
};

// The engine for one slice of work, so that nobody waits long for its end; throws disposed where it is gone.
using EngineAccess = std::function<std::shared_ptr<Engine>()>;

// The requests whose prefixes are meant.
struct StateScope {
  std::string cache_scope;
  std::shared_ptr<const Adapter> adapter = nullptr;  // of the engine's model; null: those without
  float adapter_scale = 1;
};

// Saves the blocks that such requests left or hold: those that `prompt` begins with, or without one all.
// Where they take more than `most_bytes` as a file, the least recently used ones, and of a prompt the last,
// are left out. The file is written beside its place and then renamed. Errors: state_empty where there is
// nothing to write, file_write, disposed, aborted once `stop` is set.
StateReport save_state(const EngineAccess& engine, const std::string& path, const StateScope& scope,
                       std::optional<std::span<const int32_t>> prompt, uint64_t most_bytes,
                       const std::atomic<bool>& stop);

// Reads the blocks of a file into the tree of such requests, as if they had left them there. The whole
// file is checked before the first one goes in. Where not all fit beside what running requests hold, the most
// recently used ones do. Running requests have all room as ever: what they need of it meanwhile they take
// from the blocks that came in first. Reports the blocks that are there now. Errors: those of File,
// state_invalid, disposed, aborted.
StateReport load_state(const EngineAccess& engine, const std::string& path, const StateScope& scope,
                       const std::atomic<bool>& stop);

}  // namespace inhouse
