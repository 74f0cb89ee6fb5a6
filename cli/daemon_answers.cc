#include "cli/daemon_answers.h"

#include <simdjson.h>

#include <variant>

#include "cli/status_table.h"
#include "cli/text/rfc3339.h"
#include "postbag/outcome.h"

namespace postbag {

namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

// Parses into `parser`, which must outlive the object.
std::optional<object> parse_object(simdjson::dom::parser& parser, std::string_view json) {
  object root;
  if (parser.parse(json.data(), json.size()).get_object().get(root) != simdjson::SUCCESS) return {};
  return root;
}

std::uint64_t number_of(const object& from, std::string_view name) {
  std::int64_t number = 0;
  if (from[name].get_int64().get(number) != simdjson::SUCCESS || number < 0) return 0;
  return static_cast<std::uint64_t>(number);
}

double real_of(const object& from, std::string_view name) {
  double number = 0;
  if (from[name].get_double().get(number) != simdjson::SUCCESS) return 0;
  return number;
}

std::string text_of(const object& from, std::string_view name) {
  std::string_view text;
  if (from[name].get_string().get(text) != simdjson::SUCCESS) return {};
  return std::string(text);
}

bool flag_of(const object& from, std::string_view name, bool otherwise) {
  bool flag = otherwise;
  if (from[name].get_bool().get(flag) != simdjson::SUCCESS) return otherwise;
  return flag;
}

void read_member(const object& from, std::string_view name, std::uint64_t& value) {
  value = number_of(from, name);
}
void read_member(const object& from, std::string_view name, std::uint32_t& value) {
  value = static_cast<std::uint32_t>(number_of(from, name));
}
void read_member(const object& from, std::string_view name, double& value) {
  value = real_of(from, name);
}
void read_member(const object& from, std::string_view name, bool& value) {
  value = flag_of(from, name, value);
}
void read_member(const object& from, std::string_view name, Durability& value) {
  const std::string text = text_of(from, name);
  for (const Durability level : {Durability::memory, Durability::os, Durability::fsync}) {
    if (text == durability_name(level)) value = level;
  }
}

WallMs time_of(const object& from, std::string_view name) {
  return parse_rfc3339(text_of(from, name)).value_or(0);
}

template <typename Each>
void for_each_object(const object& from, std::string_view name, const Each& each) {
  array items;
  if (from[name].get_array().get(items) != simdjson::SUCCESS) return;
  for (const element item : items) {
    object one;
    if (item.get_object().get(one) == simdjson::SUCCESS) each(one);
  }
}

// RFC 4648 with padding. What is not base64 is nothing.
std::optional<std::string> from_base64(std::string_view text) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const std::size_t digit = alphabet.find(c);
    if (digit == std::string_view::npos) return {};
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>(bits >> held & 0xFF);
    }
  }
  return out;
}

// {"Name": "value"} as the store keeps it: "Name: value\r\n"...
std::string headers_of(const object& from) {
  std::string out;
  object headers;
  if (from["headers"].get_object().get(headers) != simdjson::SUCCESS) return out;
  for (const auto field : headers) {
    std::string_view value;
    if (field.value.get_string().get(value) != simdjson::SUCCESS) continue;
    out.append(field.key).append(": ").append(value).append("\r\n");
  }
  return out;
}

FailedHook failed_hook_of(const object& from) {
  FailedHook row;
  row.id = text_of(from, "id");
  row.target = text_of(from, "target");
  row.group = text_of(from, "group");
  row.event = text_of(from, "event");
  row.headers = headers_of(from);
  row.content_type = text_of(from, "content_type");
  row.body = text_of(from, "body");
  if (const std::string encoded = text_of(from, "body_base64"); !encoded.empty()) {
    row.body = from_base64(encoded).value_or("");
  }
  const auto reason = parse_reason(text_of(from, "reason")).value_or(ParsedReason{});
  row.reason = reason.reason;
  row.status = static_cast<int>(number_of(from, "status"));
  row.attempts = static_cast<std::uint32_t>(number_of(from, "attempts"));
  row.first_at = time_of(from, "first_at");
  row.last_at = time_of(from, "last_at");
  row.response_headers = text_of(from, "response_headers");
  row.response_excerpt = text_of(from, "response_excerpt");
  return row;
}

}  // namespace

DaemonError parse_daemon_error(std::string_view json) {
  simdjson::dom::parser parser;
  DaemonError error;
  object inner;
  const auto root = parse_object(parser, json);
  if (!root || (*root)["error"].get_object().get(inner) != simdjson::SUCCESS) return error;
  error.code = text_of(inner, "code");
  error.message = text_of(inner, "message");
  std::int64_t index = 0;
  if (inner["index"].get_int64().get(index) == simdjson::SUCCESS && index >= 0) {
    error.index = static_cast<std::uint64_t>(index);
  }
  return error;
}

std::uint64_t json_number(std::string_view json, std::string_view name) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  return root ? number_of(*root, name) : 0;
}

std::string json_text(std::string_view json, std::string_view name) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  return root ? text_of(*root, name) : std::string();
}

std::optional<AcceptedAnswer> parse_accepted(std::string_view json) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  if (!root) return {};
  AcceptedAnswer answer;
  answer.accepted = number_of(*root, "accepted");
  answer.duplicates = number_of(*root, "duplicates");
  array ids;
  if ((*root)["ids"].get_array().get(ids) == simdjson::SUCCESS) {
    for (const element id : ids) {
      std::string_view text;
      if (id.get_string().get(text) == simdjson::SUCCESS) answer.ids.emplace_back(text);
    }
  }
  return answer;
}

std::optional<RetryProgress> parse_retry_progress(std::string_view json) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  if (!root) return {};
  RetryProgress progress;
  progress.delivered = number_of(*root, "delivered");
  progress.failed = number_of(*root, "failed");
  progress.skipped = number_of(*root, "skipped");
  progress.total = number_of(*root, "total");
  progress.claimed = number_of(*root, "claimed");
  return progress;
}

std::optional<RetryPlan> parse_retry_plan(std::string_view json) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  if (!root) return {};
  RetryPlan plan;
  plan.hooks = number_of(*root, "hooks");
  plan.targets = number_of(*root, "targets");
  plan.requests = number_of(*root, "requests");
  plan.bytes = number_of(*root, "bytes");
  plan.skipped = number_of(*root, "skipped");
  return plan;
}

std::optional<HookStatus> parse_hook_status(std::string_view json) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  if (!root) return {};
  HookStatus status;
  status.id = text_of(*root, "id");
  status.target = text_of(*root, "target");
  status.state = text_of(*root, "state");
  status.attempts = static_cast<std::uint32_t>(number_of(*root, "attempts"));
  status.reason = text_of(*root, "reason");
  status.status = static_cast<int>(number_of(*root, "status"));
  return status;
}

std::optional<EngineStatus> parse_engine_status(std::string_view json) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  if (!root) return {};
  EngineStatus status;
  for (const StatusMember& one : status_table()) {
    std::visit([&](auto member) { read_member(*root, one.json, status.*member); }, one.member);
  }
  return status;
}

std::optional<std::vector<TargetStatus>> parse_targets(std::string_view json) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  if (!root) return {};
  std::vector<TargetStatus> targets;
  for_each_object(*root, "targets", [&](const object& from) {
    TargetStatus target;
    target.url = text_of(from, "url");
    target.log_name = text_of(from, "log_name");
    target.state = text_of(from, "state");
    target.waiting = number_of(from, "waiting");
    target.in_flight = number_of(from, "in_flight");
    target.retrying = number_of(from, "retrying");
    target.delivered = number_of(from, "delivered");
    target.given_up = number_of(from, "given_up");
    target.last_status = static_cast<int>(number_of(from, "last_status"));
    target.last_reason = text_of(from, "last_reason");
    targets.push_back(std::move(target));
  });
  return targets;
}

std::optional<FailedAnswer> parse_failed_page(std::string_view json) {
  simdjson::dom::parser parser;
  const auto root = parse_object(parser, json);
  if (!root) return {};
  FailedAnswer answer;
  for_each_object(*root, "failed",
                  [&](const object& from) { answer.rows.push_back(failed_hook_of(from)); });
  // A number or a text: it is handed back as it came.
  answer.next = text_of(*root, "next");
  if (const std::uint64_t number = number_of(*root, "next"); number > 0) {
    answer.next = std::to_string(number);
  }
  return answer;
}

}  // namespace postbag
