#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "cli/intake/hook_parser.h"
#include "cli/line_reader.h"
#include "postbag/hook.h"

namespace postbag {

// What is wrong with a line of `send`.
struct LineError {
  std::uint64_t line = 0;  // 1-based
  std::string message;
  int exit_code = exit_bad_data;
};

// Lines that are handed over together, all or none.
struct SendGroup {
  HookList hooks;
  std::vector<std::uint64_t> line_numbers;  // one per hook
  std::string ndjson;                       // the same as intake objects, for a daemon
  bool last = false;                        // nothing follows
  bool stopped = false;                     // a signal ended the wait for input
  std::optional<LineError> error;           // nothing of the group may be used; reading ends here
};

// Reads the lines of `send` in groups, so that memory is bounded whatever the input's size: at most
// 1,000 lines or 1 MiB, and where input comes slowly what is there is not held back for more. Blank
// lines are skipped. One thread.
class SendInput {
 public:
  // `target` empty: the lines are intake objects; else each is a payload for it.
  SendInput(LineReader& lines, std::string target) : lines_(lines), target_(std::move(target)) {}

  SendGroup next();

  static constexpr std::size_t group_lines_max = 1000;
  static constexpr std::size_t group_bytes_max = 1 << 20;

 private:
  void read_lines(SendGroup& group);

  LineReader& lines_;
  std::string target_;
};

// The hooks of intake lines; the list shares a copy of the text.
ParsedCall parse_send_lines(std::string_view ndjson);

// {"target": ..., "data": payload} in one line. Pure.
std::string wrapped_payload(std::string_view target, std::string_view payload);

}  // namespace postbag
