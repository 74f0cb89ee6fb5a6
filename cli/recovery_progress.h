#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "postbag/time.h"

namespace postbag {

// What `serve` says while it reads the pending hooks of an earlier run: at most one line a second.
// Pure.
class RecoveryProgress {
 public:
  explicit RecoveryProgress(TimePoint begin) : begin_(begin), said_(begin) {}

  // `hooks` found so far. Nothing: it is too early for another line.
  std::optional<std::string> found(std::uint64_t hooks, TimePoint now) {
    if (now - said_ < std::chrono::seconds(1)) return std::nullopt;
    said_ = now;
    return "recovering: " + std::to_string(hooks) + " pending hooks read, " + rate(hooks, now);
  }
  std::string done(std::uint64_t hooks, TimePoint now) const {
    return "recovered " + std::to_string(hooks) + " hooks of an earlier run, " + rate(hooks, now);
  }

 private:
  std::string rate(std::uint64_t hooks, TimePoint now) const {
    const double elapsed_s = std::max(std::chrono::duration<double>(now - begin_).count(), 1e-3);
    return std::to_string(static_cast<std::uint64_t>(static_cast<double>(hooks) / elapsed_s)) +
           "/s";
  }

  const TimePoint begin_;
  TimePoint said_;
};

}  // namespace postbag
