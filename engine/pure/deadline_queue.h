#pragma once

#include <cstdint>
#include <map>
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
// however many wait. Odd durations (jitter, recovered schedules) are put down by slots of time,
// unordered; only those of the earliest slot stand in an ordered set, a small one even if a million
// wait. Not thread-safe; no clock of its own.
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
  static constexpr std::int16_t near_lane = lanes_max;
  static constexpr std::int16_t far_lane = lanes_max + 1;
  struct Ring {
    Ring() { ends.next = ends.prev = &ends; }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    void push_back(DeadlineNode& node);
    bool empty() const { return ends.next == &ends; }
    DeadlineNode ends;  // sentinel
  };
  struct Lane : Ring {
    Duration delay{};
  };
  using OddKey = std::tuple<TimePoint, std::uint32_t, DeadlineNode*>;

  // The lane of a duration, a new one or an empty one for it; lanes_.size() if all are taken.
  std::size_t lane_for(Duration delay);
  void arm_odd(DeadlineNode& node);
  // Keeps the earliest slot that has any in near_.
  void refill_near();

  std::vector<std::unique_ptr<Lane>> lanes_;
  std::set<OddKey> near_;             // all of near_slot_
  std::map<std::int64_t, Ring> far_;  // of later slots; a ring may be empty
  std::int64_t near_slot_ = 0;
  std::uint32_t sequence_ = 0;
};

}  // namespace postbag
