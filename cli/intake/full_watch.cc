#include "cli/intake/full_watch.h"

#include <utility>

#include "cli/daemon_answers.h"

namespace postbag {

std::optional<std::string> FullWatch::look(TimePoint now, std::uint64_t answered,
                                           std::string_view cause) {
  if (answered != seen_) {
    last_ = now;
    const std::uint64_t before = std::exchange(seen_, answered);
    if (is_full_) return std::nullopt;
    is_full_ = true;
    before_ = before;
    return "requests are answered 503 full: " + parse_daemon_error(cause).message;
  }
  if (!is_full_ || now - last_ < quiet_) return std::nullopt;
  is_full_ = false;
  return "no request is answered 503 full any more; " + std::to_string(seen_ - before_) + " were";
}

}  // namespace postbag
