#include "engine/shell/held_wakes.h"

#include <array>
#include <cstddef>
#include <utility>

namespace postbag {
namespace {

struct Held {
  std::size_t depth = 0;
  std::size_t count = 0;
  std::array<std::shared_ptr<Wakeable>, 16> sleepers;
};

thread_local Held held;

}  // namespace

HeldWakes::HeldWakes() {
  ++held.depth;
}

HeldWakes::~HeldWakes() {
  if (--held.depth > 0) return;
  while (held.count > 0) std::exchange(held.sleepers[--held.count], nullptr)->wake_now();
}

bool HeldWakes::active() {
  return held.depth > 0;
}

bool HeldWakes::hold(std::shared_ptr<Wakeable> sleeper) {
  if (held.count == held.sleepers.size()) return false;
  held.sleepers[held.count++] = std::move(sleeper);
  return true;
}

}  // namespace postbag
