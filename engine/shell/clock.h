#pragma once

#include "postbag/time.h"

namespace postbag {

// The only place of the engine and its server that reads a clock: logic is handed the time.
inline TimePoint steady_now() {
  return std::chrono::steady_clock::now();
}

inline WallMs wall_now_ms() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count();
}

inline Now clock_now() {
  return {steady_now(), wall_now_ms()};
}

}  // namespace postbag
