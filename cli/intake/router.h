#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "cli/intake/answers.h"
#include "cli/intake/backend.h"
#include "cli/intake/exchange.h"
#include "cli/intake/loop.h"
#include "cli/intake/metrics.h"
#include "cli/intake/query.h"
#include "cli/intake/retry_call.h"
#include "cli/intake/tokens.h"
#include "cli/intake/worker_pool.h"

namespace postbag {

struct RouterOptions {
  std::uint64_t max_body = 8 << 20;
  std::optional<TokenSet> tokens;              // nothing: TCP needs none either
  bool on_loopback = false;                    // only programs of this machine connect over TCP
  Durability durability = Durability::memory;  // what the engine gives; stands in answers
  std::function<WallMs()> wall_now;
};

// Every route of the HTTP interface: what a request means. Knows no socket. All member functions on
// intake's thread, but for stop_accepting() and stop().
class Router {
 public:
  Router(IntakeBackend& backend, RouterOptions options, std::shared_ptr<IntakeLoop> loop,
         WorkerPool& pool);

  // Decided on the head alone, before a byte of the body is read: an answer that refuses the
  // request, or how long the body may be. Fills in path, query and route.
  struct HeadVerdict {
    std::optional<Answer> refusal;
    std::uint64_t body_max = 0;
  };
  HeadVerdict judge_head(Request& request) const;

  // The whole request is there; answers now or later.
  void handle(const std::shared_ptr<Exchange>& exchange);

  // From now on these tokens let in; nothing: none is needed.
  void set_tokens(std::optional<TokenSet> tokens) { options_.tokens = std::move(tokens); }
  // From now on what would change something is answered `stopping`; reading goes on. Any thread.
  void stop_accepting() { stopping_.store(true); }
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  // A request was dropped without an answer, for want of memory; stands in the metrics.
  void count_dropped() { dropped_.fetch_add(1, std::memory_order_relaxed); }
  // A connection was answered `full` and closed; stands in the metrics.
  void count_turned_away() { turned_away_.fetch_add(1, std::memory_order_relaxed); }
  // `answer`, an error, is given; stands in the metrics.
  void note_error(const Answer& answer) noexcept;
  std::uint64_t errors(ErrorCode code) const {
    return errors_[code.index()].load(std::memory_order_relaxed);
  }
  // The body of the last answer `full` that was not longer than there is room for.
  std::string_view full_answer() const { return full_answer_; }
  // Ends runs of retry-failed-hooks after what is in flight, and lists where they are. Any thread.
  void stop() { stopping_long_calls_->store(true); }

 private:
  using Job = std::function<Answer()>;
  using SharedExchange = std::shared_ptr<Exchange>;

  std::optional<Answer> check_token(const Request& request) const;
  std::optional<Answer> check_origin(const Request& request) const;
  void submit(const SharedExchange& exchange);
  void cancel(const SharedExchange& exchange, Query& query);
  void flush(const SharedExchange& exchange, Query& query);
  void show_hook(const SharedExchange& exchange);
  void list_targets(const SharedExchange& exchange, Query& query);
  void list_failed(const SharedExchange& exchange, Query& query);
  void purge_failed(const SharedExchange& exchange, Query& query);
  void retry_failed(const SharedExchange& exchange, Query& query);
  void plan_retry(const SharedExchange& exchange, Query& query);
  void backup(const SharedExchange& exchange, Query& query);
  EngineStatus status() const;
  IntakeCounts counts() const;
  void answer_health(const SharedExchange& exchange, const EngineStatus& status, bool readiness);
  std::optional<ApiError> take_retry_options(Query& query, RetryOptions& options) const;
  // Runs an engine call that blocks on a worker; what it returns is the answer.
  void run_blocking(const SharedExchange& exchange, Job job);

  IntakeBackend& backend_;
  RouterOptions options_;
  const std::shared_ptr<IntakeLoop> loop_;
  WorkerPool& pool_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> dropped_{0}, turned_away_{0};
  std::array<std::atomic<std::uint64_t>, error_codes.size()> errors_{};
  std::string full_answer_;
  const std::shared_ptr<std::atomic<bool>> stopping_long_calls_;
  const RetryRoute retry_route_;
};

}  // namespace postbag
