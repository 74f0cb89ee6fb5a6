#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cli/intake/backend.h"

namespace postbag::test {

// The id that the fake gives the hook at `index` of a call.
std::string fake_id(std::size_t index);

// A hook as it came, copied out of the request.
struct SeenHook {
  std::string target, body, event, group, id, content_type;
  std::vector<std::pair<std::string, std::string>> headers;
};

// An engine that does what a test says, and remembers what it was asked. Any thread.
class FakeIntakeBackend : public IntakeBackend {
 public:
  // What it answers. Set before the request is sent.
  EngineStatus engine_status;
  std::vector<TargetStatus> target_list;
  std::optional<HookStatus> hook;
  std::vector<FailedHook> rows;   // ascending keys
  std::size_t slice_rows = 1000;  // most rows of one slice
  std::vector<RetryProgress> retry_steps;
  Errc backup_error = Errc::ok;
  bool throw_next = false;  // the next flush throws std::invalid_argument

  // What it was asked. Read after the answer.
  std::string last_text;
  std::size_t last_limit = 0;
  FailedFilter last_filter;
  std::optional<std::uint64_t> last_retry_limit;
  std::optional<std::uint32_t> last_retries;
  int purges = 0;
  std::error_code purge_error;
  std::uint64_t purge_claimed = 0;
  std::error_code plan_error, cancel_error;

  void answer_next_with(SubmitResult result);
  // From now on submit() keeps the hooks and answers when they are released.
  void hold_submits();
  // retry_failed() stops after its first step until it is released.
  void hold_retry();
  // retry_failed() goes on until its progress function says no or it is left.
  void retry_until_stopped();
  // backup() goes on until it is released or stopped.
  void hold_backup();
  void wait_for_backup();
  bool wait_for_backup_stop();
  void release_all();

  std::size_t calls();  // of submit()
  void wait_for_calls(std::size_t count);
  void wait_for_retry(std::size_t runs = 1);
  bool wait_for_retry_end();  // true: the run was stopped
  std::vector<SeenHook> hooks();
  std::shared_ptr<OutcomeListener> listener();  // of the last call

  void submit(HookList hooks, SubmitOptions options, SubmitHandler done) override;
  EngineStatus status() const override { return engine_status; }
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
  struct Held {
    HookList hooks;
    SubmitHandler done;
    SubmitResult result;
  };

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t calls_ = 0;
  std::vector<SeenHook> hooks_;
  std::shared_ptr<OutcomeListener> listener_;
  std::optional<SubmitResult> next_result_;
  bool hold_submits_ = false;
  std::vector<Held> held_;
  bool hold_backup_ = false, backup_begun_ = false, backup_stopped_ = false;
  bool hold_retry_ = false;
  bool until_stopped_ = false;
  std::size_t retries_begun_ = 0, retries_stopped_ = 0;
  std::size_t retries_stopped_seen_ = 0;
};

}  // namespace postbag::test
