#include "cli/intake/router.h"

#include <utility>

#include "cli/intake/blocking_call.h"
#include "cli/intake/call_body.h"
#include "cli/intake/metrics.h"
#include "cli/intake/origin_check.h"
#include "cli/intake/routes.h"
#include "cli/intake/submit_call.h"
#include "cli/status_table.h"
#include "cli/target_pattern.h"
#include "engine/pure/ascii.h"
#include "engine/pure/url.h"
#include "postbag/config.h"

namespace postbag {
namespace {

// Only POST /v1/hooks has a body worth reading.
constexpr std::uint64_t other_body_max = 64 * 1024;
constexpr std::uint64_t filter_body_max = 1024 * 1024;
constexpr std::uint64_t failed_limit_default = 100;
constexpr std::uint64_t failed_limit_max = 10'000;
constexpr std::size_t failed_answer_bytes = 4 << 20;
constexpr Duration wait_default = std::chrono::seconds(30);
constexpr Duration wait_max = std::chrono::minutes(10);

// A filter of many ids is too long for a head: a form in the body is more of the query. Any other
// body was meant to say something, and a route that passed over it would do more than was asked;
// but a probe asks for nothing that could be more.
std::optional<ApiError> take_body(const Request& request, Query& query) {
  const auto route = static_cast<Route>(request.route);
  if (request.body == nullptr || request.body->view().empty()) return {};
  if (route == Route::live || route == Route::ready) return {};
  const std::string_view type = request.head.find("content-type").value_or("");
  const bool is_form = equal_ignoring_case(media_type(type), "application/x-www-form-urlencoded");
  if (!takes_filter(route)) {
    return bad_query("this route takes no body; what it takes stands in the query");
  }
  if (is_form) return Query::parse(request.body->view(), query);
  return bad_query(
      "the filters of this route stand in the query, or in an application/x-www-form-urlencoded "
      "body");
}

std::optional<ApiError> take_wait(Query& query, std::optional<Duration>& wait) {
  const auto mode = query.take("wait");
  const auto text = query.take("timeout");
  if (!mode && text) return bad_query("'timeout' needs 'wait=delivered'");
  if (!mode) return {};
  if (*mode != "delivered") return bad_query("'wait' can only be 'delivered'");
  wait = wait_default;
  if (text) wait = parse_duration(*text);
  if (!wait || *wait <= Duration::zero() || *wait > wait_max) {
    return bad_query("'timeout' is not a duration of more than 0 and at most 10m");
  }
  return {};
}

Answer text_answer(std::string body) {
  Answer answer;
  answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
  answer.body = std::move(body);
  return answer;
}

}  // namespace

Router::Router(IntakeBackend& backend, RouterOptions options, std::shared_ptr<IntakeLoop> loop,
               WorkerPool& pool)
    : backend_(backend),
      options_(std::move(options)),
      loop_(std::move(loop)),
      pool_(pool),
      stopping_long_calls_(std::make_shared<std::atomic<bool>>(false)),
      retry_route_{backend_, loop_, pool_, stopping_long_calls_} {
  constexpr std::size_t full_answer_bytes = 1024;
  full_answer_.reserve(full_answer_bytes);
}

std::optional<Answer> Router::check_token(const Request& request) const {
  if (!options_.tokens || request.local || request.path.starts_with("/healthz/")) return {};
  std::size_t count = 0;
  const auto authorization = request.head.find("authorization", &count);
  if (count == 1 && options_.tokens->allows(*authorization)) return {};
  Answer answer = error_answer({401, "unauthorized", "a bearer token is needed", {}});
  answer.fields = "WWW-Authenticate: Bearer\r\n";
  return answer;
}

// A token is more than a page of another origin can have. What asks for the health may come through
// a proxy that names it as the public does; it learns whether the engine is ready and a word of why
// not.
std::optional<Answer> Router::check_origin(const Request& request) const {
  const bool is_health = request.path.starts_with("/healthz/");
  const bool by_token = options_.tokens && !is_health;
  if (request.local || by_token) return {};
  if (is_of_foreign_page(request.head)) {
    return error_answer({403, "origin", "requests of web pages are taken with a token only", {}});
  }
  if (options_.on_loopback && !is_health && is_of_public_name(request.head)) {
    return error_answer({403,
                         "origin",
                         "Host is neither an address nor a name of this machine; that is taken "
                         "with a token only",
                         {}});
  }
  return {};
}

Router::HeadVerdict Router::judge_head(Request& request) const {
  const std::string_view target = request.head.target;
  const std::size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  request.query = mark == std::string_view::npos ? "" : target.substr(mark + 1);

  HeadVerdict verdict;
  verdict.refusal = check_token(request);
  if (!verdict.refusal) verdict.refusal = check_origin(request);
  if (verdict.refusal) return verdict;

  const RouteMatch match = find_route(request.head.method, request.path, request.local);
  request.route = static_cast<unsigned>(match.route);
  if (match.route == Route::unknown) {
    if (match.allow.empty()) {
      verdict.refusal = error_answer({404, "not_found", "there is no such route", {}});
    } else {
      verdict.refusal = error_answer({405, "method", "this route takes " + match.allow, {}});
      verdict.refusal->fields = "Allow: " + match.allow + "\r\n";
    }
    return verdict;
  }
  const bool reads = request.head.method == "GET" || request.head.method == "HEAD";
  if (stopping() && !reads) {
    verdict.refusal = error_answer({503, "stopping", "the daemon is stopping", {}});
    verdict.refusal->close = true;
    return verdict;
  }
  verdict.body_max = takes_filter(match.route) ? filter_body_max : other_body_max;
  if (match.route == Route::submit) {
    verdict.body_max = options_.max_body;
    if (const auto error = check_content(request.head)) verdict.refusal = error_answer(*error);
  }
  return verdict;
}

void Router::handle(const SharedExchange& exchange) {
  const Request& request = exchange->request();
  const auto route = static_cast<Route>(request.route);
  if (route == Route::submit) return submit(exchange);

  Query query;
  auto error = Query::parse(request.query, query);
  if (!error) error = take_body(request, query);
  if (error) return exchange->answer(error_answer(*error));
  switch (route) {
    case Route::cancel:
      return cancel(exchange, query);
    case Route::targets:
      return list_targets(exchange, query);
    case Route::list_failed:
      return list_failed(exchange, query);
    case Route::purge_failed:
      return purge_failed(exchange, query);
    case Route::retry_failed:
      return retry_failed(exchange, query);
    case Route::plan_retry:
      return plan_retry(exchange, query);
    case Route::flush:
      return flush(exchange, query);
    case Route::backup:
      return backup(exchange, query);
    case Route::show_hook:
      return show_hook(exchange);
    case Route::status:
      error = query.check_all_taken();
      if (error) return exchange->answer(error_answer(*error));
      return exchange->answer(status_answer(status()));
    case Route::metrics:
      return exchange->answer(text_answer(prometheus_text(status(), counts())));
    case Route::live:
      return answer_health(exchange, status(), false);
    case Route::ready:
      return answer_health(exchange, status(), true);
    case Route::submit:
    case Route::unknown:
      break;
  }
  exchange->answer(error_answer({404, "not_found", "there is no such route", {}}));
}

// Of the daemon, which begins to drain with its intake.
EngineStatus Router::status() const {
  EngineStatus status = backend_.status();
  status.draining = status.draining || stopping();
  return status;
}

void Router::note_error(const Answer& answer) noexcept {
  errors_[answer.error->index()].fetch_add(1, std::memory_order_relaxed);
  if (*answer.error == "full" && answer.body.size() <= full_answer_.capacity()) {
    full_answer_ = answer.body;
  }
}

IntakeCounts Router::counts() const {
  IntakeCounts counts{dropped_.load(), turned_away_.load(), {}};
  for (std::size_t i = 0; i < errors_.size(); ++i) counts.errors[i] = errors_[i].load();
  return counts;
}

// Live: the process is worth keeping. Ready: it accepts hooks.
void Router::answer_health(const SharedExchange& exchange, const EngineStatus& status,
                           bool readiness) {
  const std::string_view state = state_name(status);
  if (readiness ? state != "running" : !status.healthy) {
    const std::string why =
        state == "disk_low" ? ", the store has no room for more (the log says which limit)" : "";
    return exchange->answer(
        error_answer({503,
                      readiness ? ErrorCode("not_ready") : ErrorCode("not_live"),
                      (readiness ? "not ready: " : "not live: ") + std::string(state) + why,
                      {}}));
  }
  Answer answer;
  answer.body = readiness ? R"({"ready":true})" : R"({"live":true})";
  exchange->answer(std::move(answer));
}

void Router::submit(const SharedExchange& exchange) {
  const Request& request = exchange->request();
  SubmitCall call;
  if (!request.query.empty()) {
    Query query;
    auto error = Query::parse(request.query, query);
    if (!error) error = take_wait(query, call.wait);
    if (!error) error = query.check_all_taken();
    if (error) return exchange->answer(error_answer(*error));
  }
  // What takes long to parse holds nothing back.
  constexpr std::size_t burst_body_max = 64 * 1024;
  if (request.body && request.body->view().size() > burst_body_max) loop_->end_burst();
  ParsedCall parsed = parse_call_body(request);
  if (parsed.error) return exchange->answer(error_answer(*parsed.error));
  call.hooks = std::move(parsed.hooks);
  call.ids = std::move(parsed.ids);
  run_submit(backend_, loop_, exchange, options_.durability, std::move(call));
}

void Router::run_blocking(const SharedExchange& exchange, Job job) {
  auto call = std::make_shared<BlockingCall>(exchange, std::move(job));
  if (BlockingCall::start(pool_, loop_, std::move(call))) return;
  exchange->answer(error_answer(why_not_started(pool_)));
}

void Router::cancel(const SharedExchange& exchange, Query& query) {
  const auto target = query.take("target");
  auto error = query.check_all_taken();
  if (!error && !target) error = bad_query("'target' is missing (a glob; * is every target)");
  if (error) return exchange->answer(error_answer(*error));
  run_blocking(exchange, [this, glob = target_pattern(*target)] {
    const CancelResult result = backend_.cancel(glob);
    return result.error ? error_answer(to_api_error(result.error))
                        : count_answer("cancelled", result.cancelled);
  });
}

void Router::flush(const SharedExchange& exchange, Query& query) {
  auto target = query.take("target");
  auto problem = query.check_all_taken();
  std::string reason;
  if (!problem && target && !parse_url(*target, reason)) {
    problem = ApiError{422, "url_syntax", "'target': " + reason, {}};
  }
  if (problem) return exchange->answer(error_answer(*problem));
  run_blocking(exchange, [this, url = std::move(target)] {
    std::optional<std::string_view> only;
    if (url) only = *url;
    return count_answer("bags", backend_.flush(only));
  });
}

void Router::show_hook(const SharedExchange& exchange) {
  const std::string_view id = exchange->request().path.substr(hook_prefix.size());
  run_blocking(exchange, [this, wanted = std::string(id)] {
    if (const auto hook = backend_.find_hook(wanted)) return hook_answer(*hook);
    return error_answer({404, "not_found", "no hook of this id is known", {}});
  });
}

void Router::list_targets(const SharedExchange& exchange, Query& query) {
  std::optional<std::uint64_t> limit;
  auto error = take_number(query, "limit", 1, 100'000, limit);
  if (!error) error = query.check_all_taken();
  if (error) return exchange->answer(error_answer(*error));
  run_blocking(exchange, [this, count = limit.value_or(1000)] {
    return targets_answer(backend_.targets(count));
  });
}

void Router::list_failed(const SharedExchange& exchange, Query& query) {
  FailedFilter filter;
  std::optional<std::uint64_t> limit;
  std::optional<std::uint64_t> after;
  FailedParts parts;
  auto error = take_filter(query, options_.wall_now(), filter);
  if (!error) error = take_number(query, "limit", 1, failed_limit_max, limit);
  if (!error) error = take_number(query, "after", 0, UINT64_MAX, after);
  if (!error) error = take_bool(query, "bodies", parts.bodies);
  if (!error) error = take_bool(query, "header_values", parts.header_values);
  if (!error) error = query.check_all_taken();
  if (error) return exchange->answer(error_answer(*error));

  const std::size_t rows_max = limit.value_or(failed_limit_default);
  run_blocking(exchange, [this, filter, rows_max, after, parts]() -> Answer {
    FailedPage all;
    all.next = after;
    std::size_t bytes = 0;
    do {  // the store answers in slices, which may be empty before the end
      SliceLimits limits;
      limits.rows = rows_max - all.rows.size();
      limits.bytes = failed_answer_bytes - bytes;
      limits.bodies = parts.bodies;
      FailedPage page;
      const auto problem = backend_.list_failed(filter, all.next, limits, page);
      if (problem) return error_answer(to_api_error(problem));
      for (FailedHook& row : page.rows) {
        bytes += row.body.size() + row.response_excerpt.size();
        all.rows.push_back(std::move(row));
      }
      all.next = page.next;
    } while (all.next && all.rows.size() < rows_max && bytes < failed_answer_bytes &&
             !stopping_long_calls_->load());
    return failed_answer(all, parts);
  });
}

void Router::purge_failed(const SharedExchange& exchange, Query& query) {
  FailedFilter filter;
  bool all = false;
  std::optional<std::uint64_t> limit;
  auto error = take_filter(query, options_.wall_now(), filter);
  if (!error) error = take_bool(query, "all", all);
  if (!error) error = take_number(query, "limit", 1, UINT64_MAX, limit);
  if (!error) error = query.check_all_taken();
  if (!error && all == !filter.empty()) {
    error = bad_query(all ? "'all=true' stands beside a filter"
                          : "without a filter 'all=true' must say that every row is meant");
  }
  if (error) return exchange->answer(error_answer(*error));
  run_blocking(exchange, [this, filter, limit] {
    const PurgeResult result = backend_.purge_failed(filter, limit);
    return result.error ? error_answer(to_api_error(result.error)) : purge_answer(result);
  });
}

std::optional<ApiError> Router::take_retry_options(Query& query, RetryOptions& options) const {
  std::optional<std::uint64_t> retries;
  auto error = take_filter(query, options_.wall_now(), options.filter);
  if (!error) error = take_number(query, "limit", 1, UINT64_MAX, options.limit);
  if (!error) error = take_number(query, "retries", 0, 1'000'000, retries);
  if (!error) error = query.check_all_taken();
  if (retries) options.retries = static_cast<std::uint32_t>(*retries);
  return error;
}

void Router::plan_retry(const SharedExchange& exchange, Query& query) {
  RetryOptions options;
  const auto error = take_retry_options(query, options);
  if (error) return exchange->answer(error_answer(*error));
  run_blocking(exchange, [this, options] {
    const RetryPlan plan = backend_.plan_retry(options);
    return plan.error ? error_answer(to_api_error(plan.error)) : plan_answer(plan);
  });
}

void Router::retry_failed(const SharedExchange& exchange, Query& query) {
  // A run holds a worker for as long as it takes; the others must stay free for short calls.
  constexpr int runs_max = 2;
  RetryOptions options;
  const auto error = take_retry_options(query, options);
  if (error) return exchange->answer(error_answer(*error));
  if (*retry_route_.runs >= runs_max) {
    return exchange->answer(error_answer(
        {503, "full", "two runs of retry-failed-hooks are under way, the most at a time", {}}));
  }
  run_retry(retry_route_, exchange, std::move(options));
}

void Router::backup(const SharedExchange& exchange, Query& query) {
  auto path = query.take("path");
  auto error = query.check_all_taken();
  if (!error && (!path || !path->starts_with('/')))
    error = bad_query("'path' is not an absolute path");
  if (error) return exchange->answer(error_answer(*error));
  // It may take minutes: not for nobody.
  const auto gone = std::make_shared<std::stop_source>();
  exchange->on_peer_gone([gone] { gone->request_stop(); }, nullptr);
  run_blocking(exchange, [this, to = std::move(*path), stop = gone->get_token()]() -> Answer {
    if (const auto problem = backend_.backup(to, stop)) return error_answer(to_api_error(problem));
    Answer answer;
    answer.body = "{\"backup\":true}";
    return answer;
  });
}

}  // namespace postbag
