#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/log_histogram.h"

namespace postbag {

// The p99 of each tenth of a second. Their median says what is usual: a pause of the machine is in
// few of them, but in the p99 of the whole run as soon as it makes one hook in a hundred late. May
// lie in memory that processes share; one thread adds, and who reads waits for its end.
class WindowedTail {
 public:
  static constexpr std::int64_t window_ns = 100'000'000;
  static constexpr std::size_t windows_max = 1200;  // what comes after two minutes is left out

  // `at_ns` never goes back.
  void add(std::int64_t at_ns, std::int64_t nanoseconds) {
    if (at_ns >= end_ns_) next_window(at_ns);
    current_.add(nanoseconds);
  }

  // The median over the windows that are complete; 0: there is none.
  double median_p99_us() const {
    if (windows_ == 0) return 0;
    std::vector<double> sorted(p99_us_.begin(),
                               p99_us_.begin() + static_cast<std::ptrdiff_t>(windows_));
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(windows_ / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
  }
  std::size_t windows() const { return windows_; }

 private:
  // One that is empty is a stall, and what it held up is in the window that follows.
  void next_window(std::int64_t at_ns) {
    if (end_ns_ != 0 && windows_ < windows_max) p99_us_[windows_++] = current_.quantile_us(0.99);
    current_.clear();
    end_ns_ = at_ns + window_ns;
  }

  LogHistogram current_;
  std::int64_t end_ns_ = 0;
  std::size_t windows_ = 0;
  std::array<double, windows_max> p99_us_{};
};

}  // namespace postbag
