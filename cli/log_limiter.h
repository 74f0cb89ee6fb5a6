#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/time.h"

namespace postbag {

// Keeps a flood of like lines out of the log: of one kind (what a message begins with, up to its
// first digit, quote or colon) at most `per_second` lines pass in a second, and of them at most
// `per_target` with the same URL behind the colon, so that one target does not hide the others.
// What was held back is said once the second is over. Pure; not thread-safe.
class LogLimiter {
 public:
  explicit LogLimiter(std::uint32_t per_second, std::uint32_t per_target = UINT32_MAX)
      : per_second_(per_second), per_target_(per_target) {}

  struct Suppressed {
    std::string kind;
    std::uint64_t lines = 0;
  };

  // May the line be written? `suppressed` gets what was held back of kinds whose second is over.
  bool admit(std::string_view message, TimePoint now, std::vector<Suppressed>& suppressed);
  // Everything held back so far, at the end.
  std::vector<Suppressed> take_all();

  static std::string_view kind_of(std::string_view message);
  // The kind with the URL that stands behind its colon; empty: none does.
  static std::string_view target_kind_of(std::string_view message);
  static constexpr std::size_t kinds_max = 256;  // of either sort

 private:
  struct Window {
    TimePoint begin;
    std::uint32_t passed = 0;
    std::uint64_t held_back = 0;
  };
  using Windows = std::map<std::string, Window, std::less<>>;

  static void sweep(Windows& windows, TimePoint now, std::vector<Suppressed>& suppressed);
  // Of this second. Null: there are too many.
  static Window* window_of(Windows& windows, std::string_view kind, TimePoint now,
                           std::vector<Suppressed>& suppressed);

  std::uint32_t per_second_, per_target_;
  Windows kinds_, targets_;
  TimePoint swept_{};
};

}  // namespace postbag
