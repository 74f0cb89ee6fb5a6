#pragma once

#include <memory>

namespace postbag {

// Somebody who may sleep. Any thread.
class Wakeable {
 public:
  virtual ~Wakeable() = default;
  virtual void wake_now() = 0;
};

// While one exists, wakes that its thread would send wait for its end: a thread that hands over
// many things in a row wakes the other side once for all of them (the sleeper sees to it that it is
// held once). On one core each wake can cost two context switches, which is more than the work
// handed over. Who holds wakes must not wait for the sleeper and must not take long. Made and
// destroyed on one thread; nests.
class HeldWakes {
 public:
  HeldWakes();
  ~HeldWakes();
  HeldWakes(const HeldWakes&) = delete;
  HeldWakes& operator=(const HeldWakes&) = delete;

  // Whether the calling thread's wakes wait.
  static bool active();
  // Only while active(): remembers `sleeper` for the end. False: no room, wake at once. A sleeper
  // that is not owned must outlive the scope.
  static bool hold(std::shared_ptr<Wakeable> sleeper);
};

}  // namespace postbag
