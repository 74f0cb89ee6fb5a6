// What is in the store only comes back here: a batch whose turn it is, or whose failed rows want
// its hooks, and, where a bag has many such batches, some of those behind it in the same go. Read
// by itself each would cost a way to the store thread and back.
#include <algorithm>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/chunk_codec.h"
#include "engine/pure/shard_core.h"

namespace postbag {
namespace {

// Given up and not stored as rows yet: with fewer, what was cancelled is read beyond the limit.
constexpr std::size_t fails_beyond_limit_max = 16;

}  // namespace

// The batch's turn has come, but its hooks are in the store only.
void ShardCore::load(Batch& batch) {
  set_state(batch, BatchState::loading);
  ahead_.started();
  if (!take_ahead(batch)) want_load(batch);
}

void ShardCore::want_load(Batch& batch) {
  const bool is_cancelled = batch.state == BatchState::failing;
  (is_cancelled ? wanted_rows_ : wanted_loads_).push_back(&batch);
  ask_loads();
}

// How large a batch is nobody knows before it is here. One of a single hook, or of another policy,
// may be larger than its target's are now; but the largest of those in the store is known.
std::uint64_t ShardCore::read_bytes_bound(const Batch& batch) {
  const TargetState& target = *batch.bag->target;
  return std::max<std::uint64_t>(target.policy->policy.batch.bytes, target.stored_bytes_max);
}

// As much as there is room for.
void ShardCore::ask_loads() {
  while (Batch* const batch = next_load()) {
    batch->body_bytes = read_bytes_bound(*batch);
    read_bytes_ += batch->body_bytes;
    reads_out_ += 1;
    loads_.push_back(batch);
    if (batch->state == BatchState::loading && !batch->is_retry) plan_ahead(*batch->bag);
  }
}

// Batches whose turn it is and cancelled ones alternate, as long as there is room. Null: there is
// none, or nothing waits.
Batch* ShardCore::next_load() {
  for (const bool rows : {is_rows_turn_, !is_rows_turn_}) {
    std::deque<Batch*>& wanted = rows ? wanted_rows_ : wanted_loads_;
    if (wanted.empty()) continue;
    Batch* const batch = wanted.front();
    if (!may_read(read_bytes_bound(*batch), rows)) continue;
    wanted.pop_front();
    is_rows_turn_ = !rows;
    return batch;
  }
  return nullptr;
}

// With nothing read back, one batch may always be read. Beyond the limit, one read at a time is
// still allowed in two cases: for a cancelled batch while few failed rows are under way, because it
// leaves memory as soon as the store has its rows, and somebody waits for that; and for a batch
// whose turn it is while nothing else is on the wire, because only a delivery makes room in a full
// store.
bool ShardCore::may_read(std::uint64_t bytes, bool for_rows) const {
  if (read_bytes_ == 0 || read_bytes_ + bytes <= config_.read_bytes_max) return true;
  if (reads_out_ > 0) return false;
  return for_rows ? fails_under_way() < fails_beyond_limit_max : in_flight_ <= wanted_loads_.size();
}

std::size_t ShardCore::fails_under_way() const {
  std::size_t batches = part_ ? part_->fail.size() : 0;
  for (const StorePart* const part : parts_out_) batches += part->fail.size();
  return batches;
}

// What was waiting for its turn and is cancelled now.
void ShardCore::move_cancelled_loads() {
  const auto is_loading = [](const Batch* batch) { return batch->state == BatchState::loading; };
  const auto first = std::stable_partition(wanted_loads_.begin(), wanted_loads_.end(), is_loading);
  wanted_rows_.insert(wanted_rows_.end(), first, wanted_loads_.end());
  wanted_loads_.erase(first, wanted_loads_.end());
  ask_loads();
}

// The batch no longer counts as read back: it was sent, is gone, or waits and may be dropped from
// memory again.
void ShardCore::end_read(Batch& batch) {
  if (!batch.is_read_back) return;
  batch.is_read_back = false;
  read_bytes_ -= batch.body_bytes;
}

void ShardCore::loaded(Batch& batch, std::error_code error, std::span<const std::string> blobs,
                       const Now& now) {
  reads_out_ -= 1;
  read_bytes_ -= batch.body_bytes;
  batch.body_bytes = 0;
  take_loaded(batch, error, blobs, now);
  ask_loads();
}

void ShardCore::take_loaded(Batch& batch, std::error_code error, std::span<const std::string> blobs,
                            const Now& now) {
  const bool cancelled = batch.state == BatchState::failing;
  check(cancelled || batch.state == BatchState::loading);
  const bool damaged = error == Errc::store_corrupt || error == Errc::not_found;
  // A drain starts no retry, and this one had not started when it was still being read.
  const bool may_go = !stopped_sending_ && !(draining_ && batch.is_retry);
  if ((error && !damaged) || (!may_go && !cancelled)) {
    load_failed(batch, now);
    return;
  }
  const bool sound = !damaged && decode_chunks(batch, blobs);
  batch.is_corrupt = !sound;
  batch.is_resident = true;
  if (cancelled) {
    unuse(batch);
    TargetState& target = *batch.bag->target;
    AttemptResult result;
    result.reason = Reason::cancelled;
    give_up(batch, std::move(result), now.wall_ms);
    cancel_loads_ -= 1;
    cancel_ended();
    cancel_more();
    target_changed(target);
    pump();
    return;
  }
  set_state(batch, BatchState::in_flight);
  const bool has_url = make_destination(*batch.bag->target);
  if (sound && has_url) {
    counters_.attempts += 1;
    sends_.push_back(&batch);
    return;
  }
  AttemptResult result;
  result.reason = sound ? Reason::url_syntax : Reason::corrupt_payload;
  result.final = true;
  counters_.unsendable += batch.hooks;
  attempt_done(batch, std::move(result), now);
}

// False: the chunks are damaged, and nothing of them is kept in memory.
bool ShardCore::decode_chunks(Batch& batch, std::span<const std::string> blobs) {
  const std::uint32_t expected = batch.hooks;
  const std::size_t meta_before = batch.meta.capacity();
  batch.hooks = 0;
  bool sound = true;
  for (const std::string& blob : blobs) {
    batch.names_event = true;
    sound = sound && decode_chunk(blob, batch, pool_);
  }
  sound = sound && batch.hooks == expected;
  if (!sound) {
    drop_hooks(batch, pool_);
    batch.body_bytes = 0;
  }
  batch.is_read_back = sound;
  read_bytes_ += batch.body_bytes;
  batch.hooks = expected;
  overhead_bytes_ += batch.meta.capacity() - meta_before;
  return sound;
}

// Its turn is over before it was read.
void ShardCore::stop_sending(const Now& now) {
  stopped_sending_ = true;
  while (!wanted_loads_.empty()) {
    Batch& batch = *wanted_loads_.front();
    wanted_loads_.pop_front();
    load_failed(batch, now);
  }
}

// The store could not read just now; nothing says that the hooks are lost. Tried again as if the
// attempt had never been.
void ShardCore::load_failed(Batch& batch, const Now& now) {
  if (batch.state == BatchState::failing) {
    unuse(batch);
    batch.last_reason = Reason::local_resource;
    wait_for_retry(batch, now, false);
    cancel_loads_ -= 1;
    cancel_ended();
    cancel_more();
    return;
  }
  set_state(batch, BatchState::in_flight);
  AttemptResult result;
  result.reason = Reason::local_resource;
  result.counted = false;
  attempt_done(batch, std::move(result), now);
}

// Uses what was read ahead, or waits for it. False: the batch must be read by itself.
bool ShardCore::take_ahead(Batch& batch) {
  std::string blob;
  const ReadAhead::Found found = ahead_.take(batch.chunk.number, batch, blob);
  if (found != ReadAhead::Found::blob) return found == ReadAhead::Found::being_read;
  // One that cannot be sent is read once more, which says what is wrong with it.
  if (!make_destination(*batch.bag->target) || !decode_chunks(batch, {&blob, 1})) return false;
  batch.is_resident = true;
  set_state(batch, BatchState::in_flight);
  counters_.attempts += 1;
  sends_.push_back(&batch);
  return true;
}

// What the bag will send next, as far as it is on disk only and in one chunk each.
void ShardCore::plan_ahead(const Bag& bag) {
  std::size_t room = ahead_.room();
  const auto plan = [&](ChunkNumber chunk, bool has_more_chunks) {
    if (room == 0 || has_more_chunks) return false;
    if (ahead_.plan(chunk)) room -= 1;
    return true;
  };
  for (const Batch* batch = bag.queue_head; batch != nullptr; batch = batch->next) {
    if (batch->is_resident || !plan(batch->chunk.number, batch->more_chunks != nullptr)) return;
    bool goes_on = true;
    if (!batch->run) continue;
    batch->run->for_each([&](const DiskBatch& places) {
      return goes_on = plan(places.chunk.number, !places.more_chunks.empty());
    });
    if (!goes_on) return;
  }
}

void ShardCore::read_ahead(std::span<ChunkBlob> found, const Now& now) {
  for (ChunkBlob& read : found) {
    Batch* const waiter = ahead_.arrived(read.chunk, read.blob, !stopped_sending_);
    if (waiter == nullptr) continue;
    if (read.blob.empty()) {
      want_load(*waiter);
    } else {
      take_loaded(*waiter, {}, {&read.blob, 1}, now);
    }
  }
  ask_loads();
}

}  // namespace postbag
