// Want of memory, and bags that are open. In the durable modes what is committed of an open bag
// leaves memory where nothing that is cut is left to drop: count and bytes stay, so the batch is
// cut where it would have been anyway, and from its cut on it is one on disk only. Where even that
// makes no room, and in memory mode, where nothing can be dropped, the fullest bags are cut early:
// what is cut leaves some day, and a bag without a time may never be.
#include <algorithm>
#include <new>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/shard_core.h"

namespace postbag {
namespace {

std::uint64_t hooks_bytes(const Batch& batch) {
  std::uint64_t bytes = batch.meta.capacity();
  for (const Segment* segment = batch.first_segment; segment != nullptr; segment = segment->next) {
    bytes += sizeof(Segment) + segment->capacity;
  }
  return bytes;
}

// Beside its hooks.
std::uint64_t object_bytes(const Batch& batch) {
  return sizeof(Batch) + (batch.more_chunks ? batch.more_chunks->size() * sizeof(ChunkInfo) : 0);
}

}  // namespace

// True if the store has all hooks of an open batch and is not reading them any more.
bool ShardCore::can_drop_front(const Batch& batch) {
  return batch.state == BatchState::open && batch.is_stored && batch.uses == 0 &&
         batch.uncommitted == 0 && batch.hooks > batch.dropped_hooks;
}

void ShardCore::note_droppable(Batch& batch) {
  if (batch.is_droppable || !can_drop_front(batch)) return;
  batch.is_droppable = true;
  droppable_.push_back(batch.number);
  if (droppable_.size() < 2 * by_number_.size() + 4096) return;
  // Most of these have been cut since: forget them.
  std::erase_if(droppable_, [&](BatchNumber number) {
    const auto found = by_number_.find(number);
    return found == by_number_.end() || found->second->state != BatchState::open;
  });
}

// Hooks added later begin a new chunk and a new segment.
void ShardCore::drop_front(Batch& batch) {
  check(!batch.is_dirty);
  counters_.shed += batch.hooks - batch.dropped_hooks;
  batch.dropped_hooks = batch.hooks;
  overhead_bytes_ -= batch.meta.capacity();
  drop_hooks(batch, pool_);
  overhead_bytes_ += batch.meta.capacity();
}

// Batches whose last commit is oldest come first: one that gets hooks all the time will be cut
// soonest anyway.
void ShardCore::shed_open(std::uint64_t bytes) {
  const std::uint64_t before = memory_bytes();
  while (!droppable_.empty() && before - memory_bytes() < bytes) {
    const auto found = by_number_.find(droppable_.front());
    droppable_.pop_front();
    if (found == by_number_.end()) continue;
    Batch& batch = *found->second;
    batch.is_droppable = false;  // where a commit is under way, that notes it again
    if (can_drop_front(batch)) drop_front(batch);
  }
}

std::uint64_t ShardCore::make_room(std::uint64_t bytes, const Now& now) {
  std::vector<std::pair<std::uint64_t, Batch*>> open;
  try {
    open.reserve(open_bags_);
  } catch (const std::bad_alloc&) {
    return 0;  // whoever is refused next asks again
  }
  std::uint64_t leaving = shed(bytes);  // this has, and what is cut will
  for (const auto& [number, batch] : by_number_) {
    const bool is_open = batch->state == BatchState::open && !batch->bag->is_retry();
    // What is stored can be dropped as soon as it is committed.
    std::uint64_t stays = is_open ? object_bytes(*batch) : 0;
    if (is_open && !batch->is_stored) stays += hooks_bytes(*batch);
    leaving += object_bytes(*batch) + hooks_bytes(*batch) - stays;
    if (is_open) open.emplace_back(stays, batch);
  }
  for (const PackedRun* run : packed_) leaving += run->capacity();
  for (const CancelledPacked& cancelled : cancelled_packed_) leaving += cancelled.run->capacity();
  if (leaving >= bytes) return 0;
  std::sort(open.begin(), open.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second->number < b.second->number;
  });
  std::uint64_t bags = 0;
  for (const auto& [stays, batch] : open) {
    if (leaving >= bytes) break;
    leaving += stays;
    bags += 1;
    cut(*batch->bag, Cut::request);
  }
  advance(now);
  return bags;
}

}  // namespace postbag
