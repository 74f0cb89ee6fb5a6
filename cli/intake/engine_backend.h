#pragma once

#include "cli/intake/backend.h"

namespace postbag {

// The real engine behind intake. Does not own it; the engine must outlive the adapter and the
// IntakeServer's stop().
class EngineBackend : public IntakeBackend {
 public:
  explicit EngineBackend(Engine& engine) : engine_(engine) {}

  void submit(HookList hooks, SubmitOptions options, SubmitHandler done) override;
  EngineStatus status() const override;
  std::vector<TargetStatus> targets(std::size_t limit) const override;
  std::optional<HookStatus> find_hook(std::string_view id) const override;
  std::error_code list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                              const SliceLimits& limits, FailedPage& page) override;
  RetryProgress retry_failed(const RetryOptions& options) override;
  RetryPlan plan_retry(const RetryOptions& options) override;
  PurgeResult purge_failed(const FailedFilter& filter, std::optional<std::uint64_t> limit) override;
  std::uint64_t flush(std::optional<std::string_view> target) override;
  CancelResult cancel(std::string_view target_glob) override;
  std::error_code backup(const std::string& path, const std::stop_token& stop) override;

 private:
  Engine& engine_;
};

}  // namespace postbag
