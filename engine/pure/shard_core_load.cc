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

// Of one bag, and of all together. What is read ahead and not wanted for so many other starts may
// give way: its target takes nothing just now.
constexpr std::size_t ahead_chunks_per_bag = 64;
constexpr std::size_t ahead_chunks_max = 4096;
constexpr std::uint64_t ahead_bytes_max = 2 << 20;
constexpr std::uint64_t ahead_starts_max = 16'384;
constexpr std::uint64_t ahead_sweep_starts = 1024;  // how often that is looked for
// Beside the blob: the entry in the table and its place in the order.
constexpr std::size_t ahead_overhead_bytes = 96;
// Given up and not stored as rows yet: with fewer, what was cancelled is read beyond the limit.
constexpr std::size_t fails_beyond_limit_max = 16;

}  // namespace

// The batch's turn has come, but its hooks are in the store only.
void ShardCore::load(Batch& batch) {
  set_state(batch, BatchState::loading);
  ahead_clock_ += 1;
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
  if (!batch.read_back) return;
  batch.read_back = false;
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
  batch.corrupt = !sound;
  batch.resident = true;
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
    batch.name_event = true;
    sound = sound && decode_chunk(blob, batch, pool_);
  }
  sound = sound && batch.hooks == expected;
  if (!sound) {
    drop_hooks(batch, pool_);
    batch.body_bytes = 0;
  }
  batch.read_back = sound;
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
  const auto found = ahead_.find(batch.chunk.number);
  if (found == ahead_.end()) return false;
  if (!found->second.is_read) {
    found->second.waiter = &batch;
    return true;
  }
  const std::string blob = std::move(found->second.blob);
  forget_ahead(found, blob.size());
  // One that cannot be sent is read once more, which says what is wrong with it.
  if (!make_destination(*batch.bag->target) || !decode_chunks(batch, {&blob, 1})) return false;
  batch.resident = true;
  set_state(batch, BatchState::in_flight);
  counters_.attempts += 1;
  sends_.push_back(&batch);
  return true;
}

// What the bag will send next, as far as it is on disk only and in one chunk each.
void ShardCore::plan_ahead(const Bag& bag) {
  if (!has_room_ahead()) return;
  std::size_t left = std::min(ahead_chunks_per_bag, ahead_chunks_max - ahead_.size());
  const auto plan = [&](ChunkNumber chunk, bool has_more_chunks) {
    if (left == 0 || has_more_chunks) return false;
    if (!ahead_.try_emplace(chunk, Ahead{{}, nullptr, ahead_clock_, false}).second) return true;
    loads_ahead_.push_back(chunk);
    overhead_bytes_ += ahead_overhead_bytes;
    left -= 1;
    return true;
  };
  for (const Batch* batch = bag.queue_head; batch != nullptr; batch = batch->next) {
    if (batch->resident || !plan(batch->chunk.number, batch->more_chunks != nullptr)) return;
    bool goes_on = true;
    if (!batch->run) continue;
    batch->run->for_each([&](const DiskBatch& places) {
      return goes_on = plan(places.chunk.number, !places.more_chunks.empty());
    });
    if (!goes_on) return;
  }
}

bool ShardCore::has_room_ahead() {
  if (ahead_clock_ < ahead_pause_until_) return false;
  const auto has_room = [&] {
    return ahead_.size() < ahead_chunks_max && ahead_bytes_ <= ahead_bytes_max / 2;
  };
  if (has_room()) return true;
  if (ahead_clock_ - ahead_sweep_at_ < ahead_sweep_starts) return false;
  ahead_sweep_at_ = ahead_clock_;
  drop_ahead(ahead_starts_max);
  return has_room();
}

void ShardCore::read_ahead(std::span<ChunkBlob> found, const Now& now) {
  for (ChunkBlob& read : found) {
    const auto place = ahead_.find(read.chunk);
    check(place != ahead_.end() && !place->second.is_read);
    Batch* const waiter = place->second.waiter;
    const bool is_kept = waiter == nullptr && !read.blob.empty() && !stopped_sending_ &&
                         ahead_bytes_ + read.blob.size() <= ahead_bytes_max;
    if (is_kept) {
      ahead_bytes_ += read.blob.size();
      overhead_bytes_ += read.blob.size();
      place->second.blob = std::move(read.blob);
      place->second.is_read = true;
      continue;
    }
    forget_ahead(place, 0);
    if (waiter == nullptr) continue;
    if (read.blob.empty()) {
      want_load(*waiter);
    } else {
      take_loaded(*waiter, {}, {&read.blob, 1}, now);
    }
  }
  ask_loads();
}

void ShardCore::forget_ahead(AheadTable::iterator place, std::size_t blob_bytes) {
  ahead_bytes_ -= blob_bytes;
  overhead_bytes_ -= blob_bytes + ahead_overhead_bytes;
  ahead_.erase(place);
}

// What was read and has been waiting for more than so many starts.
void ShardCore::drop_ahead(std::uint64_t starts) {
  for (auto at = ahead_.begin(); at != ahead_.end();) {
    const auto place = at++;
    const Ahead& one = place->second;
    if (one.is_read && ahead_clock_ - one.planned_at >= starts) {
      forget_ahead(place, one.blob.size());
    }
  }
}

}  // namespace postbag
