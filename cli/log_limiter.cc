#include "cli/log_limiter.h"

#include <algorithm>

namespace postbag {

namespace {
constexpr std::size_t kind_bytes_max = 48;
constexpr std::size_t target_kind_bytes_max = 320;  // with a host name of the greatest length
constexpr Duration window = std::chrono::seconds(1);
}  // namespace

std::string_view LogLimiter::kind_of(std::string_view message) {
  return message.substr(0, message.find_first_of("0123456789\"':")).substr(0, kind_bytes_max);
}

std::string_view LogLimiter::target_kind_of(std::string_view message) {
  const std::size_t kind = kind_of(message).size();
  if (message.substr(kind, 2) != ": ") return {};
  const std::size_t end = std::min(message.find(' ', kind + 2), message.size());
  if (message.substr(0, end).find("://", kind + 2) == std::string_view::npos) return {};
  return message.substr(0, std::min(end, target_kind_bytes_max));
}

void LogLimiter::sweep(Windows& windows, TimePoint now, std::vector<Suppressed>& suppressed) {
  for (auto it = windows.begin(); it != windows.end();) {
    if (now - it->second.begin < window) {
      ++it;
      continue;
    }
    if (it->second.held_back > 0) suppressed.push_back({it->first, it->second.held_back});
    it = windows.erase(it);
  }
}

LogLimiter::Window* LogLimiter::window_of(Windows& windows, std::string_view kind, TimePoint now,
                                          std::vector<Suppressed>& suppressed) {
  auto it = windows.find(kind);
  if (it == windows.end()) {
    // More kinds than that in a second are no flood of one kind; what is not counted passes.
    if (windows.size() >= kinds_max) return nullptr;
    it = windows.emplace(std::string(kind), Window{now, 0, 0}).first;
  } else if (now - it->second.begin >= window) {
    if (it->second.held_back > 0) suppressed.push_back({it->first, it->second.held_back});
    it->second = {now, 0, 0};
  }
  return &it->second;
}

bool LogLimiter::admit(std::string_view message, TimePoint now,
                       std::vector<Suppressed>& suppressed) {
  if (now - swept_ >= window) {
    swept_ = now;
    sweep(kinds_, now, suppressed);
    sweep(targets_, now, suppressed);
  }
  Window* kind = window_of(kinds_, kind_of(message), now, suppressed);
  if (kind != nullptr && kind->passed >= per_second_) {
    ++kind->held_back;
    return false;
  }
  // Only of lines that would pass, so a second has few of these, however many targets there are.
  const std::string_view target_kind = target_kind_of(message);
  if (!target_kind.empty()) {
    Window* target = window_of(targets_, target_kind, now, suppressed);
    if (target != nullptr && target->passed >= per_target_) {
      ++target->held_back;
      return false;
    }
    if (target != nullptr) ++target->passed;
  }
  if (kind != nullptr) ++kind->passed;
  return true;
}

std::vector<LogLimiter::Suppressed> LogLimiter::take_all() {
  std::vector<Suppressed> suppressed;
  for (Windows* windows : {&kinds_, &targets_}) {
    for (const auto& [kind, state] : *windows) {
      if (state.held_back > 0) suppressed.push_back({kind, state.held_back});
    }
    windows->clear();
  }
  return suppressed;
}

}  // namespace postbag
