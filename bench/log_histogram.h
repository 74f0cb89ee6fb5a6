#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace postbag {

// Counts of durations in nanoseconds, in 64 steps per power of two (so 1.6 % exact), of fixed size:
// may lie in memory that processes share. One writer at a time; anyone may read.
class LogHistogram {
 public:
  void add(std::int64_t nanoseconds) {
    const std::uint64_t value = nanoseconds > 0 ? static_cast<std::uint64_t>(nanoseconds) : 0;
    bump(counts_[index_of(value)]);
    if (value > max_.load(std::memory_order_relaxed)) max_.store(value, std::memory_order_relaxed);
    count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  std::uint64_t count() const { return count_.load(std::memory_order_acquire); }
  double max_us() const { return static_cast<double>(max_.load()) / 1000; }
  void clear() {
    for (auto& counter : counts_) counter.store(0, std::memory_order_relaxed);
    max_.store(0, std::memory_order_relaxed);
    count_.store(0, std::memory_order_release);
  }
  // Upper end of the step in which the hook at `share` (0 to 1) of all lies.
  double quantile_us(double share) const {
    const double wanted = share * static_cast<double>(count());
    double seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += static_cast<double>(counts_[i].load(std::memory_order_relaxed));
      if (seen > 0 && seen >= wanted) return static_cast<double>(upper_end(i)) / 1000;
    }
    return 0;
  }

  static constexpr std::size_t index_of(std::uint64_t value) {
    if (value < steps) return value;
    const auto shift = static_cast<std::size_t>(std::bit_width(value)) - 1 - steps_bits;
    return (shift + 1) * steps + ((value >> shift) & (steps - 1));
  }
  // The first value of the next step.
  static constexpr std::uint64_t upper_end(std::size_t index) {
    if (index < steps) return index + 1;
    const std::size_t shift = index / steps - 1;
    return (steps + index % steps + 1) << shift;
  }

 private:
  static constexpr std::size_t steps_bits = 6;
  static constexpr std::size_t steps = 1 << steps_bits;
  static void bump(std::atomic<std::uint64_t>& counter) {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  std::array<std::atomic<std::uint64_t>, steps*(64 - steps_bits + 1)> counts_{};
  std::atomic<std::uint64_t> count_{0}, max_{0};
};

static_assert(LogHistogram::upper_end(LogHistogram::index_of(1'000'000)) > 1'000'000);
static_assert(LogHistogram::upper_end(LogHistogram::index_of(1'000'000)) < 1'016'000);

}  // namespace postbag
