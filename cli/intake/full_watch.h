#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "postbag/time.h"

namespace postbag {

// Whether intake is full, for the log, which hears of the change and not of each answer. Looks from
// time to time; full ends when nothing was answered so for `quiet`. Pure.
class FullWatch {
 public:
  explicit FullWatch(Duration quiet);

  // `answered`: how many requests were answered `full` in all; `cause`: the body of the last such
  // answer. Returns the line to log, if there is one.
  std::optional<std::string> look(TimePoint now, std::uint64_t answered, std::string_view cause);

 private:
  const Duration quiet_;
  std::uint64_t seen_ = 0;    // of `answered`
  std::uint64_t before_ = 0;  // when it began to be full
  TimePoint last_{};          // when it was seen to grow
  bool is_full_ = false;
};

}  // namespace postbag
