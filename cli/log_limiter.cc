#include "cli/log_limiter.h"

namespace postbag {

namespace {
constexpr std::size_t kind_bytes_max = 48;
constexpr Duration window = std::chrono::seconds(1);
}  // namespace

std::string_view LogLimiter::kind_of(std::string_view message) {
  return message.substr(0, message.find_first_of("0123456789\"':")).substr(0, kind_bytes_max);
}

void LogLimiter::sweep(TimePoint now, std::vector<Suppressed>& suppressed) {
  swept_ = now;
  for (auto it = windows_.begin(); it != windows_.end();) {
    if (now - it->second.begin < window) {
      ++it;
      continue;
    }
    if (it->second.held_back > 0) suppressed.push_back({it->first, it->second.held_back});
    it = windows_.erase(it);
  }
}

bool LogLimiter::admit(std::string_view message, TimePoint now,
                       std::vector<Suppressed>& suppressed) {
  if (now - swept_ >= window) sweep(now, suppressed);
  const std::string_view kind = kind_of(message);
  auto it = windows_.find(kind);
  if (it == windows_.end()) {
    // More kinds than that in a second are no flood of one kind; what is not counted passes.
    if (windows_.size() >= kinds_max) return true;
    it = windows_.emplace(std::string(kind), Window{now, 0, 0}).first;
  } else if (now - it->second.begin >= window) {
    if (it->second.held_back > 0) suppressed.push_back({it->first, it->second.held_back});
    it->second = {now, 0, 0};
  }
  if (it->second.passed < per_second_) {
    ++it->second.passed;
    return true;
  }
  ++it->second.held_back;
  return false;
}

std::vector<LogLimiter::Suppressed> LogLimiter::take_all() {
  std::vector<Suppressed> suppressed;
  for (const auto& [kind, state] : windows_) {
    if (state.held_back > 0) suppressed.push_back({kind, state.held_back});
  }
  windows_.clear();
  return suppressed;
}

}  // namespace postbag
