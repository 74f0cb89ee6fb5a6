#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <system_error>

#include "postbag/store.h"
#include "postbag/time.h"

namespace postbag {

// [store] failed_max_age and failed_max_bytes; 0: no limit.
struct RetentionLimits {
  Duration max_age = Duration::zero();
  std::uint64_t max_bytes = 0;
  bool any() const { return max_age > Duration::zero() || max_bytes > 0; }
};

// Deletes failed rows that are past the operator's limits, in runs of slices: first what failed
// last longer than max_age ago, then the oldest until max_bytes holds. Has no clock and no thread;
// the store thread drives it between commit groups.
//
// A run begins once a minute, but takes at most a hundredth of the time; and at once when the rows
// have grown a thirty-second part over max_bytes, but at most once a second: a store that stays at
// its limit is not purged, and logged, row by row.
class Retention {
 public:
  struct Slice {
    std::uint64_t purged = 0;
    bool done = false;      // the run has ended
    std::error_code error;  // it ended because of this; the next run tries again
  };

  explicit Retention(RetentionLimits limits) : limits_(limits) {}

  // Whether there is a slice to be run now. May begin a run. `stats` as of now.
  bool is_due(const Now& now, const StoreStats& stats);
  // One slice, about 5 ms. Rows in `except` (sorted) stay: a retry has them under way.
  Slice run_slice(Store& store, const Now& now, std::span<const FailedKey> except);
  // The clock said what it cannot have said: deleting by age waits for a day, so that somebody can
  // set it right first. True once for each such jump.
  bool clock_jumped();

  // Of the running or the last run.
  std::uint64_t purged_in_run() const { return purged_; }
  bool is_running() const { return phase_ != Phase::idle; }
  // Never: no limits.
  TimePoint next_run() const { return limits_.any() ? next_run_ : time_point_never; }

 private:
  enum class Phase : std::uint8_t { idle, age, bytes };

  void watch_clock(const Now& now);
  void end_run(const Now& now);
  bool age_slice(Store& store, const SliceLimits& limits, std::span<const FailedKey> except,
                 Slice& slice);
  bool bytes_slice(Store& store, const SliceLimits& limits, std::span<const FailedKey> except,
                   Slice& slice);

  RetentionLimits limits_;
  Phase phase_ = Phase::idle;
  std::optional<FailedKey> after_;
  WallMs failed_before_ = 0;  // of this run, for Phase::age
  std::uint64_t purged_ = 0;  // in this run
  std::uint64_t slices_ = 0;
  TimePoint next_run_{};  // the first at once
  TimePoint next_run_for_growth_{};
  std::optional<Duration> wall_ahead_;  // of the steady clock, at the last look
  TimePoint age_held_until_{};
  bool jumped_ = false;
};

}  // namespace postbag
