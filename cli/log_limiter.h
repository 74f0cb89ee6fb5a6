#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/time.h"

namespace postbag {

// Keeps a flood of like lines out of the log: of one kind (what a message begins with, up to its
// first digit, quote or colon) at most `per_second` lines pass in a second; what was held back is
// said once the second is over. Pure; not thread-safe.
class LogLimiter {
 public:
  explicit LogLimiter(std::uint32_t per_second) : per_second_(per_second) {}

  struct Suppressed {
    std::string kind;
    std::uint64_t lines = 0;
  };

  // May the line be written? `suppressed` gets what was held back of kinds whose second is over.
  bool admit(std::string_view message, TimePoint now, std::vector<Suppressed>& suppressed);
  // Everything held back so far, at the end.
  std::vector<Suppressed> take_all();

  static std::string_view kind_of(std::string_view message);
  static constexpr std::size_t kinds_max = 256;

 private:
  struct Window {
    TimePoint begin;
    std::uint32_t passed = 0;
    std::uint64_t held_back = 0;
  };
  void sweep(TimePoint now, std::vector<Suppressed>& suppressed);

  std::uint32_t per_second_;
  std::map<std::string, Window, std::less<>> windows_;
  TimePoint swept_{};
};

}  // namespace postbag
