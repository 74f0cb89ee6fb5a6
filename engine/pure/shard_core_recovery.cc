// What an earlier life left in the store: it comes chunk by chunk, and goes straight to where it
// will wait, so that a start never holds more of it than the backlog itself takes.
#include <algorithm>
#include <utility>

#include "engine/pure/chunk_codec.h"
#include "engine/pure/shard_core.h"

namespace postbag {

void ShardCore::begin_recovery() {
  recovered_ = std::make_unique<RecoveredBags>();
}

void ShardCore::add_recovered(std::span<const PendingChunk> chunks,
                              std::span<const std::uint32_t> which, const Now& now) {
  for (const std::uint32_t index : which) add_recovered_chunk(chunks[index], now);
}

void ShardCore::end_recovery() {
  recovered_.reset();
  pump();
}

// A bag has one batch open at a time, so that all chunks of one come before the first of the next.
void ShardCore::add_recovered_chunk(const PendingChunk& found, const Now& now) {
  TargetState& target = target_of(found.target);
  Bag& bag = found.group.empty() && found.headers.empty()
                 ? target.default_bag
                 : bag_of(target, found.group, found.headers, Parcel{});
  hooks_held_ += found.hooks;
  counters_.accepted += found.hooks;
  const auto [entry, is_new] = recovered_->try_emplace(&bag);
  RecoveredBag& known = entry->second;
  const ChunkInfo chunk{found.chunk, found.accepted_ms, 0, found.hooks};
  const bool is_same_batch = !is_new && known.number == found.batch;
  known.body_bytes =
      (is_same_batch ? known.body_bytes : 0) + chunk_body_bytes_max(found.bytes, found.hooks);
  target.note_stored(known.body_bytes);
  if (is_same_batch) return extend_recovered(known, chunk);
  count_batch(bag, found.accepted_ms);
  target.hooks_waiting += found.hooks;
  known.number = found.batch;
  known.batch = nullptr;
  const DiskBatch places{chunk, {}, chunk.hooks};
  if (found.attempts > 0) {
    known.batch = &add_recovered_retry(bag, found, places, now);
    return;
  }
  const bool has_first = found.chunk == found.batch;
  if (has_first && known.tail != nullptr && fold_into(*known.tail, places)) return;
  // Without its first chunk it keeps its id. Only a damaged store has such a one twice.
  const bool is_known = found.batch > found.chunk || by_number_.contains(found.batch);
  known.batch = &batch_on_disk(bag, places, is_known ? found.chunk : found.batch);
  known.number = known.batch->number;
  queue_insert(bag, known.tail, *known.batch);
  known.tail = known.batch;
  bag_changed(bag);
}

// The chunk belongs to the batch found last.
void ShardCore::extend_recovered(const RecoveredBag& known, ChunkInfo chunk) {
  if (known.batch == nullptr) {
    known.tail->bag->target->hooks_waiting += chunk.hooks;
    std::unique_ptr<DiskRun> run = take_run(*known.tail);
    run->extend_back(chunk);
    give_run(*known.tail, std::move(run));
    return;
  }
  Batch& batch = *known.batch;
  TargetState& target = *batch.bag->target;
  auto& hooks = batch.state == BatchState::queued ? target.hooks_waiting : target.hooks_retrying;
  hooks += chunk.hooks;
  chunk.first_hook = batch.hooks;
  batch.hooks += chunk.hooks;
  if (!batch.more_chunks) batch.more_chunks = std::make_unique<std::vector<ChunkInfo>>();
  batch.more_chunks->push_back(chunk);
  overhead_bytes_ += sizeof(ChunkInfo);
}

// The schedule goes on; a wall clock that was set meanwhile cannot make the wait longer than it
// ever was.
Batch& ShardCore::add_recovered_retry(Bag& bag, const PendingChunk& found, const DiskBatch& places,
                                      const Now& now) {
  TargetState& target = *bag.target;
  Batch& batch = batch_on_disk(bag, places, found.batch);
  batch.attempts = found.attempts;
  const RetryPolicy& retry = target.policy->policy.retry;
  const Duration longest =
      std::max(retry.retry_interval,
               retry.backoff == Backoff::fixed ? retry.retry_interval : retry.max_interval) *
      2;
  const std::int64_t wait_ms = std::max<std::int64_t>(0, found.next_attempt_ms - now.wall_ms);
  const std::int64_t longest_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(longest).count();
  set_state(batch, BatchState::retrying);
  batch.was_attempted = true;
  bag.unresolved += 1;
  target.retrying += 1;
  retrying_ += 1;
  deadlines_.arm_at(batch.deadline,
                    now.steady + std::chrono::milliseconds(std::min(wait_ms, longest_ms)));
  return batch;
}

}  // namespace postbag
