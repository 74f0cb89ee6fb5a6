#include "cli/text/rfc3339.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "postbag/config.h"

namespace postbag {
namespace {

using std::chrono::milliseconds;
using std::chrono::sys_days;

// Takes exactly `count` digits from the front.
std::optional<int> take_digits(std::string_view& text, std::size_t count) {
  if (text.size() < count) return {};
  int value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (text[i] < '0' || text[i] > '9') return {};
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take_char(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

// ".678" to 678; no fraction is 0.
std::optional<int> take_milliseconds(std::string_view& text) {
  if (!take_char(text, ".")) return 0;
  int value = 0;
  int scale = 100;
  std::size_t digits = 0;
  while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    value += (text.front() - '0') * scale;
    scale /= 10;
    ++digits;
    text.remove_prefix(1);
  }
  if (digits == 0) return {};
  return value;
}

// "Z" or "+02:00", in minutes east of UTC.
std::optional<int> take_offset(std::string_view& text) {
  if (take_char(text, "Zz")) return 0;
  if (text.empty()) return {};
  const bool west = text.front() == '-';
  if (!take_char(text, "+- ")) return {};
  const auto hours = take_digits(text, 2);
  if (!hours || !take_char(text, ":")) return {};
  const auto minutes = take_digits(text, 2);
  if (!minutes || *hours > 23 || *minutes > 59) return {};
  const int offset = *hours * 60 + *minutes;
  return west ? -offset : offset;
}

}  // namespace

std::string format_rfc3339(WallMs wall_ms) {
  constexpr WallMs year_0 = -62'167'219'200'000;
  constexpr WallMs year_9999 = 253'402'300'799'999;
  const std::chrono::sys_time<milliseconds> time(
      milliseconds(std::clamp(wall_ms, year_0, year_9999)));
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  char text[64];
  std::snprintf(
      text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
      static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
      static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
      static_cast<int>(clock.seconds().count()), static_cast<int>(clock.subseconds().count()));
  return text;
}

std::optional<WallMs> parse_rfc3339(std::string_view text) {
  const auto year = take_digits(text, 4);
  if (!year || !take_char(text, "-")) return {};
  const auto month = take_digits(text, 2);
  if (!month || !take_char(text, "-")) return {};
  const auto day = take_digits(text, 2);
  if (!day || !take_char(text, "Tt ")) return {};
  const auto hour = take_digits(text, 2);
  if (!hour || !take_char(text, ":")) return {};
  const auto minute = take_digits(text, 2);
  if (!minute || !take_char(text, ":")) return {};
  const auto second = take_digits(text, 2);
  if (!second) return {};
  const auto fraction = take_milliseconds(text);
  if (!fraction) return {};
  const auto offset = take_offset(text);
  if (!offset || !text.empty()) return {};

  const std::chrono::year_month_day date(std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day)));
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60) return {};
  const auto time = sys_days(date) + std::chrono::hours(*hour) +
                    std::chrono::minutes(*minute - *offset) +
                    std::chrono::seconds(std::min(*second, 59)) + milliseconds(*fraction);
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

std::optional<WallMs> parse_when(std::string_view text, WallMs now_ms) {
  if (const auto time = parse_rfc3339(text)) return time;
  const auto age = parse_duration(text);
  if (!age) return {};
  return now_ms - std::chrono::duration_cast<milliseconds>(*age).count();
}

}  // namespace postbag
