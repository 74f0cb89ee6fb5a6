#include "cli/intake/engine_backend.h"

#include <utility>

namespace postbag {

void EngineBackend::submit(HookList hooks, SubmitOptions options, SubmitHandler done) {
  engine_.submit(std::move(hooks), std::move(options), std::move(done));
}

EngineStatus EngineBackend::status() const {
  return engine_.status();
}

std::vector<TargetStatus> EngineBackend::targets(std::size_t limit) const {
  return engine_.targets(limit);
}

std::optional<HookStatus> EngineBackend::find_hook(std::string_view id) const {
  return engine_.find_hook(id);
}

std::error_code EngineBackend::list_failed(const FailedFilter& filter,
                                           std::optional<FailedKey> after,
                                           const SliceLimits& limits, FailedPage& page) {
  return engine_.list_failed(filter, after, limits, page);
}

RetryProgress EngineBackend::retry_failed(const RetryOptions& options) {
  return engine_.retry_failed(options);
}

RetryPlan EngineBackend::plan_retry(const RetryOptions& options) {
  return engine_.plan_retry(options);
}

PurgeResult EngineBackend::purge_failed(const FailedFilter& filter,
                                        std::optional<std::uint64_t> limit) {
  return engine_.purge_failed(filter, limit);
}

std::uint64_t EngineBackend::flush(std::optional<std::string_view> target) {
  return engine_.flush(target);
}

CancelResult EngineBackend::cancel(std::string_view target_glob) {
  return engine_.cancel(target_glob);
}

std::error_code EngineBackend::backup(const std::string& path, const std::stop_token& stop) {
  return engine_.backup(path, stop);
}

}  // namespace postbag
