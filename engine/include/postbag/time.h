#pragma once

#include <chrono>
#include <cstdint>

namespace postbag {

// The two readings of the clock. Intervals (timers, deadlines) are measured on the steady one,
// which no operator and no NTP server can move; records (ids, failed rows, log lines) carry the
// wall time.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;
using Duration = std::chrono::nanoseconds;
using WallMs = std::int64_t;  // milliseconds since 1970-01-01T00:00:00Z

struct Now {
  TimePoint steady;
  WallMs wall_ms = 0;
};

// "Never": the deadline of something that waits for an event alone.
inline constexpr TimePoint time_point_never = TimePoint::max();

}  // namespace postbag
