#include "cli/failed_text.h"

#include <algorithm>

#include "cli/console.h"
#include "cli/intake/answers.h"
#include "cli/masked_headers.h"
#include "cli/table.h"
#include "cli/text/json_writer.h"
#include "cli/text/rfc3339.h"
#include "engine/pure/header_rules.h"
#include "postbag/json.h"
#include "postbag/target_match.h"

namespace postbag {

std::optional<std::string> export_line(const FailedHook& row) {
  if (check_json(row.body, false)) return std::nullopt;
  std::string data = row.body;
  std::replace_if(
      data.begin(), data.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  std::string line;
  JsonWriter json(line);
  json.begin_object();
  json.member("target", row.target);
  json.key("data");
  json.raw(data);
  if (!row.event.empty()) json.member("event", row.event);
  if (!row.group.empty()) json.member("group", row.group);
  if (!row.id.empty()) json.member("id", row.id);
  if (!row.headers.empty()) {
    std::string members;
    for_each_header(row.headers, [&](std::string_view name, std::string_view value) {
      if (!members.empty()) members += ',';
      append_json_string(members, name);
      members += ':';
      append_json_string(members, value);
    });
    json.key("headers");
    json.raw("{" + members + "}");
  }
  json.end_object();
  return line;
}

std::string failed_json(const FailedHook& row) {
  std::string text;
  JsonWriter json(text);
  write_failed_hook(json, text, row, {});
  return text;
}

std::vector<std::string> failed_table_head() {
  return {"ID", "TARGET", "EVENT", "REASON", "ATTEMPTS", "LAST TRY", "BYTES"};
}

std::vector<std::string> failed_table_row(const FailedHook& row) {
  return {printable(row.id),
          shortened(printable(row.target), 60),
          shortened(printable(row.event), 24),
          reason_token(row.reason, row.status),
          std::to_string(row.attempts),
          format_rfc3339(row.last_at),
          std::to_string(row.body.size())};
}

std::string failed_details(const FailedHook& row) {
  std::vector<std::vector<std::string>> lines;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) lines.push_back({name, value});
  };
  add("id", printable(row.id));
  add("target", printable(row.target));
  add("in log", printable(target_log_name(row.target)));
  add("event", printable(row.event));
  add("group", printable(row.group));
  add("content type", row.content_type.empty() ? "application/json" : printable(row.content_type));
  for_each_header(row.headers, [&](std::string_view name, std::string_view) {
    add("header", printable(std::string(name)) + ": " + std::string(masked_header_value));
  });
  add("reason", reason_token(row.reason, row.status));
  if (row.status != 0) add("last status", std::to_string(row.status));
  add("attempts", std::to_string(row.attempts));
  add("first at", format_rfc3339(row.first_at));
  add("last at", format_rfc3339(row.last_at));
  const std::string answered = mask_response_headers(row.response_headers, row.headers);
  for_each_header(answered, [&](std::string_view name, std::string_view value) {
    add("answer header", printable(std::string(name) + ": " + std::string(value)));
  });
  add("answer", printable(row.response_excerpt));
  std::string text = render_table(lines);
  return text + "body (" + std::to_string(row.body.size()) + " bytes)\n" + printable(row.body) +
         "\n";
}

}  // namespace postbag
