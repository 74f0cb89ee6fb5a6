// Durable modes: memory is bounded, the backlog is not. What waits behind much else is kept in the
// store only.
#include <algorithm>

#include "engine/pure/shard_core.h"

namespace postbag {

// A frozen batch that the store has, and that is not on its way anywhere.
bool ShardCore::can_shed(const Batch& batch) const {
  const bool waits = batch.state == BatchState::queued || batch.state == BatchState::retrying ||
                     batch.state == BatchState::due;
  return waits && batch.stored && batch.resident && batch.uses == 0 && batch.uncommitted == 0;
}

void ShardCore::note_sheddable(const Batch& batch) {
  if (!can_shed(batch)) return;
  sheddable_.push_back(batch.number);
  if (sheddable_.size() < 2 * batches_live_ + 4096) return;
  // Most of these batches have gone since: forget them.
  std::erase_if(sheddable_, [&](BatchNumber number) {
    const auto found = by_number_.find(number);
    return found == by_number_.end() || !can_shed(*found->second);
  });
}

std::uint64_t ShardCore::shed(std::uint64_t bytes) {
  const std::uint64_t before = memory_bytes();
  // The newest first: they are needed last.
  while (!sheddable_.empty() && before - memory_bytes() < bytes) {
    const auto found = by_number_.find(sheddable_.back());
    sheddable_.pop_back();
    if (found == by_number_.end() || !can_shed(*found->second)) continue;
    Batch& batch = *found->second;
    overhead_bytes_ -= batch.meta.capacity();
    drop_hooks(batch, pool_);
    overhead_bytes_ += batch.meta.capacity();
    batch.body_bytes = 0;
    batch.resident = false;
    counters_.shed += batch.hooks;
  }
  return before - memory_bytes();
}

}  // namespace postbag
