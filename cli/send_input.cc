#include "cli/send_input.h"

#include <cstdint>
#include <memory>
#include <system_error>
#include <utility>

#include "cli/intake/request_body.h"
#include "cli/text/json_writer.h"
#include "engine/pure/json.h"

namespace postbag {

std::string wrapped_payload(std::string_view target, std::string_view payload) {
  std::string line;
  JsonWriter json(line);
  json.begin_object();
  json.member("target", target);
  json.key("data");
  json.raw(payload);
  json.end_object();
  return line;
}

void SendInput::read_lines(SendGroup& group) {
  while (group.line_numbers.size() < group_lines_max && group.ndjson.size() < group_bytes_max) {
    // Wait for the first line of a group only.
    if (!group.line_numbers.empty() && !lines_.ready()) break;
    std::string_view line;
    switch (lines_.next(line)) {
      case LineReader::Result::line:
        break;
      case LineReader::Result::end:
        group.last = true;
        return;
      case LineReader::Result::stopped:
        group.last = group.stopped = true;
        return;
      case LineReader::Result::too_long:
        group.error = LineError{lines_.line_number(), "the line is too long"};
        return;
      case LineReader::Result::error:
        group.error =
            LineError{lines_.line_number(),
                      "cannot read: " + std::generic_category().message(lines_.error()), exit_io};
        return;
    }
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (target_.empty()) {
      group.ndjson += line;
    } else if (const auto wrong = check_json(line, false)) {
      // Checked before it is wrapped: a payload must not be able to end its wrapping.
      group.error = LineError{lines_.line_number(), *wrong};
      return;
    } else {
      group.ndjson += wrapped_payload(target_, line);
    }
    group.ndjson += '\n';
    group.line_numbers.push_back(lines_.line_number());
  }
}

ParsedCall parse_send_lines(std::string_view ndjson) {
  // The group is bounded by its reader.
  auto budget = std::make_shared<ByteBudget>(UINT64_MAX);
  return parse_ndjson_hooks(std::make_shared<RequestBody>(std::move(budget), ndjson));
}

SendGroup SendInput::next() {
  SendGroup group;
  read_lines(group);
  if (group.error || group.line_numbers.empty()) return group;
  ParsedCall call = parse_send_lines(group.ndjson);
  if (call.error) {
    const std::size_t index = call.error->index.value_or(0);
    const std::uint64_t line =
        index < group.line_numbers.size() ? group.line_numbers[index] : group.line_numbers.front();
    group.error = LineError{line, call.error->message};
  }
  group.hooks = std::move(call.hooks);
  return group;
}

}  // namespace postbag
