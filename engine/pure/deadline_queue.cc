#include "engine/pure/deadline_queue.h"

#include <algorithm>

namespace postbag {

DeadlineQueue::DeadlineQueue() {
  lanes_.reserve(lanes_max);
}

void DeadlineQueue::arm(DeadlineNode& node, TimePoint now, Duration delay) {
  if (node.armed()) disarm(node);
  node.deadline = delay > time_point_never - now ? time_point_never : now + delay;
  node.sequence = sequence_++;
  const std::size_t index = lane_for(delay);
  // A lane that would lose its order (never with a steady clock) is not used.
  if (index < lanes_.size()) {
    DeadlineNode& ends = lanes_[index]->ends;
    if (lanes_[index]->empty() || ends.prev->deadline <= node.deadline) {
      node.lane = static_cast<std::int16_t>(index);
      node.prev = ends.prev;
      node.next = &ends;
      ends.prev->next = &node;
      ends.prev = &node;
      return;
    }
  }
  node.lane = odd_lane;
  odd_.emplace(node.deadline, node.sequence, &node);
}

void DeadlineQueue::arm_at(DeadlineNode& node, TimePoint deadline) {
  if (node.armed()) disarm(node);
  node.deadline = deadline;
  node.sequence = sequence_++;
  node.lane = odd_lane;
  odd_.emplace(node.deadline, node.sequence, &node);
}

std::size_t DeadlineQueue::lane_for(Duration delay) {
  std::size_t unused = lanes_.size();
  for (std::size_t index = 0; index < lanes_.size(); ++index) {
    if (lanes_[index]->delay == delay) return index;
    if (lanes_[index]->empty()) unused = index;
  }
  if (lanes_.size() < lanes_max) {
    auto lane = std::make_unique<Lane>();
    lane->ends.next = lane->ends.prev = &lane->ends;
    lanes_.push_back(std::move(lane));
    unused = lanes_.size() - 1;
  }
  if (unused < lanes_.size()) lanes_[unused]->delay = delay;
  return unused;
}

void DeadlineQueue::disarm(DeadlineNode& node) {
  if (!node.armed()) return;
  if (node.lane == odd_lane) {
    odd_.erase({node.deadline, node.sequence, &node});
  } else {
    node.prev->next = node.next;
    node.next->prev = node.prev;
  }
  node.lane = -1;
  node.prev = node.next = nullptr;
  node.deadline = time_point_never;
}

TimePoint DeadlineQueue::next() const {
  TimePoint earliest = odd_.empty() ? time_point_never : std::get<0>(*odd_.begin());
  for (const auto& lane : lanes_) {
    if (!lane->empty()) earliest = std::min(earliest, lane->ends.next->deadline);
  }
  return earliest;
}

DeadlineNode* DeadlineQueue::pop_due(TimePoint now) {
  DeadlineNode* best = odd_.empty() ? nullptr : std::get<2>(*odd_.begin());
  for (const auto& lane : lanes_) {
    if (lane->empty()) continue;
    DeadlineNode* front = lane->ends.next;
    if (best == nullptr || front->deadline < best->deadline ||
        (front->deadline == best->deadline && front->sequence < best->sequence)) {
      best = front;
    }
  }
  if (best == nullptr || best->deadline > now) return nullptr;
  disarm(*best);
  return best;
}

}  // namespace postbag
