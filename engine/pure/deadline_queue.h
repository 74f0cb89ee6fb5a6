#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <tuple>
#include <vector>

#include "postbag/time.h"

namespace postbag {

// What waits for a moment carries one of these. Not copied while armed.
struct DeadlineNode {
  DeadlineNode* prev = nullptr;
  DeadlineNode* next = nullptr;
  TimePoint deadline = time_point_never;
  std::uint32_t sequence = 0;
  std::int16_t lane = -1;  // -1: not armed
  bool armed() const { return lane >= 0; }
};

// Deadlines of a shard. Most of them are "now + one of few configured durations" and so come in
// order: such a duration is a lane, a list in which arming, disarming and firing take constant time
// however many wait. Odd durations (jitter, recovered schedules) go to an ordered set. Not
// thread-safe; no clock of its own.
class DeadlineQueue {
 public:
  DeadlineQueue();

  void arm(DeadlineNode& node, TimePoint now, Duration delay);
  // For a moment that no lane fits: a jittered or recovered schedule.
  void arm_at(DeadlineNode& node, TimePoint deadline);
  void disarm(DeadlineNode& node);
  // The earliest deadline, or time_point_never.
  TimePoint next() const;
  // Takes the earliest node whose deadline is not after `now`; disarmed. Null: none is due.
  DeadlineNode* pop_due(TimePoint now);

 private:
  static constexpr std::size_t lanes_max = 32;
  static constexpr std::int16_t odd_lane = lanes_max;
  struct Lane {
    Duration delay{};
    DeadlineNode ends;  // sentinel of a ring
    bool empty() const { return ends.next == &ends; }
  };
  using OddKey = std::tuple<TimePoint, std::uint32_t, DeadlineNode*>;

  // The lane of a duration, a new one or an empty one for it; lanes_.size() if all are taken.
  std::size_t lane_for(Duration delay);

  std::vector<std::unique_ptr<Lane>> lanes_;
  std::set<OddKey> odd_;
  std::uint32_t sequence_ = 0;
};

}  // namespace postbag
