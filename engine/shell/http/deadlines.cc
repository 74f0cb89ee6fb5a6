#include "engine/shell/http/deadlines.h"

#include <algorithm>

namespace postbag {

void AttemptDeadline::unlink() {
  if (!linked()) return;
  prev->next = next;
  next->prev = prev;
  prev = next = nullptr;
}

Deadlines::Lane::Lane() : head(AttemptDeadline::Kind::attempt, nullptr) {
  head.prev = head.next = &head;
}

Deadlines::Deadlines() = default;

Deadlines::~Deadlines() {
  const auto clear = [](Lane& lane) {
    while (!lane.empty()) lane.head.next->unlink();
  };
  for (auto& [delay, lane] : lanes_) clear(lane);
  clear(due_);
}

void Deadlines::link_last(AttemptDeadline& head, AttemptDeadline& node) {
  node.prev = head.prev;
  node.next = &head;
  head.prev->next = &node;
  head.prev = &node;
}

void Deadlines::add(AttemptDeadline& node, TimePoint now, Duration delay) {
  node.due = delay < time_point_never - now ? now + delay : time_point_never;
  if (latest_.second == nullptr || latest_.first != delay) latest_ = {delay, &lanes_[delay]};
  link_last(latest_.second->head, node);
  next_ = std::min(next_, node.due);
}

void Deadlines::take_due(TimePoint now) {
  next_ = time_point_never;
  latest_.second = nullptr;  // it may be empty
  for (auto entry = lanes_.begin(); entry != lanes_.end();) {
    Lane& lane = entry->second;
    while (!lane.empty() && lane.head.next->due <= now) {
      AttemptDeadline& node = *lane.head.next;
      node.unlink();
      link_last(due_.head, node);
    }
    if (lane.empty()) {
      entry = lanes_.erase(entry);  // durations come from configuration and may change for ever
    } else {
      next_ = std::min(next_, lane.head.next->due);
      ++entry;
    }
  }
}

AttemptDeadline* Deadlines::next_due() {
  if (due_.empty()) return nullptr;
  AttemptDeadline* node = due_.head.next;
  node->unlink();
  return node;
}

}  // namespace postbag
