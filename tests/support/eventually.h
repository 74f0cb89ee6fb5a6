#pragma once

#include <chrono>
#include <thread>

#include "postbag/time.h"

namespace postbag::test {

// Longer than anything takes; a test that waits so long has failed.
inline constexpr Duration patience = std::chrono::seconds(60);

// Until the condition holds; false: it did not in time. For what nobody is told of when it happens.
template <typename Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace postbag::test
