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

// What ended `send` before the end of its input.
struct SendError {
  std::optional<std::uint64_t> line;  // 1-based, where one is to blame
  std::string message;
  int exit_code = exit_bad_data;
};

// Lines that are handed over together, all or none.
struct SendGroup {
  HookList hooks;
  std::vector<std::uint64_t> line_numbers;  // one per hook
  std::string ndjson;                       // the same as intake objects, for a daemon
  bool accepted = false;                    // they were handed over
  bool unanswered = false;                  // whether they were, nobody knows
  bool last = false;                        // nothing follows
  bool stopped = false;                     // a signal ended the wait for input
  std::optional<SendError> error;           // nothing of the group may be used; reading ends here
};

// Reads the lines of `send` in groups, so that memory is bounded whatever the input's size: at most
// 1,000 lines and `group_bytes_max` bytes (a line that is longer goes alone), and where input comes
// slowly what is there is not held back for more. Blank lines are skipped. One thread.
class SendInput {
 public:
  // `target` empty: the lines are intake objects; else each is a payload for it.
  SendInput(LineReader& lines, std::string target, std::size_t group_bytes_max)
      : lines_(lines), target_(std::move(target)), group_bytes_max_(group_bytes_max) {}

  SendGroup next();

  static constexpr std::size_t group_lines_max = 1000;

 private:
  // An intake object with its newline, and where it stood.
  struct Line {
    std::string object;
    std::uint64_t number = 0;
  };
  void read_lines(SendGroup& group);
  bool read_line(SendGroup& group, Line& line);

  LineReader& lines_;
  std::string target_;
  std::size_t group_bytes_max_;
  std::optional<Line> held_;  // did not fit into the group before
};

// The hooks of intake lines; the list shares a copy of the text.
ParsedCall parse_send_lines(std::string_view ndjson);

// {"target": ..., "data": payload} in one line. Pure.
std::string wrapped_payload(std::string_view target, std::string_view payload);

}  // namespace postbag
