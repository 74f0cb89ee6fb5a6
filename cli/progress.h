#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/console.h"
#include "postbag/time.h"

namespace postbag {

// One line: "retry [#####     ] 50% 500/1000  120/s  4s left". `total` 0: not known, then no bar
// and no time left. Pure. At most `width` columns (at least 40 are taken).
std::string render_progress(std::string_view what, std::uint64_t done, std::uint64_t total,
                            Duration elapsed, std::size_t width);

// "950ms", "4s", "2m10s", "3h05m": two units at most, for people.
std::string short_duration(Duration duration);

// "0.4 MiB", "10.0 GiB", for people.
std::string short_bytes(std::uint64_t bytes);

// Draws the line on a terminal, at most ten times a second; nothing in a pipe. One thread.
class ProgressBar {
 public:
  ProgressBar(Console& console, std::string what);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(std::uint64_t done, std::uint64_t total);

 private:
  Console& console_;
  std::string what_;
  TimePoint started_;
  TimePoint drawn_;
};

}  // namespace postbag
