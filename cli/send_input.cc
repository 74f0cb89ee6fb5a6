#include "cli/send_input.h"

#include <cstdint>
#include <memory>
#include <system_error>
#include <utility>

#include "cli/intake/request_body.h"
#include "cli/text/json_writer.h"
#include "postbag/json.h"

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
  while (group.line_numbers.size() < group_lines_max) {
    Line line;
    if (held_) {
      line = std::move(*held_);
      held_.reset();
    } else {
      // Wait for the first line of a group only.
      if (!group.line_numbers.empty() && !lines_.ready()) break;
      if (!read_line(group, line)) return;
      if (line.object.empty()) continue;
    }
    if (!group.ndjson.empty() && group.ndjson.size() + line.object.size() > group_bytes_max_) {
      held_ = std::move(line);
      return;
    }
    group.ndjson += line.object;
    group.line_numbers.push_back(line.number);
  }
}

// False: there is none, the group says why. A blank line has no object.
bool SendInput::read_line(SendGroup& group, Line& line) {
  std::string_view text;
  switch (lines_.next(text)) {
    case LineReader::Result::line:
      break;
    case LineReader::Result::end:
      group.last = true;
      return false;
    case LineReader::Result::stopped:
      group.last = group.stopped = true;
      return false;
    case LineReader::Result::too_long:
      group.error = SendError{lines_.line_number(), "the line is too long"};
      return false;
    case LineReader::Result::error:
      group.error =
          SendError{lines_.line_number(),
                    "cannot read: " + std::generic_category().message(lines_.error()), exit_io};
      return false;
  }
  line.number = lines_.line_number();
  if (text.find_first_not_of(" \t\r") == std::string_view::npos) return true;
  if (target_.empty()) {
    line.object = text;
  } else if (const auto wrong = check_json(text, false)) {
    // Checked before it is wrapped: a payload must not be able to end its wrapping.
    group.error = SendError{line.number, *wrong};
    return false;
  } else {
    line.object = wrapped_payload(target_, text);
  }
  line.object += '\n';
  return true;
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
    group.error = SendError{line, call.error->message};
  }
  group.hooks = std::move(call.hooks);
  return group;
}

}  // namespace postbag
