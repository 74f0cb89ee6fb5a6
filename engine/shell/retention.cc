#include "engine/shell/retention.h"

#include <algorithm>

namespace postbag {
namespace {

constexpr Duration run_interval = std::chrono::minutes(1);
constexpr Duration growth_interval = std::chrono::seconds(1);
constexpr Duration slice_time = std::chrono::milliseconds(5);
constexpr std::int64_t time_share = 100;  // a run takes at most this part of the time
// What daylight saving and NTP do is less.
constexpr Duration clock_jump = std::chrono::hours(2);
constexpr Duration clock_jump_hold = std::chrono::hours(24);
// Fewer than a slice may have: deleting a row costs more than looking at one.
constexpr SliceLimits slice_limits{500, 20'000, 1 << 20, false};

bool is_far_over(std::uint64_t bytes, std::uint64_t limit) {
  return limit > 0 && bytes > limit + limit / 32;
}

}  // namespace

void Retention::watch_clock(const Now& now) {
  const Duration ahead =
      std::chrono::milliseconds(now.wall_ms) - Duration(now.steady.time_since_epoch());
  if (wall_ahead_ && ahead - *wall_ahead_ > clock_jump) {
    age_held_until_ = now.steady + clock_jump_hold;
    jumped_ = limits_.max_age > Duration::zero();
  }
  wall_ahead_ = ahead;
}

bool Retention::clock_jumped() {
  const bool jumped = jumped_;
  jumped_ = false;
  return jumped;
}

bool Retention::is_due(const Now& now, const StoreStats& stats) {
  if (!limits_.any()) return false;
  watch_clock(now);
  if (is_running()) return true;
  const bool has_grown =
      now.steady >= next_run_for_growth_ && is_far_over(stats.failed_bytes, limits_.max_bytes);
  if (now.steady < next_run_ && !has_grown) return false;
  next_run_ = now.steady + run_interval;
  const bool by_age =
      limits_.max_age > Duration::zero() && stats.failed_hooks > 0 && now.steady >= age_held_until_;
  const bool by_bytes = limits_.max_bytes > 0 && stats.failed_bytes > limits_.max_bytes;
  if (!by_age && !by_bytes) return false;
  phase_ = by_age ? Phase::age : Phase::bytes;
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(limits_.max_age);
  failed_before_ = now.wall_ms - age.count();
  after_.reset();
  purged_ = 0;
  slices_ = 0;
  return true;
}

Retention::Slice Retention::run_slice(Store& store, const Now& now,
                                      std::span<const FailedKey> except) {
  Slice slice;
  ++slices_;
  const bool more = phase_ == Phase::age ? age_slice(store, slice_limits, except, slice)
                                         : bytes_slice(store, slice_limits, except, slice);
  purged_ += slice.purged;
  if (!more && phase_ == Phase::age && !slice.error && limits_.max_bytes > 0) {
    phase_ = Phase::bytes;
    after_.reset();
  } else if (!more) {
    slice.done = true;
    end_run(now);
    // What cannot be written is not tried every second.
    if (slice.error) next_run_for_growth_ = next_run_;
  }
  return slice;
}

void Retention::end_run(const Now& now) {
  phase_ = Phase::idle;
  // A slice is bounded by its time, so their number says how much the run took.
  const Duration share = slice_time * time_share * static_cast<std::int64_t>(slices_);
  next_run_ = now.steady + std::max(run_interval, share);
  next_run_for_growth_ = now.steady + growth_interval;
}

bool Retention::age_slice(Store& store, const SliceLimits& limits,
                          std::span<const FailedKey> except, Slice& slice) {
  FailedFilter filter;
  filter.until = failed_before_;
  std::optional<FailedKey> next;
  slice.error = store.purge_failed(filter, after_, limits, except, slice.purged, next);
  after_ = next;
  return !slice.error && next.has_value();
}

bool Retention::bytes_slice(Store& store, const SliceLimits& limits,
                            std::span<const FailedKey> except, Slice& slice) {
  const std::uint64_t bytes = store.stats().failed_bytes;
  if (bytes <= limits_.max_bytes) return false;
  SliceLimits enough = limits;
  enough.bytes =
      static_cast<std::size_t>(std::min<std::uint64_t>(enough.bytes, bytes - limits_.max_bytes));
  std::optional<FailedKey> next;
  slice.error = store.purge_failed({}, after_, enough, except, slice.purged, next);
  after_ = next;
  return !slice.error && next.has_value();
}

}  // namespace postbag
