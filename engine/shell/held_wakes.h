#pragma once

#include <memory>
#include <utility>

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

// The wakes of a thread that has an inbox: many hand-overs until it looks cost one. Belongs to the
// inbox's lock, under which every function is called. Where one says true the caller sends the
// wake, after it has let go of the lock: on one core the sleeper would run at once, and sleep again
// at the lock.
class CoalescedWake {
 public:
  // There is something in the inbox. If `may_hold`, the wake waits for the end of the HeldWakes
  // scope that the calling thread may be in: `sleeper` () returns whose wake_now() then comes.
  template <typename Sleeper>
  bool want(bool may_hold, Sleeper sleeper) {
    if (state_ == State::sent) return false;
    if (may_hold && HeldWakes::active()) {
      if (state_ == State::held) return false;
      if (HeldWakes::hold(sleeper())) {
        state_ = State::held;
        return false;
      }
    }
    state_ = State::sent;
    return true;
  }
  // From the sleeper's wake_now(). False: somebody else has woken it meanwhile.
  bool want_held() { return state_ == State::held && want_now(); }
  // As want(), where it must not wait.
  bool want_now() { return std::exchange(state_, State::sent) != State::sent; }
  // The sleeper takes what is in the inbox.
  void taken() { state_ = State::none; }

 private:
  enum class State { none, held, sent } state_ = State::none;
};

}  // namespace postbag
