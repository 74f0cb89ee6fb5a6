#include "cli/intake/answers.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "cli/masked_headers.h"
#include "cli/status_table.h"
#include "cli/text/json_writer.h"
#include "cli/text/utf8.h"
#include "engine/pure/header_rules.h"

namespace postbag {
namespace {

// The id of the call's hook `i`: its producer's own, or the one that the engine gave it.
void write_id(JsonWriter& json, std::string& out, const SubmitResult& result,
              std::span<const std::string_view> own_ids, std::size_t i) {
  if (i < own_ids.size() && !own_ids[i].empty()) {
    json.value(own_ids[i]);
  } else if (i < result.ids.size()) {
    json.raw("\"");
    append_to(out, result.ids[i]);
    out += '"';
  } else {
    json.null();
  }
}

// The members that every answer to accepted hooks begins with.
void write_accepted(JsonWriter& json, std::string& out, const SubmitResult& result,
                    std::span<const std::string_view> own_ids, Durability durability) {
  json.member("accepted", result.accepted);
  json.member("duplicates", result.duplicates);
  json.key("ids");
  json.begin_array();
  const std::size_t count = std::max(result.ids.size(), own_ids.size());
  out.reserve(out.size() + count * 40 + 128);
  for (std::size_t i = 0; i < count; ++i) write_id(json, out, result, own_ids, i);
  json.end_array();
  json.member("durability", durability_name(durability));
}

// "Name: value\r\n"... as an object; a name that stands twice keeps its place twice, as JSON
// allows.
void write_header_lines(JsonWriter& json, std::string& out, std::string_view lines,
                        bool has_values) {
  json.begin_object();
  for_each_header(lines, [&](std::string_view name, std::string_view value) {
    json.value(name);
    out += ':';
    append_json_string(out, has_values ? value : masked_header_value);
  });
  json.end_object();
}

}  // namespace

void write_failed_hook(JsonWriter& json, std::string& out, const FailedHook& row,
                       FailedParts parts) {
  json.begin_object();
  json.member("id", row.id);
  json.member("target", row.target);
  json.member("group", row.group);
  json.member("event", row.event);
  json.member("content_type", row.content_type.empty() ? "application/json" : row.content_type);
  json.member("reason", reason_token(row.reason, row.status));
  json.member("status", row.status);
  json.member("attempts", row.attempts);
  json.time_member("first_at", row.first_at);
  json.time_member("last_at", row.last_at);
  if (parts.bodies) {
    if (!row.headers.empty()) {
      json.key("headers");
      write_header_lines(json, out, row.headers, parts.header_values);
    }
    if (is_valid_utf8(row.body)) {
      json.member("body", row.body);
    } else {
      json.member("body_base64", to_base64(row.body));
    }
    json.member("response_headers", parts.header_values
                                        ? row.response_headers
                                        : mask_response_headers(row.response_headers, row.headers));
    json.member("response_excerpt", row.response_excerpt);
  }
  json.end_object();
}

namespace {

void write_member(JsonWriter& json, std::string_view name, const auto& value) {
  json.member(name, value);
}
void write_member(JsonWriter& json, std::string_view name, Durability value) {
  json.member(name, durability_name(value));
}

void write_progress(JsonWriter& json, const RetryProgress& progress) {
  json.member("delivered", progress.delivered);
  json.member("failed", progress.failed);
  json.member("skipped", progress.skipped);
  if (progress.stopped) json.member("stopped", true);
  if (progress.claimed > 0) json.member("claimed", progress.claimed);
}

}  // namespace

int http_status(Errc error) {
  switch (error) {
    case Errc::ok:
      return 200;
    case Errc::bad_hook:
    case Errc::not_json:
    case Errc::empty:
    case Errc::url_syntax:
    case Errc::target_forbidden:
    case Errc::header:
      return 422;
    case Errc::too_large:
      return 413;
    case Errc::id_conflict:
      return 409;
    case Errc::full:
    case Errc::stopping:
    case Errc::store_failed:
      return 503;
    case Errc::disk_low:
      return 507;
    case Errc::not_found:
      return 404;
    case Errc::store_busy:
    case Errc::store_corrupt:
    case Errc::store_newer:
    case Errc::store_cannot_create:
    case Errc::store_permission:
    case Errc::store_io:
      return 500;
  }
  return 500;
}

void append_error(std::string& out, const ApiError& error) {
  JsonWriter json(out);
  json.begin_object();
  json.member("code", error.code.name());
  json.member("message", error.message);
  if (error.index) json.member("index", *error.index);
  json.end_object();
}

Answer error_answer(const ApiError& error) {
  Answer answer;
  answer.status = error.status;
  answer.error = error.code;
  answer.body = "{\"error\":";
  append_error(answer.body, error);
  answer.body += '}';
  if (error.status == 503) answer.fields = "Retry-After: 1\r\n";
  return answer;
}

ApiError out_of_memory() {
  return {503, "full", "out of memory", {}};
}

ApiError bodies_full(const ByteBudget& budget) {
  return {503,
          "full",
          "the bodies of requests have the " + std::to_string(budget.limit_bytes()) +
              " bytes that they may have at a time (of max_memory a quarter, or two of max_body)",
          {}};
}

ApiError body_too_large(std::uint64_t bytes_max) {
  return {413,
          "too_large",
          "the body has more than the " + std::to_string(bytes_max) + " bytes that are taken here",
          {}};
}

ApiError to_api_error(const SubmitResult& result) {
  ApiError error;
  error.status = http_status(result.error);
  error.code = ErrorCode(result.error);
  error.message = result.message;
  const bool one_is_to_blame =
      result.error < Errc::full && result.error != Errc::empty && result.index != result.whole_call;
  if (one_is_to_blame) error.index = result.index;
  return error;
}

ApiError to_api_error(std::error_code code) {
  if (code.category() != postbag_category()) return {500, "internal", code.message(), {}};
  const auto errc = static_cast<Errc>(code.value());
  return {http_status(errc), ErrorCode(errc), code.message(), {}};
}

Answer accepted_answer(const SubmitResult& result, std::span<const std::string_view> own_ids,
                       Durability durability) {
  Answer answer;
  answer.status = 202;
  answer.body.reserve(std::max(result.ids.size(), own_ids.size()) * 40 + 128);
  JsonWriter json(answer.body);
  json.begin_object();
  write_accepted(json, answer.body, result, own_ids, durability);
  json.end_object();
  return answer;
}

namespace {

bool has_failed(const WaitedHook& hook) {
  return hook.known && !hook.outcome.delivered;
}

// Of an id another call may have brought the hook, or have been told that it is accepted: then it
// stays as a failed row.
const char* what_becomes_of_failed(std::span<const std::string_view> own_ids,
                                   std::span<const WaitedHook> hooks) {
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    if (has_failed(hooks[i]) && i < own_ids.size() && !own_ids[i].empty()) {
      return "they are not kept, but for ids that another call relies on";
    }
  }
  return "they are not kept";
}

// Of the answer at the timeout, or at once where nothing but forgotten ones is left.
ApiError missing_error(std::size_t missing, std::size_t forgotten, const std::string& of_all) {
  std::string message;
  if (missing > forgotten) {
    message =
        std::to_string(missing - forgotten) + of_all + "have no outcome yet; they stay accepted";
  }
  if (forgotten > 0) {
    message += (message.empty() ? "" : "; ") + std::string("of ") + std::to_string(forgotten) +
               of_all +
               "the outcome is not remembered: they were delivered before the start, or deleted";
  }
  const auto code = missing > forgotten ? ErrorCode("timeout") : ErrorCode("not_remembered");
  return {504, code, message, {}};
}

}  // namespace

Answer waited_answer(const SubmitResult& result, std::span<const std::string_view> own_ids,
                     Durability durability, std::span<const WaitedHook> hooks) {
  std::size_t known = 0;
  std::size_t failed = 0;
  std::size_t forgotten = 0;
  for (const WaitedHook& hook : hooks) {
    known += hook.known ? 1 : 0;
    forgotten += hook.forgotten ? 1 : 0;
    failed += has_failed(hook) ? 1 : 0;
  }
  Answer answer;
  answer.status = known < hooks.size() ? 504 : failed > 0 ? 502 : 200;
  std::string& out = answer.body;
  JsonWriter json(out);
  json.begin_object();
  if (answer.status != 200) {
    const std::string of_all = " of " + std::to_string(hooks.size()) + " hooks ";
    ApiError error = missing_error(hooks.size() - known, forgotten, of_all);
    if (answer.status == 502) {
      error = {502,
               "not_delivered",
               std::to_string(failed) + of_all + "could not be delivered; " +
                   what_becomes_of_failed(own_ids, hooks),
               {}};
    }
    answer.error = error.code;
    json.key("error");
    std::string text;
    append_error(text, error);
    json.raw(text);
  }
  write_accepted(json, out, result, own_ids, durability);
  json.key("outcomes");
  json.begin_array();
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    if (!hooks[i].known) continue;
    const HookOutcome& outcome = hooks[i].outcome;
    json.begin_object();
    json.key("id");
    write_id(json, out, result, own_ids, i);
    json.member("state", outcome.delivered ? "delivered" : "failed");
    json.member("reason",
                outcome.delivered ? std::string() : reason_token(outcome.reason, outcome.status));
    json.key("status");
    if (outcome.delivered && outcome.status == 0) {
      json.null();  // delivered before this call came: the answer is not remembered
    } else {
      json.value(outcome.status);
    }
    json.end_object();
  }
  json.end_array();
  json.end_object();
  return answer;
}

Answer status_answer(const EngineStatus& status) {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object();
  for (const StatusMember& one : status_table()) {
    std::visit([&](auto member) { write_member(json, one.json, status.*member); }, one.member);
  }
  json.member("state", state_name(status));
  json.member("version", version());
  json.end_object();
  return answer;
}

Answer targets_answer(const std::vector<TargetStatus>& targets) {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object();
  json.key("targets");
  json.begin_array();
  for (const TargetStatus& target : targets) {
    json.begin_object();
    json.member("url", target.url);
    json.member("log_name", target.log_name);
    json.member("state", target.state);
    json.member("waiting", target.waiting);
    json.member("in_flight", target.in_flight);
    json.member("retrying", target.retrying);
    json.member("delivered", target.delivered);
    json.member("given_up", target.given_up);
    json.member("last_status", target.last_status);
    json.member("last_reason", target.last_reason);
    json.time_member("last_attempt_at", target.last_attempt_ms);
    json.end_object();
  }
  json.end_array();
  json.end_object();
  return answer;
}

Answer hook_answer(const HookStatus& hook) {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object();
  json.member("id", hook.id);
  if (!hook.target.empty()) json.member("target", hook.target);
  json.member("state", hook.state);
  // Of a delivered hook no more is remembered.
  if (hook.state != "delivered") {
    json.member("attempts", hook.attempts);
    json.member("reason", hook.reason);
    json.member("status", hook.status);
  }
  json.end_object();
  return answer;
}

Answer failed_answer(const FailedPage& page, FailedParts parts) {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object();
  json.key("failed");
  json.begin_array();
  for (const FailedHook& row : page.rows) write_failed_hook(json, answer.body, row, parts);
  json.end_array();
  json.key("next");
  if (page.next) {
    json.value(std::to_string(*page.next));
  } else {
    json.null();
  }
  json.end_object();
  return answer;
}

void append_progress(std::string& out, const RetryProgress& progress) {
  JsonWriter json(out);
  json.begin_object();
  write_progress(json, progress);
  json.end_object();
}

void append_progress_line(std::string& out, const RetryProgress& progress, bool done) {
  JsonWriter json(out);
  json.begin_object();
  write_progress(json, progress);
  json.member("total", progress.total);
  json.member("done", done);
  json.end_object();
  out += '\n';
}

Answer purge_answer(const PurgeResult& result) {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object();
  json.member("purged", result.purged);
  if (result.claimed > 0) json.member("claimed", result.claimed);
  json.end_object();
  return answer;
}

Answer plan_answer(const RetryPlan& plan) {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object();
  json.member("hooks", plan.hooks);
  json.member("targets", plan.targets);
  json.member("requests", plan.requests);
  json.member("bytes", plan.bytes);
  json.member("skipped", plan.skipped);
  json.end_object();
  return answer;
}

Answer count_answer(std::string_view name, std::uint64_t count) {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object();
  json.member(name, count);
  json.end_object();
  return answer;
}

}  // namespace postbag
