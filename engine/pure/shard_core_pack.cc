// Memory mode: what waits behind much else need not be objects. Where there are many batches, a
// small one that is cut behind another of its bag is copied into the run of that one, and becomes a
// batch again when the one before it leaves the queue or somebody wants to watch it. The copies
// cost less than the memory of the objects; a queue that is short never sees them.
#include <algorithm>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/shard_core.h"

namespace postbag {
namespace {

// Beside a larger body the object is small. The meta is bounded as well: many hooks with long ids
// have more of it than a run can hold.
constexpr std::uint64_t packed_body_bytes_max = 4096;
constexpr std::size_t packed_meta_bytes_max = 4096;
// The first run of a bag is small, each after it twice as large.
constexpr std::size_t packed_run_bytes_min = 1024;
constexpr std::size_t packed_run_bytes_max = segment_bytes_max - sizeof(Segment);
constexpr std::size_t packed_run_overhead_bytes = sizeof(PackedRun) + sizeof(PackedRun*);

}  // namespace

// Whether a run can represent all that is known of the batch.
bool ShardCore::can_pack(const Batch& batch) const {
  return batch.state == BatchState::queued && !batch.is_stored && batch.is_resident &&
         batch.uses == 0 && batch.uncommitted == 0 && !batch.is_cancelled && !batch.watchers &&
         !batch.taken_over && !batch.more_chunks && !batch.run && !batch.packed &&
         !batch.bag->is_retry() && batch.number == batch.chunk.number &&
         batch.body_bytes <= packed_body_bytes_max && batch.meta.size() <= packed_meta_bytes_max;
}

// `batch` has just been cut and is the last of its queue. May destroy it.
void ShardCore::pack(Batch& batch) {
  Batch* before = batch.before;
  const std::size_t batches = by_number_.size() + (coming_ != nullptr ? 1 : 0);
  if (batches <= config_.unpacked_batches || before == nullptr) return;
  if (!before->is_resident || !can_pack(batch)) return;
  if (before->packed) {
    if (!before->packed->push_back(batch)) return;  // carries the next run
  } else {
    const Batch* earlier = before->before;
    const std::size_t earlier_bytes =
        earlier != nullptr && earlier->packed ? earlier->packed->capacity() : 0;
    const std::size_t wanted =
        std::max({2 * earlier_bytes, 2 * PackedRun::bytes_of(batch), packed_run_bytes_min});
    auto run = std::make_unique<PackedRun>(pool_, std::min(wanted, packed_run_bytes_max));
    if (!run->push_back(batch)) return;
    give_packed(*before, std::move(run));
  }
  queue_unlink(batch);
  destroy_batch(batch);
}

// A hook that is a batch of its own, cut where it is added, and of which pack() would make no
// object in the end: straight into the run. 0: it must be an object.
ChunkNumber ShardCore::add_packed(Bag& bag, const HookFields& hook, const Now& now) {
  const Batch* const before = bag.queue_tail;
  if (before == nullptr || !before->packed || bag.open != nullptr || bag.is_retry()) return 0;
  if (by_number_.size() < config_.unpacked_batches) return 0;
  const std::size_t body_bytes = 1 + hook.body.size();
  if (body_bytes > packed_body_bytes_max) return 0;
  meta_.clear();
  append_meta(meta_, hook, !hook.event.empty());
  if (meta_.size() > packed_meta_bytes_max ||
      !before->packed->has_room(meta_.size() + body_bytes)) {
    return 0;
  }
  count_batch(bag, now.wall_ms);
  const ChunkNumber number = numbers_.take();
  before->packed->push_back(number, now.wall_ms, meta_, hook.body);
  bag.size_hint = static_cast<std::uint32_t>(body_bytes);
  bag.target->hooks_waiting += 1;
  hooks_held_ += 1;
  counters_.batches += 1;
  counters_.cut_by_size += 1;
  bag_changed(bag);
  return number;
}

void ShardCore::give_packed(Batch& carrier, std::unique_ptr<PackedRun> run) {
  check(!carrier.packed);
  overhead_bytes_ += packed_run_overhead_bytes;
  run->carrier = &carrier;
  run->slot = packed_.size();
  packed_.push_back(run.get());
  carrier.packed = std::move(run);
}

std::unique_ptr<PackedRun> ShardCore::take_packed(Batch& carrier) {
  overhead_bytes_ -= packed_run_overhead_bytes;
  PackedRun* last = packed_.back();
  packed_.pop_back();
  if (last != carrier.packed.get()) {
    last->slot = carrier.packed->slot;
    packed_[last->slot] = last;
  }
  return std::move(carrier.packed);
}

// In no queue yet.
Batch& ShardCore::unpack_front(Bag& bag, PackedRun& run) {
  Batch& batch = make_batch(bag);
  overhead_bytes_ -= batch.meta.capacity();
  run.pop_front(batch);
  overhead_bytes_ += batch.meta.capacity();
  enter_batch(batch);
  return batch;
}

// The one behind a carrier stands by itself again, and carries what is left.
void ShardCore::unpack_next(Batch& carrier) {
  PackedRun& run = *carrier.packed;
  Batch& next = unpack_front(*carrier.bag, run);
  queue_insert(*carrier.bag, &carrier, next);
  if (run.batches() == 0) {
    take_packed(carrier);
    return;
  }
  // Its place among the runs is the same: every request comes here while there is a backlog.
  run.carrier = &next;
  next.packed = std::move(carrier.packed);
}

// The batch of a hook out of the middle of a run, with all of the run behind it. Null: in none.
Batch* ShardCore::unpack_batch(ChunkNumber chunk, std::uint32_t index) {
  const auto found = std::find_if(packed_.begin(), packed_.end(),
                                  [&](const PackedRun* run) { return run->has(chunk, index); });
  if (found == packed_.end()) return nullptr;
  Batch& carrier = *(*found)->carrier;
  Bag& bag = *carrier.bag;
  std::unique_ptr<PackedRun> behind = take_packed(carrier);
  std::unique_ptr<PackedRun> front = behind->take_before(chunk);
  Batch& batch = unpack_front(bag, *behind);
  queue_insert(bag, &carrier, batch);
  if (front) give_packed(carrier, std::move(front));
  if (behind->batches() > 0) {
    behind->shrink();
    give_packed(batch, std::move(behind));
  }
  return &batch;
}

// The bag of a hook whose batch is in a run; null: in none.
const Bag* ShardCore::find_packed(ChunkNumber chunk, std::uint32_t index,
                                  bool& is_cancelled) const {
  is_cancelled = false;
  for (const PackedRun* run : packed_) {
    if (run->has(chunk, index)) return run->carrier->bag;
  }
  is_cancelled = true;
  for (const CancelledPacked& cancelled : cancelled_packed_) {
    if (cancelled.run->has(chunk, index)) return cancelled.bag;
  }
  return nullptr;
}

// Takes the run of a batch out of the queue: its hooks are failing from now on. Returns how many.
std::uint64_t ShardCore::cancel_packed(Batch& carrier, Reason reason, const Now& now) {
  std::unique_ptr<PackedRun> run = take_packed(carrier);
  const std::uint64_t hooks = run->hooks();
  carrier.bag->target->hooks_waiting -= hooks;
  cancels_open_ += run->batches();
  cancelled_packed_.push_back({carrier.bag, std::move(run), now.wall_ms, reason});
  return hooks;
}

// Makes failed rows of such runs while no more than so many wait for the store: these are
// objects again. Where no rows are kept, so many at a time.
void ShardCore::cancel_more_packed(std::size_t batches_max) {
  for (std::size_t made = 0; !cancelled_packed_.empty() && made < batches_max; ++made) {
    if (part_ && part_->fail.size() >= batches_max) break;
    auto& [bag, run, at, reason] = cancelled_packed_.front();
    Batch& batch = unpack_front(*bag, *run);
    batch.state = BatchState::failing;
    AttemptResult result;
    result.reason = reason;
    const WallMs cancelled_at = at;
    if (run->batches() == 0) cancelled_packed_.pop_front();
    give_up(batch, std::move(result), cancelled_at);
    cancel_ended();
  }
  if (!cancelled_packed_.empty()) part();  // when it comes back, this goes on
}

// At the end: they become failed rows a part at a time, for all at once may be more than there is
// memory. Returns how many hooks.
std::uint64_t ShardCore::abandon_packed(const Now& now) {
  std::uint64_t hooks = 0;
  while (!packed_.empty()) {
    hooks += cancel_packed(*packed_.back()->carrier, Reason::shutdown, now);
  }
  return hooks;
}

}  // namespace postbag
