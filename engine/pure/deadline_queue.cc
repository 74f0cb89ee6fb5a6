#include "engine/pure/deadline_queue.h"

#include <algorithm>

namespace postbag {
namespace {

// Slots of 2^24 ns, 17 ms: a million waits over ten seconds are 1,700 in a slot.
std::int64_t slot_of(TimePoint deadline) {
  return deadline.time_since_epoch().count() >> 24;
}

}  // namespace

void DeadlineQueue::Ring::push_back(DeadlineNode& node) {
  node.prev = ends.prev;
  node.next = &ends;
  ends.prev->next = &node;
  ends.prev = &node;
}

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
    const DeadlineNode& ends = lanes_[index]->ends;
    if (lanes_[index]->empty() || ends.prev->deadline <= node.deadline) {
      node.lane = static_cast<std::int16_t>(index);
      lanes_[index]->push_back(node);
      return;
    }
  }
  arm_odd(node);
}

void DeadlineQueue::arm_at(DeadlineNode& node, TimePoint deadline) {
  if (node.armed()) disarm(node);
  node.deadline = deadline;
  node.sequence = sequence_++;
  arm_odd(node);
}

void DeadlineQueue::arm_odd(DeadlineNode& node) {
  const std::int64_t slot = slot_of(node.deadline);
  if (!near_.empty() && slot > near_slot_) {
    node.lane = far_lane;
    far_[slot].push_back(node);
    return;
  }
  if (!near_.empty() && slot < near_slot_) {
    Ring& ring = far_[near_slot_];
    for (const auto& [deadline, sequence, later] : near_) {
      later->lane = far_lane;
      ring.push_back(*later);
    }
    near_.clear();
  }
  near_slot_ = slot;
  node.lane = near_lane;
  near_.emplace(node.deadline, node.sequence, &node);
}

void DeadlineQueue::refill_near() {
  while (near_.empty() && !far_.empty()) {
    const auto earliest = far_.begin();
    near_slot_ = earliest->first;
    DeadlineNode* const end = &earliest->second.ends;
    for (DeadlineNode* node = end->next; node != end;) {
      DeadlineNode* next = node->next;
      node->lane = near_lane;
      node->prev = node->next = nullptr;
      near_.emplace(node->deadline, node->sequence, node);
      node = next;
    }
    far_.erase(earliest);
  }
}

std::size_t DeadlineQueue::lane_for(Duration delay) {
  std::size_t unused = lanes_.size();
  for (std::size_t index = 0; index < lanes_.size(); ++index) {
    if (lanes_[index]->delay == delay) return index;
    if (lanes_[index]->empty()) unused = index;
  }
  if (lanes_.size() < lanes_max) {
    auto lane = std::make_unique<Lane>();
    lanes_.push_back(std::move(lane));
    unused = lanes_.size() - 1;
  }
  if (unused < lanes_.size()) lanes_[unused]->delay = delay;
  return unused;
}

void DeadlineQueue::disarm(DeadlineNode& node) {
  if (!node.armed()) return;
  if (node.lane == near_lane) {
    near_.erase({node.deadline, node.sequence, &node});
    refill_near();
  } else {
    node.prev->next = node.next;
    node.next->prev = node.prev;
  }
  node.lane = -1;
  node.prev = node.next = nullptr;
  node.deadline = time_point_never;
}

TimePoint DeadlineQueue::next() const {
  TimePoint earliest = near_.empty() ? time_point_never : std::get<0>(*near_.begin());
  for (const auto& lane : lanes_) {
    if (!lane->empty()) earliest = std::min(earliest, lane->ends.next->deadline);
  }
  return earliest;
}

DeadlineNode* DeadlineQueue::pop_due(TimePoint now) {
  DeadlineNode* best = near_.empty() ? nullptr : std::get<2>(*near_.begin());
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
