#include "engine/pure/segment.h"

#include <bit>
#include <cstdlib>
#include <new>

namespace postbag {

// Class 8n+k holds total sizes up to 128 * 2^n * (8+k)/8.
std::size_t SegmentPool::class_of(std::size_t bytes) {
  if (bytes <= 128) return 0;
  const std::size_t doublings = std::bit_width((bytes - 1) / 128) - 1;
  const std::size_t base = std::size_t{128} << doublings;
  const std::size_t eighth = (bytes - base + base / 8 - 1) / (base / 8);  // 1 to 8
  return 8 * doublings + eighth;
}

std::size_t SegmentPool::class_bytes(std::size_t size_class) {
  const std::size_t base = std::size_t{128} << (size_class / 8);
  return base + (size_class % 8) * (base / 8);
}

SegmentPool::~SegmentPool() {
  for (Segment* head : free_) {
    while (head != nullptr) {
      Segment* next = head->next;
      std::free(head);
      head = next;
    }
  }
}

Segment* SegmentPool::take(std::size_t bytes) {
  std::size_t total = bytes + sizeof(Segment);
  void* memory = nullptr;
  if (total <= segment_bytes_max) {
    const std::size_t size_class = class_of(total);
    total = class_bytes(size_class);
    was_taken_[size_class] = true;
    if (Segment* recycled = free_[size_class]) {
      free_[size_class] = recycled->next;
      kept_bytes_ -= total;
      memory = recycled;
    }
  }
  if (memory == nullptr) memory = std::malloc(total);
  if (memory == nullptr) throw std::bad_alloc();
  live_bytes_ += total;
  auto* segment = new (memory) Segment;
  segment->capacity = static_cast<std::uint32_t>(total - sizeof(Segment));
  return segment;
}

// The first batches of bags grow in pieces of many sizes, all later ones have a few: what is kept
// of the first would leave no room for the second, and these would never be recycled. A few steps
// at a time, so that to give back stays cheap where everything kept is in use.
bool SegmentPool::make_room(std::size_t size_class) {
  constexpr int steps_max = 8;
  const std::size_t needed = class_bytes(size_class);
  for (int step = 0; step < steps_max && kept_bytes_ + needed > keep_bytes_; ++step) {
    if (hand_ != size_class && free_[hand_] != nullptr && !was_taken_[hand_]) {
      Segment* const stale = free_[hand_];
      free_[hand_] = stale->next;
      kept_bytes_ -= class_bytes(hand_);
      std::free(stale);
      continue;
    }
    was_taken_[hand_] = false;
    hand_ = (hand_ + 1) % class_count;
  }
  return kept_bytes_ + needed <= keep_bytes_;
}

void SegmentPool::give_back(Segment* segment) {
  const std::size_t total = segment->capacity + sizeof(Segment);
  live_bytes_ -= total;
  const std::size_t size_class = total <= segment_bytes_max ? class_of(total) : class_count;
  if (size_class == class_count || !make_room(size_class)) {
    std::free(segment);
    return;
  }
  segment->next = free_[size_class];
  free_[size_class] = segment;
  kept_bytes_ += total;
}

}  // namespace postbag
