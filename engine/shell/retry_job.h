#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/pure/sinks.h"
#include "engine/shell/engine_impl.h"

namespace postbag {

// One run of retry-failed-hooks: reads failed rows slice by slice, oldest first, puts them into
// bags of their own and waits for their outcomes; what is under way at once is bounded in rows and
// bytes, so a million rows take no more memory than a thousand.
class RetryJob : public RetrySink, public std::enable_shared_from_this<RetryJob> {
 public:
  // Bags may hold the job for longer than run() takes, but only run() looks at the options.
  RetryJob(Engine::Impl& engine, const RetryOptions& options);
  // Blocks until every row that was taken has its outcome, or until the engine has failed: then
  // rows may be without one for good. Want of memory ends it as a read error does.
  RetryProgress run();
  // What such a run would send; see Engine::plan_retry().
  static RetryPlan plan(Engine::Impl& engine, const RetryOptions& options);

  // RetrySink, on the shards' threads.
  void rows_done(std::span<const FailedKey> keys, std::uint64_t body_bytes,
                 RowsOutcome outcome) override;

 private:
  // Rows under way: in a bag, on the wire, or on their way to the store.
  struct Load {
    std::size_t rows = 0;
    std::uint64_t body_bytes = 0;
    bool fits(const Load& most) const { return rows <= most.rows && body_bytes <= most.body_bytes; }
  };
  enum class Stop { none, after_wire, at_once };

  std::error_code take_all();
  bool take_slice(std::optional<FailedKey>& after, std::error_code& error);
  bool hand_over(const std::vector<FailedHook>& rows);
  void wait_for(const Load& most);
  bool cut_bags();
  bool stop_bags();
  void stop(Stop how);
  bool report(bool at_end);
  void say_begin() const;
  void say_end();

  Engine::Impl& engine_;
  const RetryOptions& options_;
  const Load load_max_;
  FailedKey end_ = 0;  // rows from here on failed after the run began
  std::uint64_t taken_ = 0;
  TimePoint last_report_;

  std::mutex mutex_;
  std::condition_variable changed_;
  RetryProgress progress_;
  Load load_;
  Stop stop_ = Stop::none;
};

}  // namespace postbag
