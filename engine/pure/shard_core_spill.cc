// Durable modes: memory is bounded, the backlog is not. What waits behind much else is kept in the
// store only; and where many such batches of a bag follow each other, only a few bytes of each
// stay: the run of the one before them. Such a run grows at its end (what is cut later, what is
// found at start) and at its front (what is dropped later, the newest first), and gives a batch
// back when the one before it leaves the queue or somebody wants to watch it.
#include <algorithm>
#include <utility>

#include "engine/pure/check.h"
#include "engine/pure/shard_core.h"

namespace postbag {
namespace {

// Small, so that it costs little to go through one or to move it; yet a batch that carries one is
// nothing beside it.
constexpr std::size_t run_code_bytes_max = 4096;
// Cancelled batches that are read at a time, and that wait for the store to take their rows.
constexpr std::uint64_t cancel_loads_max = 1000;

std::size_t code_bytes(const Batch& carrier) {
  return carrier.run ? carrier.run->code_bytes() : 0;
}

DiskBatch places_of(const Batch& batch) {
  DiskBatch places;
  places.chunk = batch.chunk;
  if (batch.more_chunks) places.more_chunks = *batch.more_chunks;
  places.hooks = batch.hooks;
  return places;
}

}  // namespace

// A frozen batch that the store has, and that is not on its way anywhere.
bool ShardCore::can_shed(const Batch& batch) const {
  const bool waits = batch.state == BatchState::queued || batch.state == BatchState::retrying ||
                     batch.state == BatchState::due;
  return waits && batch.is_stored && batch.is_resident && batch.uses == 0 && batch.uncommitted == 0;
}

// May destroy `batch`: it can become part of the run of the batch before it.
void ShardCore::note_sheddable(Batch& batch) {
  if (!can_shed(batch)) return;
  // Behind hooks on disk only all goes there, until the bag has caught up, so that
  // order holds.
  const bool is_behind_dropped = !recovered_ && batch.state == BatchState::queued &&
                                 batch.before != nullptr && !batch.before->is_resident;
  if (is_behind_dropped || batch.dropped_hooks > 0) {
    drop_resident(batch);
    fold(batch);
    return;
  }
  sheddable_.push_back(batch.number);
  if (sheddable_.size() < 2 * by_number_.size() + 4096) return;
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
    drop_resident(*found->second);
    fold(*found->second);
  }
  if (before - memory_bytes() < bytes) shed_open(bytes - (before - memory_bytes()));
  // What was read ahead is needed first. Where even that must go nothing is read ahead for a while.
  if (before - memory_bytes() < bytes && ahead_.holds_blobs()) {
    ahead_.drop_all();
    ahead_.pause();
  }
  if (sheddable_.capacity() > 4 * sheddable_.size() + 4096) sheddable_.shrink_to_fit();
  return before - memory_bytes();
}

void ShardCore::drop_resident(Batch& batch) {
  overhead_bytes_ -= batch.meta.capacity();
  drop_hooks(batch, pool_);
  overhead_bytes_ += batch.meta.capacity();
  batch.bag->target->note_stored(batch.body_bytes);
  batch.body_bytes = 0;
  batch.is_resident = false;
  counters_.shed += batch.hooks - batch.dropped_hooks;
  batch.dropped_hooks = 0;
}

// Behind `before`; null: at the head.
void ShardCore::queue_insert(Bag& bag, Batch* before, Batch& batch) {
  Batch* next = before != nullptr ? before->next : bag.queue_head;
  batch.before = before;
  batch.next = next;
  (before != nullptr ? before->next : bag.queue_head) = &batch;
  (next != nullptr ? next->before : bag.queue_tail) = &batch;
}

void ShardCore::queue_unlink(Batch& batch) {
  Bag& bag = *batch.bag;
  (batch.before != nullptr ? batch.before->next : bag.queue_head) = batch.next;
  (batch.next != nullptr ? batch.next->before : bag.queue_tail) = batch.before;
  batch.before = batch.next = nullptr;
}

// The next of its run takes its place, and the rest of the run.
void ShardCore::queue_remove(Batch& batch) {
  if (batch.packed) unpack_next(batch);
  if (batch.run) {
    std::unique_ptr<DiskRun> run = take_run(batch);
    const DiskBatch places = run->pop_front();
    Batch& next = batch_on_disk(*batch.bag, places, places.chunk.number);
    queue_insert(*batch.bag, &batch, next);
    give_run(next, std::move(run));
  }
  queue_unlink(batch);
}

// A queued batch of which only its places are known; in no queue yet.
Batch& ShardCore::batch_on_disk(Bag& bag, const DiskBatch& places, BatchNumber number) {
  Batch& batch = make_batch(bag);
  batch.number = number;
  batch.hooks = places.hooks;
  batch.is_resident = false;
  batch.is_stored = true;
  batch.state = BatchState::queued;
  batch.chunk = places.chunk;
  if (!places.more_chunks.empty()) {
    batch.more_chunks = std::make_unique<std::vector<ChunkInfo>>(places.more_chunks);
    overhead_bytes_ += batch.more_chunks->size() * sizeof(ChunkInfo);
  }
  enter_batch(batch);
  return batch;
}

// Nothing is known of it but what a run tells.
bool ShardCore::can_fold(const Batch& batch) {
  return batch.state == BatchState::queued && batch.is_stored && !batch.is_resident &&
         batch.uses == 0 && batch.uncommitted == 0 && batch.attempts == 0 && !batch.was_attempted &&
         !batch.is_cancelled && !batch.watchers && !batch.taken_over &&
         batch.number == batch.chunk.number;
}

// `batch` has just become disk-only: absorbs the batch behind it, and is absorbed by the one before
// it, if those are disk-only too. May destroy `batch`.
void ShardCore::fold(Batch& batch) {
  // While recovery lasts, what it finds still comes in between.
  if (batch.state != BatchState::queued || recovered_) return;
  if (Batch* next = batch.next;
      next != nullptr && can_fold(*next) && code_bytes(*next) < run_code_bytes_max) {
    std::unique_ptr<DiskRun> run = next->run ? take_run(*next) : std::make_unique<DiskRun>();
    run->push_front(places_of(*next));
    queue_unlink(*next);
    destroy_batch(*next);
    give_run(batch, std::move(run));
  }
  // Of batches with others on disk behind them the one before is in memory: the newest go first.
  if (batch.before == nullptr || batch.run || !can_fold(batch)) return;
  if (!fold_into(*batch.before, places_of(batch))) return;
  queue_unlink(batch);
  destroy_batch(batch);
}

// Appends to the carrier's run. False: the carrier's own hooks are in memory, or its run is full.
bool ShardCore::fold_into(Batch& carrier, const DiskBatch& places) {
  if (carrier.is_resident || code_bytes(carrier) >= run_code_bytes_max) return false;
  std::unique_ptr<DiskRun> run = carrier.run ? take_run(carrier) : std::make_unique<DiskRun>();
  run->push_back(places);
  give_run(carrier, std::move(run));
  return true;
}

std::unique_ptr<DiskRun> ShardCore::take_run(Batch& carrier) {
  std::unique_ptr<DiskRun> run = std::move(carrier.run);
  overhead_bytes_ -= run->memory_bytes() + sizeof(Batch*);
  Batch* last = carriers_.back();
  carriers_.pop_back();
  if (last == &carrier) return run;
  carriers_[run->slot] = last;
  last->run->slot = run->slot;
  return run;
}

// An empty run is destroyed here.
void ShardCore::give_run(Batch& carrier, std::unique_ptr<DiskRun> run) {
  check(!carrier.run);
  if (run->batches() == 0) return;
  if (run->code_bytes() >= run_code_bytes_max) run->shrink();  // does not grow any more
  overhead_bytes_ += run->memory_bytes() + sizeof(Batch*);
  run->slot = carriers_.size();
  carriers_.push_back(&carrier);
  carrier.run = std::move(run);
}

// Makes the batch of a hook in the middle of a run an object again; it takes the rest of the run
// behind it. Null: the hook is in no run.
Batch* ShardCore::unfold_batch(ChunkNumber chunk, std::uint32_t index,
                               std::uint32_t& index_in_batch) {
  Batch* carrier = nullptr;
  for (Batch* one : carriers_) {
    const std::optional<DiskBatch> found = one->run->find(chunk);
    if (!found) continue;
    const ChunkInfo* info = found->find_chunk(chunk);
    if (index >= info->hooks) return nullptr;
    index_in_batch = info->first_hook + index;
    carrier = one;
    break;
  }
  if (carrier == nullptr) return nullptr;
  std::unique_ptr<DiskRun> behind = take_run(*carrier);
  auto front = std::make_unique<DiskRun>();
  DiskBatch places = behind->pop_front();
  for (; places.find_chunk(chunk) == nullptr; places = behind->pop_front()) {
    front->push_back(places);
  }
  Batch& batch = batch_on_disk(*carrier->bag, places, places.chunk.number);
  queue_insert(*carrier->bag, carrier, batch);
  give_run(*carrier, std::move(front));
  give_run(batch, std::move(behind));
  return &batch;
}

// The bag of a hook whose batch is in a run; null: it is in none.
const Bag* ShardCore::find_in_runs(ChunkNumber chunk, std::uint32_t index,
                                   bool& is_cancelled) const {
  const auto has = [&](const DiskRun& run) {
    const std::optional<DiskBatch> found = run.find(chunk);
    return found && index < found->find_chunk(chunk)->hooks;
  };
  is_cancelled = false;
  for (const Batch* carrier : carriers_) {
    if (has(*carrier->run)) return carrier->bag;
  }
  is_cancelled = true;
  for (const CancelledRun& cancelled : cancelled_runs_) {
    if (has(*cancelled.run)) return cancelled.bag;
  }
  return nullptr;
}

// Takes the run of a batch out of the queue: its hooks are failing from now on. Returns how many.
std::uint64_t ShardCore::cancel_run(Batch& carrier) {
  std::unique_ptr<DiskRun> run = take_run(carrier);
  const std::uint64_t hooks = run->hooks();
  carrier.bag->target->hooks_waiting -= hooks;
  cancels_open_ += run->batches();
  overhead_bytes_ += run->memory_bytes();
  cancelled_runs_.push_back({carrier.bag, std::move(run)});
  return hooks;
}

// Reads the next hooks of cancelled runs: their failed rows want them. A few at a time, for they
// are in memory until the store has the rows.
void ShardCore::cancel_more() {
  cancel_more_packed(cancel_loads_max);
  while (!cancelled_runs_.empty() && cancel_loads_ < cancel_loads_max &&
         (!part_ || part_->fail.size() < cancel_loads_max)) {
    auto& [bag, run] = cancelled_runs_.front();
    read_cancelled(*bag, run->pop_front());
    if (run->batches() > 0) continue;
    overhead_bytes_ -= run->memory_bytes();
    cancelled_runs_.pop_front();
  }
}

// One out of a cancelled run.
Batch& ShardCore::read_cancelled(Bag& bag, const DiskBatch& places) {
  Batch& batch = batch_on_disk(bag, places, places.chunk.number);
  batch.state = BatchState::failing;
  note_cancelled(batch);
  batch.uses += 1;
  cancel_loads_ += 1;
  want_load(batch);
  return batch;
}

// The batch of a hook in a cancelled run, read before its turn because somebody watches it. Null:
// the hook is in no cancelled run.
Batch* ShardCore::unfold_cancelled(ChunkNumber chunk, std::uint32_t index,
                                   std::uint32_t& index_in_batch) {
  for (auto one = cancelled_runs_.begin(); one != cancelled_runs_.end(); ++one) {
    const std::optional<DiskBatch> found = one->run->find(chunk);
    if (!found) continue;
    const ChunkInfo* info = found->find_chunk(chunk);
    if (index >= info->hooks) return nullptr;
    index_in_batch = info->first_hook + index;
    auto rest = std::make_unique<DiskRun>();
    one->run->for_each([&](const DiskBatch& places) {
      if (places.chunk.number != found->chunk.number) rest->push_back(places);
      return true;
    });
    overhead_bytes_ -= one->run->memory_bytes();
    Bag& bag = *one->bag;
    if (rest->batches() > 0) {
      overhead_bytes_ += rest->memory_bytes();
      one->run = std::move(rest);
    } else {
      cancelled_runs_.erase(one);
    }
    return &read_cancelled(bag, *found);
  }
  return nullptr;
}

// At the end: what is in runs stays in the store. Returns how many hooks.
std::uint64_t ShardCore::leave_runs() {
  std::uint64_t left = 0;
  while (!carriers_.empty()) {
    Batch& carrier = *carriers_.back();
    const std::unique_ptr<DiskRun> run = take_run(carrier);
    left += run->hooks();
    carrier.bag->target->hooks_waiting -= run->hooks();
    uncount_run(*carrier.bag, *run);
  }
  for (auto& [bag, run] : std::exchange(cancelled_runs_, {})) {
    TargetState& target = *bag->target;
    overhead_bytes_ -= run->memory_bytes();
    left += run->hooks();
    uncount_run(*bag, *run);
    cancel_ended(run->batches());
    remove_bag_if_unused(*bag);
    touch_idle(target);
  }
  hooks_held_ -= left;
  return left;
}

}  // namespace postbag
