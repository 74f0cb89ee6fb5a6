#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "postbag/engine.h"

namespace postbag {

// What intake needs of the engine, call for call as in postbag/engine.h; a seam for tests. Any
// thread. The calls in the second group block and are made on intake's worker threads only; the
// others must answer at once.
class IntakeBackend {
 public:
  virtual ~IntakeBackend() = default;

  // `done` is called exactly once, on any thread, also from inside submit(). It may come after the
  // IntakeServer is gone.
  virtual void submit(HookList hooks, SubmitOptions options, SubmitHandler done) = 0;
  virtual EngineStatus status() const = 0;

  // All of these block.
  virtual std::vector<TargetStatus> targets(std::size_t limit) const = 0;
  virtual std::optional<HookStatus> find_hook(std::string_view id) const = 0;
  virtual std::error_code list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                                      const SliceLimits& limits, FailedPage& page) = 0;
  virtual RetryProgress retry_failed(const RetryOptions& options) = 0;
  virtual RetryPlan plan_retry(const RetryOptions& options) = 0;
  virtual PurgeResult purge_failed(const FailedFilter& filter,
                                   std::optional<std::uint64_t> limit) = 0;
  virtual std::uint64_t flush(std::optional<std::string_view> target) = 0;
  virtual CancelResult cancel(std::string_view target_glob) = 0;
  virtual std::error_code backup(const std::string& path, const std::stop_token& stop) = 0;
};

}  // namespace postbag
