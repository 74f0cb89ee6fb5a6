#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "postbag/time.h"

namespace postbag {

// Waits until `ended()`, but gives up once `left()` has not fallen for a whole `timeout`: slow is
// fine, stuck is not. False: stuck. Both are called under the lock.
template <class Ended, class Left>
bool wait_while_progress(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                         Duration timeout, Ended ended, Left left) {
  for (std::uint64_t before = left(); !changed.wait_for(lock, timeout, ended);) {
    const std::uint64_t now = left();
    if (now >= before) return false;
    before = now;
  }
  return true;
}

}  // namespace postbag
