#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "postbag/time.h"

namespace postbag {

// A deadline that its owner embeds. Unlinks itself, so an owner that goes away leaves nothing
// behind.
struct AttemptDeadline {
  enum class Kind : std::uint8_t { attempt, phase, step };

  AttemptDeadline(Kind node_kind, void* node_owner) : kind(node_kind), owner(node_owner) {}
  ~AttemptDeadline() { unlink(); }
  AttemptDeadline(const AttemptDeadline&) = delete;
  AttemptDeadline& operator=(const AttemptDeadline&) = delete;

  bool linked() const { return next != nullptr; }
  void unlink();

  Kind kind;
  void* owner;
  TimePoint due{};
  AttemptDeadline* prev = nullptr;
  AttemptDeadline* next = nullptr;
};

// Many deadlines, few different durations: one list per duration, each in order by itself because
// time goes forward. Adding and removing are a handful of pointer writes, so a request that ends in
// time costs no timer.
// Not the DeadlineQueue of the core: what ends here may take others with it while they are due, so
// a node unlinks itself and those that are due stand in a list of their own; odd moments (jitter)
// do not occur.
class Deadlines {
 public:
  Deadlines();
  ~Deadlines();
  Deadlines(const Deadlines&) = delete;
  Deadlines& operator=(const Deadlines&) = delete;

  // `node` must not be linked. `now` must not go back between calls (by microseconds does no harm).
  void add(AttemptDeadline& node, TimePoint now, Duration delay);
  // Not later than the earliest deadline; may be too early after removals, which costs one needless
  // take_due().
  TimePoint next() const { return next_; }
  // Moves what is due to a list of its own, from which next_due() takes one at a time. What is
  // unlinked in between is not seen again.
  void take_due(TimePoint now);
  AttemptDeadline* next_due();

 private:
  struct Lane {
    Lane();
    bool empty() const { return head.next == &head; }
    AttemptDeadline head;
  };
  static void link_last(AttemptDeadline& head, AttemptDeadline& node);

  std::map<Duration, Lane> lanes_;
  std::pair<Duration, Lane*> latest_{};  // the lane added to last; null: look for it
  Lane due_;
  TimePoint next_ = time_point_never;
};

}  // namespace postbag
