#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace postbag {

namespace {

std::string rate_text(double per_second) {
  char text[32];
  if (per_second >= 10 || per_second == 0) {
    std::snprintf(text, sizeof text, "%.0f/s", per_second);
  } else {
    std::snprintf(text, sizeof text, "%.1f/s", per_second);
  }
  return text;
}

std::size_t terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

std::string short_duration(Duration duration) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  if (ms < 1000) return std::to_string(std::max<std::int64_t>(ms, 0)) + "ms";
  const std::int64_t seconds = ms / 1000;
  char text[48];
  if (seconds < 60) {
    std::snprintf(text, sizeof text, "%llds", static_cast<long long>(seconds));
  } else if (seconds < 3600) {
    std::snprintf(text, sizeof text, "%lldm%02llds", static_cast<long long>(seconds / 60),
                  static_cast<long long>(seconds % 60));
  } else {
    std::snprintf(text, sizeof text, "%lldh%02lldm", static_cast<long long>(seconds / 3600),
                  static_cast<long long>(seconds / 60 % 60));
  }
  return text;
}

std::string short_bytes(std::uint64_t bytes) {
  const bool is_large = bytes >= 1ull << 30;
  char text[32];
  std::snprintf(text, sizeof text, is_large ? "%.1f GiB" : "%.1f MiB",
                static_cast<double>(bytes) / (1 << (is_large ? 30 : 20)));
  return text;
}

std::string render_progress(std::string_view what, std::uint64_t done, std::uint64_t total,
                            Duration elapsed, std::size_t width) {
  const double seconds = std::chrono::duration<double>(elapsed).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string head(what);
  if (total == 0) return head + " " + std::to_string(done) + "  " + rate_text(rate);

  const std::uint64_t shown = std::min(done, total);
  const double share = static_cast<double>(shown) / static_cast<double>(total);
  std::string tail = " " + std::to_string(static_cast<int>(share * 100)) + "% " +
                     std::to_string(shown) + "/" + std::to_string(total) + "  " + rate_text(rate);
  if (rate > 0 && shown < total) {
    // Beyond a year it is a guess that helps nobody, and the arithmetic stays in range.
    const double left = std::min(static_cast<double>(total - shown) / rate, 3.15e7);
    tail += "  " + short_duration(std::chrono::milliseconds(std::llround(left * 1000))) + " left";
  }
  width = std::max<std::size_t>(width, 40);
  const std::size_t used = head.size() + tail.size() + 4;  // space, brackets, last column
  if (used + 5 > width) return head + tail;
  const std::size_t bar = std::min<std::size_t>(width - used, 40);
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(bar));
  return head + " [" + std::string(filled, '#') + std::string(bar - filled, ' ') + "]" + tail;
}

ProgressBar::ProgressBar(Console& console, std::string what)
    : console_(console), what_(std::move(what)), started_(std::chrono::steady_clock::now()) {}

ProgressBar::~ProgressBar() {
  console_.draw({});
}

void ProgressBar::update(std::uint64_t done, std::uint64_t total) {
  if (!console_.draws()) return;
  const TimePoint now = std::chrono::steady_clock::now();
  if (now - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = now;
  console_.draw(render_progress(what_, done, total, now - started_, terminal_width()));
}

}  // namespace postbag
