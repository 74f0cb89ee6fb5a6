// What a shard hands to the store thread and what comes back.
#include <algorithm>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/chunk_codec.h"
#include "engine/pure/shard_core.h"

namespace postbag {
namespace {

constexpr Duration store_pause = std::chrono::milliseconds(250);

}  // namespace

StorePart& ShardCore::part() {
  if (!part_) part_ = std::make_unique<StorePart>();
  return *part_;
}

void ShardCore::add_barrier(std::function<void()> barrier) {
  auto& waiting = cancels_open_ > 0 ? held_barriers_ : part().barriers;
  waiting.push_back(std::move(barrier));
}

void ShardCore::settle(const Batch& batch) {
  if (!batch.is_stored) return;
  batch.for_each_chunk([&](const ChunkInfo& chunk) { part().settle.push_back(chunk.number); });
}

void ShardCore::close_chunks(StorePart& part) {
  part.append.reserve(dirty_.size());
  for (const Dirty& dirty : dirty_) {
    Batch& batch = *dirty.batch;
    const BatchMark to = mark_of(batch);
    // from.segment is null for the batch's first chunk: it begins with the first segment.
    part.append.push_back(
        {&batch, batch.last_chunk(), dirty.from, to, encode_chunk_head(batch, dirty.from, to)});
    batch.is_dirty = false;
    batch.uses += 1;
  }
  dirty_.clear();
  part.calls.insert(part.calls.end(), std::make_move_iterator(waiting_calls_.begin()),
                    std::make_move_iterator(waiting_calls_.end()));
  waiting_calls_.clear();
  part.sync = part.sync || std::exchange(waiting_sync_, false);
}

std::unique_ptr<StorePart> ShardCore::take_part(const Now& now) {
  if (parts_out_.size() >= parts_under_way_max || now.steady < store_pause_until_) return nullptr;
  if (!dirty_.empty() || !waiting_calls_.empty()) close_chunks(part());
  if (!part_) return nullptr;
  part_->shard = config_.shard;
  part_->refusal_series = refusal_series_;
  parts_out_.push_back(part_.get());
  return std::move(part_);
}

void ShardCore::part_done(StorePart& done, const Now& now) {
  check(!parts_out_.empty() && parts_out_.front() == &done);
  parts_out_.erase(parts_out_.begin());
  if (done.append_error == Errc::ok) {
    appended(done, now);
  } else {
    if (done.append_error == Errc::store_failed) store_failed_ = true;
    append_refused(done, now);
  }
  if (done.error == Errc::ok) {
    for (const StorePart::Rows& rows : done.delivered_rows) {
      rows.sink->rows_done(rows.keys, rows.body_bytes, RowsOutcome::delivered);
    }
    if (done.fails_left) {
      done.settle.clear();
      done.attempts.clear();
      done.delivered_rows.clear();
      done.forget.clear();
      requeue(done, now);
    } else {
      fail_stored(done);
      for (const StorePart::Taken& taken : done.taken) {
        notices_.push_back({taken.listener, taken.call_index, std::nullopt});
      }
      release_barriers(done);
    }
  } else {
    if (done.error == Errc::store_failed) store_failed_ = true;
    requeue(done, now);
  }
  cancel_more();
  pump();
  ask_loads();
  if (batches_live_ == 0 && ahead_.holds_blobs()) ahead_.drop_all();  // of what was cancelled
}

bool ShardCore::waits(const CallSink& call) const {
  return std::any_of(waiting_calls_.begin(), waiting_calls_.end(),
                     [&](const auto& waiting) { return waiting.get() == &call; });
}

void ShardCore::forsake_calls(Errc error) {
  for (const auto& call : std::exchange(waiting_calls_, {})) call->shard_done(error, config_.shard);
  if (!part_) return;
  for (const auto& call : std::exchange(part_->calls, {})) call->shard_done(error, config_.shard);
}

// A barrier waits for what an earlier part could not store, too.
void ShardCore::release_barriers(StorePart& done) {
  const auto requeued = [](const StorePart* one) { return one != nullptr && one->requeued; };
  if (requeued(part_.get()) || std::any_of(parts_out_.begin(), parts_out_.end(), requeued)) {
    for (auto& barrier : done.barriers) part().barriers.push_back(std::move(barrier));
    part().requeued = true;
    return;
  }
  for (const auto& barrier : done.barriers) barrier();
}

void ShardCore::appended(StorePart& done, const Now& now) {
  for (const StorePart::Chunk& chunk : done.append) {
    Batch& batch = *chunk.batch;
    unuse(batch);
    batch.uncommitted -= 1;
    counters_.accepted += chunk.info.hooks;
    if (batch.uncommitted == 0) all_committed(batch, now);
  }
  for (const auto& call : std::exchange(done.calls, {})) call->shard_done(Errc::ok, config_.shard);
}

// Nothing of this part was stored. What came after it in the same bags cannot stay either without
// changing the order, so everything that is not committed yet is taken out now, newest first; the
// store refuses the other part that is under way, as it is of the same series.
void ShardCore::append_refused(StorePart& done, const Now& now) {
  if (done.append.empty() && done.calls.empty()) return;
  const Errc error = done.append_error;
  if (done.refusal_series == refusal_series_) {
    refusal_series_ += 1;
    refuse_dirty(error, now);
    for (auto later = parts_out_.rbegin(); later != parts_out_.rend(); ++later) {
      for (auto chunk = (*later)->append.rbegin(); chunk != (*later)->append.rend(); ++chunk) {
        cut_back(*chunk->batch, chunk->from);
      }
    }
    for (auto chunk = done.append.rbegin(); chunk != done.append.rend(); ++chunk) {
      cut_back(*chunk->batch, chunk->from);
    }
  }
  for (const StorePart::Chunk& chunk : done.append) {
    unuse(*chunk.batch);
    chunk.batch->uncommitted -= 1;
    after_cut_back(*chunk.batch, now);
  }
  for (const auto& call : std::exchange(done.calls, {})) call->shard_done(error, config_.shard);
}

// Takes what was not handed to the store yet out again.
void ShardCore::refuse_dirty(Errc error, const Now& now) {
  for (auto dirty = dirty_.rbegin(); dirty != dirty_.rend(); ++dirty) {
    Batch& batch = *dirty->batch;
    batch.is_dirty = false;
    batch.uncommitted -= 1;
    cut_back(batch, dirty->from);
    after_cut_back(batch, now);
  }
  dirty_.clear();
  if (part_) part_->remember.clear();
  waiting_sync_ = false;
  for (const auto& call : std::exchange(waiting_calls_, {})) call->shard_done(error, config_.shard);
}

// Takes the hooks behind the mark out of the batch again. One that gets empty leaves its bag at
// once: its first chunk never was, so nothing may be added to it any more.
void ShardCore::cut_back(Batch& batch, const BatchMark& mark) {
  if (batch.hooks <= mark.hooks) return;
  const std::uint32_t gone = batch.hooks - mark.hooks;
  counters_.refused += gone;
  counters_.ended += gone;
  hooks_held_ -= gone;
  batch.bag->target->hooks_waiting -= gone;
  truncate_to(batch, pool_, mark);
  if (batch.watchers) {
    std::erase_if(*batch.watchers,
                  [&](const Batch::Watcher& watcher) { return watcher.index >= mark.hooks; });
  }
  if (batch.more_chunks) {
    const std::size_t before = batch.more_chunks->size();
    std::erase_if(*batch.more_chunks,
                  [&](const ChunkInfo& info) { return info.first_hook >= mark.hooks; });
    overhead_bytes_ -= (before - batch.more_chunks->size()) * sizeof(ChunkInfo);
    if (batch.more_chunks->empty()) batch.more_chunks.reset();
  }
  if (batch.hooks > 0) return;
  take_out(batch);
  set_state(batch, BatchState::failing);
}

void ShardCore::after_cut_back(Batch& batch, const Now& now) {
  if (batch.hooks > 0) {
    if (batch.uncommitted == 0) all_committed(batch, now);
    return;
  }
  if (batch.uses > 0 || batch.is_dirty) return;
  if (batch.is_cancelled) cancel_ended();
  free_batch(batch);
}

void ShardCore::all_committed(Batch& batch, const Now& now) {
  if (!batch.is_cancelled) {
    Bag& bag = *batch.bag;
    note_droppable(batch);
    note_sheddable(batch);  // may destroy it
    bag_changed(bag);
    return;
  }
  TargetState& target = *batch.bag->target;
  cancel_batch(batch, now);
  cancel_ended();
  target_changed(target);
}

void ShardCore::fail_stored(StorePart& done) {
  for (const StorePart::Fail& fail : done.fail) {
    Batch& batch = *fail.batch;
    unuse(batch);
    if (const std::shared_ptr<RetrySink> sink = batch.bag->retry()) {
      const std::vector<FailedKey> rows = rows_of(batch);
      const std::uint64_t body_bytes = batch.body_bytes;
      free_batch(batch);
      sink->rows_done(rows, body_bytes, RowsOutcome::failed);
      continue;
    }
    counters_.given_up += batch.hooks;
    if (batch.taken_over && !batch.is_corrupt) counters_.handed_back += batch.taken_over->size();
    counters_.ended += batch.hooks;
    hooks_held_ -= batch.hooks;
    free_batch(batch);
  }
}

// The store has no room even for this: the hooks stay here, unsettled, until it has.
void ShardCore::requeue(StorePart& done, const Now& now) {
  store_pause_until_ = now.steady + store_pause;
  StorePart& next = part();
  next.requeued = true;
  // A schedule that a later attempt has replaced since must not be written after it.
  std::erase_if(done.attempts, [&](const AttemptsUpdate& update) {
    const auto found = by_number_.find(update.batch);
    if (found == by_number_.end()) return true;
    const Batch& batch = *found->second;
    const bool under_way =
        batch.state == BatchState::in_flight || batch.state == BatchState::loading;
    return batch.attempts - (under_way ? 1 : 0) > update.attempts;
  });
  const auto move_front = [](auto& from, auto& to) {
    to.insert(to.begin(), std::make_move_iterator(from.begin()),
              std::make_move_iterator(from.end()));
  };
  move_front(done.settle, next.settle);
  move_front(done.attempts, next.attempts);
  move_front(done.fail, next.fail);
  move_front(done.delivered_rows, next.delivered_rows);
  move_front(done.taken, next.taken);
  move_front(done.forget, next.forget);
  move_front(done.barriers, next.barriers);
}

TimePoint ShardCore::next_deadline() const {
  const TimePoint deadline = deadlines_.next();
  const bool store_waits = part_ != nullptr && parts_out_.size() < parts_under_way_max;
  return store_waits ? std::min(deadline, store_pause_until_) : deadline;
}

}  // namespace postbag
