#include "cli/intake/full_watch.h"

#include <utility>

#include "cli/daemon_answers.h"

namespace postbag {

FullWatch::FullWatch(Duration quiet) : quiet_(quiet) {
  (void)parse_daemon_error("{}");  // where simdjson's first use finds no memory, the process ends
}

std::optional<std::string> FullWatch::look(TimePoint now, std::uint64_t answered,
                                           std::string_view cause) {
  if (answered != seen_) {
    last_ = now;
    std::optional<std::string> line;  // first: where there is no memory for it, it comes later
    if (!is_full_) line = "requests are answered 503 full: " + parse_daemon_error(cause).message;
    const std::uint64_t before = std::exchange(seen_, answered);
    if (!std::exchange(is_full_, true)) before_ = before;
    return line;
  }
  if (!is_full_ || now - last_ < quiet_) return std::nullopt;
  std::string line =
      "no request is answered 503 full any more; " + std::to_string(seen_ - before_) + " were";
  is_full_ = false;
  return line;
}

}  // namespace postbag
