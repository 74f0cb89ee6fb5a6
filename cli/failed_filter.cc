#include "cli/failed_filter.h"

#include "cli/exit_codes.h"
#include "cli/target_pattern.h"
#include "cli/text/rfc3339.h"
#include "engine/pure/header_rules.h"
#include "postbag/outcome.h"

namespace postbag {

namespace {

WallMs when(const char* option, const std::string& text, WallMs now_ms) {
  const auto time = parse_when(text, now_ms);
  if (!time) {
    throw CommandError(exit_usage, std::string(option) + ": \"" + text +
                                       "\" is neither a time (2026-01-31T12:00:00Z) nor an age "
                                       "(90s, 1h, 7d)");
  }
  return *time;
}

void check_text(const char* option, std::string_view text) {
  if (const auto wrong = check_label(option, text)) throw CommandError(exit_usage, *wrong);
}

}  // namespace

FailedFilter to_failed_filter(const FilterArguments& arguments, WallMs now_ms) {
  FailedFilter filter;
  filter.target = target_pattern(arguments.target);
  filter.group = arguments.group;
  filter.event = arguments.event;
  filter.status = arguments.status;
  if (filter.group) check_text("--group", *filter.group);
  if (filter.event) check_text("--event", *filter.event);
  if (!arguments.reason.empty()) {
    const auto reason = parse_reason(arguments.reason);
    if (!reason || reason->reason == Reason::none) {
      throw CommandError(exit_usage, "--reason: there is no reason \"" + arguments.reason +
                                         "\"; connect_refused, timeout or status_503 are some");
    }
    filter.reason = arguments.reason;
  }
  if (!arguments.since.empty()) filter.since = when("--since", arguments.since, now_ms);
  if (!arguments.until.empty()) filter.until = when("--until", arguments.until, now_ms);
  for (const std::string& id : arguments.ids) {
    if (!is_valid_hook_id(id)) {
      throw CommandError(exit_usage,
                         "--id: \"" + id + "\" is no id of a hook: [A-Za-z0-9_-]{1,64}");
    }
  }
  filter.ids = arguments.ids;
  return filter;
}

std::string filter_query(const FailedFilter& filter) {
  std::string query;
  const auto add = [&](const char* name, std::string_view value) {
    if (!query.empty()) query += '&';
    query += name;
    query += '=';
    query += query_escape(value);
  };
  if (!filter.target.empty()) add("target", filter.target);
  if (filter.group) add("group", *filter.group);
  if (filter.event) add("event", *filter.event);
  if (filter.status) add("status", std::to_string(*filter.status));
  if (!filter.reason.empty()) add("reason", filter.reason);
  // An age is counted from now, on this side: the daemon gets the moment.
  if (filter.since) add("since", format_rfc3339(*filter.since));
  if (filter.until) add("until", format_rfc3339(*filter.until));
  for (const std::string& id : filter.ids) add("id", id);
  return query;
}

void set_query(ControlRequest& request, std::string_view path, const std::string& query) {
  constexpr std::size_t head_query_bytes_max = 8192;  // a head may have twice that
  request.path = path;
  if (query.size() > head_query_bytes_max) {
    request.content_type = "application/x-www-form-urlencoded";
    request.body = query;
  } else if (!query.empty()) {
    request.path += "?" + query;
  }
}

}  // namespace postbag
