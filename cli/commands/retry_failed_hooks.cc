#include <signal.h>

#include <algorithm>
#include <stop_token>

#include "cli/commands/commands.h"
#include "cli/daemon_answers.h"
#include "cli/descriptors.h"
#include "cli/exit_codes.h"
#include "cli/failed_filter.h"
#include "cli/intake/answers.h"
#include "cli/log.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/store_access.h"
#include "engine/shell/clock.h"
#include "postbag/engine.h"

namespace postbag {

namespace {

RetryOptions to_retry_options(const RetryArguments& arguments) {
  RetryOptions options;
  options.filter = to_failed_filter(arguments.filter, wall_now_ms());
  options.limit = arguments.filter.limit;
  options.retries = arguments.retries;
  return options;
}

std::string retry_query(const RetryOptions& options) {
  std::string query = filter_query(options.filter);
  const auto add = [&](const std::string& part) { query += (query.empty() ? "" : "&") + part; };
  if (options.limit) add("limit=" + std::to_string(*options.limit));
  if (options.retries) add("retries=" + std::to_string(*options.retries));
  return query;
}

// The daemon does the work and tells how far it is, a line a second.
class DaemonRetry {
 public:
  DaemonRetry(ControlClient& daemon, const SignalWatch& signals, Console& console)
      : daemon_(daemon), signals_(signals), console_(console), bar_(console, "retry") {}

  RetryProgress run(const RetryOptions& options) {
    ControlRequest request;
    request.method = "POST";
    const std::string query = retry_query(options);
    set_query(request, "/v1/failed/retry", query);
    request.accept = "application/x-ndjson";
    bool complete = false;
    const ControlAnswer answer = daemon_.stream(
        request, signals_.stop_fd(), [this](std::string_view bytes) { on_bytes(bytes); }, complete);
    expect_success(answer);
    if (!rest_.empty()) on_line(rest_);
    // Whether a daemon still answers a client that has said goodbye is up to it.
    if (!complete && signals_.stopped()) {
      console_.say("the daemon stops after what is in flight; its outcome is not in these numbers");
      progress_.stopped = true;
      return progress_;
    }
    if (!complete) {
      throw CommandError(
          exit_unavailable,
          "the daemon went away; the last it said: " + std::to_string(progress_.delivered) +
              " delivered, " + std::to_string(progress_.failed) + " failed again");
    }
    if (!error_.code.empty()) {
      const int status = error_.code == "stopping" ? 503 : 500;
      throw CommandError(exit_code_of_daemon(error_.code, status),
                         "the daemon: " + printable(error_.code + ": " + error_.message));
    }
    return progress_;
  }

 private:
  void on_bytes(std::string_view bytes) {
    rest_ += bytes;
    for (std::size_t end = 0; (end = rest_.find('\n')) != std::string::npos;) {
      on_line(std::string_view(rest_).substr(0, end));
      rest_.erase(0, end + 1);
    }
  }
  void on_line(std::string_view line) {
    const DaemonError error = parse_daemon_error(line);
    if (!error.code.empty()) {
      error_ = error;
      return;
    }
    const auto progress = parse_retry_progress(line);
    if (!progress) return;
    progress_ = *progress;
    bar_.update(progress_.delivered + progress_.failed + progress_.skipped, progress_.total);
  }

  ControlClient& daemon_;
  const SignalWatch& signals_;
  Console& console_;
  ProgressBar bar_;
  RetryProgress progress_;
  std::string rest_;
  DaemonError error_;  // its last word, instead of the numbers
};

RetryProgress retry_alone(std::unique_ptr<Store> store, Options options, RetryOptions retry,
                          Console& console) {
  options.store.durability = Durability::memory;  // the hooks have their rows already
  // Warnings would tear the progress bar; what failed is in the rows.
  options.log.level = std::max(options.log.level, LogLevel::error);
  Log log(options.log);
  std::uint32_t no_intake = 0;
  if (const auto warning = fit_to_descriptors(options, raise_descriptor_limit(), no_intake)) {
    log.warning(*warning);
  }
  Engine engine(options, std::move(store), log.logger());
  ProgressBar bar(console, "retry");
  retry.progress = [&](const RetryProgress& progress) {
    bar.update(progress.delivered + progress.failed + progress.skipped, progress.total);
    return true;
  };
  const RetryProgress result = engine.retry_failed(retry);
  if (result.error) {
    throw CommandError(exit_code_of(result.error),
                       "cut short after " + std::to_string(result.delivered) + " delivered, " +
                           std::to_string(result.failed) +
                           " failed again: " + result.error.message());
  }
  return result;
}

// The reasons are only given if something was skipped.
std::string said_skipped(std::uint64_t skipped) {
  std::string said = std::to_string(skipped);
  if (skipped > 0) {
    said +=
        " ([network] forbids their targets by now, or they are damaged; `failed list` has them)";
  }
  return said;
}

int report_plan(const RetryPlan& plan, bool as_json, Console& console) {
  if (as_json) console.print_line(plan_answer(plan).body);
  console.say("would send " + counted(plan.hooks, "hook") + " to " +
              counted(plan.targets, "target") + " in " + counted(plan.requests, "request") + ", " +
              counted(plan.bytes, "byte") + "; would skip " + said_skipped(plan.skipped));
  return exit_ok;
}

int dry_run(StoreHolder& holder, Options options, const RetryOptions& retry, bool as_json,
            Console& console) {
  if (!holder.daemon) {
    options.store.durability = Durability::memory;
    Engine engine(options, std::move(holder.store));
    const RetryPlan plan = engine.plan_retry(retry);
    if (plan.error) throw CommandError(exit_code_of(plan.error), plan.error.message());
    return report_plan(plan, as_json, console);
  }
  ControlRequest request;
  request.method = "POST";
  const std::string query = retry_query(retry);
  set_query(request, "/v1/failed/plan", query);
  request.may_take_long = true;
  const ControlAnswer answer = holder.daemon->send(request);
  expect_success(answer);
  return report_plan(expect_parsed(parse_retry_plan(answer.body)), as_json, console);
}

}  // namespace

int run_retry(const RetryArguments& arguments, Console& console) {
  RetryOptions retry = to_retry_options(arguments);
  const Options options = load_command_options(arguments).options;
  // `leave`: the second signal of one who does not want to wait for what is on the wire either.
  std::stop_source stop, leave;  // outlive the thread of `signals`
  SignalWatch signals({SIGINT, SIGTERM});
  const StoreUse use = arguments.dry_run ? StoreUse::look : StoreUse::change;
  StoreHolder holder = open_daemon_or_store(options, use, console);
  if (arguments.dry_run) return dry_run(holder, options, retry, arguments.json, console);
  retry.stop = stop.get_token();
  retry.leave = leave.get_token();
  signals.start([&](int) {
    if (!stop.request_stop()) leave.request_stop();
  });

  RetryProgress result;
  if (holder.daemon) {
    result = DaemonRetry(*holder.daemon, signals, console).run(retry);
  } else {
    say_waiting_hooks(console, *holder.store);
    result = retry_alone(std::move(holder.store), options, retry, console);
  }
  if (arguments.json) {
    std::string out;
    append_progress(out, result);
    console.print_line(out);
  }
  console.say("delivered " + std::to_string(result.delivered) + ", failed again " +
              std::to_string(result.failed) + ", skipped " + said_skipped(result.skipped) +
              (result.claimed > 0
                   ? "; another run has " + std::to_string(result.claimed) + " more now"
                   : "") +
              (result.stopped ? "; stopped early, the rest keeps its rows" : ""));
  return result.failed == 0 && !result.stopped ? exit_ok : exit_hooks_failed;
}

}  // namespace postbag
