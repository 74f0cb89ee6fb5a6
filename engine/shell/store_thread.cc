#include "engine/shell/store_thread.h"

#include <pthread.h>

#include <algorithm>

#include "engine/shell/clock.h"
#include "engine/shell/store_group.h"
#include "postbag/error.h"

namespace postbag {
namespace {

// How many numbers a reservation covers; a restart skips what was not used of it.
constexpr std::uint64_t reservation = 1 << 22;
// With durability "os" the operator was promised to lose at most the last second.
constexpr Duration os_sync_interval = std::chrono::milliseconds(900);
constexpr Duration maintenance_interval = std::chrono::milliseconds(20);
constexpr Duration forgetting_interval = std::chrono::seconds(1);
constexpr Duration disk_low_pause = std::chrono::milliseconds(500);

Errc to_errc(std::error_code error) {
  if (!error) return Errc::ok;
  return error == Errc::disk_low ? Errc::disk_low : Errc::store_failed;
}

}  // namespace

StoreThread::StoreThread(Store& store, Durability durability, Answer answer,
                         std::function<void(std::error_code)> fatal, Logger logger)
    : store_(store),
      durability_(durability),
      store_tag_(store.info().store_tag),
      answer_(std::move(answer)),
      fatal_(std::move(fatal)),
      logger_(std::move(logger)),
      next_number_(store.info().next_number),
      reserved_below_(store.info().next_number),
      stats_(store.stats()) {
  thread_ = std::thread([this] { loop(); });
  pthread_setname_np(thread_.native_handle(), "postbag-store");
}

StoreThread::~StoreThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void StoreThread::push(std::unique_ptr<StorePart> part) {
  {
    const std::lock_guard lock(mutex_);
    parts_.push_back(std::move(part));
  }
  wake_.notify_one();
}

void StoreThread::push_job(std::function<void(Store&)> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

ChunkNumber StoreThread::take_numbers(std::uint64_t count) {
  const ChunkNumber first = next_number_.fetch_add(count);
  // Memory mode may use up many without a commit: let the reservation follow.
  if (durability_ == Durability::memory && first % (reservation / 4) < count) {
    push_job([](Store&) {});
  }
  return first;
}

bool StoreThread::disk_is_low() const {
  const TimePoint until = disk_low_until_.load(std::memory_order_relaxed);
  return until != TimePoint::min() && steady_now() < until;
}

StoreStats StoreThread::stats() const {
  const std::lock_guard lock(stats_mutex_);
  return stats_;
}

void StoreThread::loop() {
  for (;;) {
    std::vector<std::unique_ptr<StorePart>> parts;
    std::function<void(Store&)> job;
    {
      std::unique_lock lock(mutex_);
      const auto has_work = [&] { return !parts_.empty() || !jobs_.empty() || stop_; };
      if (unsynced_ || maintenance_left_) {
        wake_.wait_for(lock, maintenance_interval, has_work);
      } else {
        wake_.wait(lock, has_work);
      }
      if (stop_ && parts_.empty() && jobs_.empty()) break;
      parts.swap(parts_);
      if (!jobs_.empty()) {
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
    }
    const bool is_busy = !parts.empty() || job;
    if (!parts.empty()) commit(parts);
    if (job) {
      if (next_number_.load() + reservation / 2 > reserved_below_) {
        StoreGroup group;
        note_error(commit_group(group, false));
      }
      job(store_);
      maintenance_left_ = true;
    }
    sync_if_due();
    housekeeping(is_busy);
  }
  if (unsynced_) {
    last_sync_ = {};
    sync_if_due();
  }
}

// A part whose shard had a failed append in the same epoch: its chunks may follow hooks that are
// not there.
void StoreThread::refuse_poisoned(std::vector<std::unique_ptr<StorePart>>& parts) {
  for (auto& part : parts) {
    const auto poisoned = poisoned_epoch_.find(part->shard);
    if (poisoned != poisoned_epoch_.end() && part->epoch <= poisoned->second) {
      part->append_error = failed() ? Errc::store_failed : Errc::disk_low;
    }
  }
}

void StoreThread::commit(std::vector<std::unique_ptr<StorePart>>& parts) {
  refuse_poisoned(parts);
  StoreGroup group;
  StoreGroupMemory memory;
  bool has_appends = false;
  for (const auto& part : parts) {
    if (part->append_error != Errc::ok) continue;
    add_to_group(*part, PartHalf::appends, store_tag_, group, memory);
    has_appends = has_appends || !part->append.empty();
  }
  for (const auto& part : parts) add_to_group(*part, PartHalf::rest, store_tag_, group, memory);
  // Losing a settle at power loss costs a repeat, losing an append or a failure costs a hook.
  const bool wants_sync = has_appends || !group.fail.empty();
  std::error_code error = commit_group(group, wants_sync);
  std::error_code append_error = error;
  if (error == Errc::disk_low && has_appends) {
    // Deliveries go on where intake cannot: what only takes away still has room.
    StoreGroup rest;
    StoreGroupMemory rest_memory;
    for (const auto& part : parts)
      add_to_group(*part, PartHalf::rest, store_tag_, rest, rest_memory);
    error = rest.empty() ? std::error_code() : commit_group(rest, !rest.fail.empty());
  }
  disk_low_until_ = append_error == Errc::disk_low ? steady_now() + disk_low_pause : TimePoint::min();
  note_error(append_error);
  note_error(error);
  // Whoever learns that a hook failed finds it counted.
  if (!group.fail.empty() || !group.delete_failed.empty()) refresh_stats();
  for (auto& part : parts) {
    if (part->append_error == Errc::ok) part->append_error = to_errc(append_error);
    if (part->append_error != Errc::ok) poisoned_epoch_[part->shard] = part->epoch;
    part->error = to_errc(error);
    answer_(std::move(part));
  }
}

std::error_code StoreThread::commit_group(StoreGroup& group, bool wants_sync) {
  if (failed()) return Errc::store_failed;
  const ChunkNumber next = next_number_.load();
  ChunkNumber reserve = 0;
  if (next + reservation / 2 > reserved_below_) reserve = group.reserve_below = next + reservation;
  if (group.empty()) return {};
  CommitLevel level = CommitLevel::no_sync;
  if (durability_ != Durability::os && wants_sync) level = CommitLevel::sync;
  if (durability_ == Durability::os && steady_now() - last_sync_ >= os_sync_interval) {
    level = CommitLevel::sync;
  }
  const std::error_code error = store_.commit(group, level);
  if (error) return error;
  if (reserve != 0) reserved_below_ = reserve;
  if (level == CommitLevel::sync) last_sync_ = steady_now();
  unsynced_ = durability_ == Durability::os && level != CommitLevel::sync;
  maintenance_left_ = true;
  return {};
}

void StoreThread::sync_if_due() {
  if (!unsynced_ || steady_now() - last_sync_ < os_sync_interval) return;
  StoreGroup group;  // a small write, so that there is something to sync
  group.reserve_below = reserved_below_;
  note_error(commit_group(group, true));
}

void StoreThread::housekeeping(bool is_busy) {
  if (failed()) return;
  const TimePoint now = steady_now();
  if (is_busy && now - last_maintenance_ < maintenance_interval) return;
  last_maintenance_ = now;
  if (durability_ != Durability::memory && now - last_forgetting_ >= forgetting_interval) {
    last_forgetting_ = now;
    note_error(store_.forget_ids(wall_now_ms()));
  }
  maintenance_left_ = store_.maintain();
  refresh_stats();
}

void StoreThread::refresh_stats() {
  const StoreStats fresh = store_.stats();
  const std::lock_guard lock(stats_mutex_);
  stats_ = fresh;
}

void StoreThread::note_error(std::error_code error) {
  if (!error || error == Errc::disk_low || failed_.exchange(true)) return;
  logger_.log(LogLevel::error, "store failed, nothing is accepted any more: " + error.message());
  if (fatal_) fatal_(error);
}

}  // namespace postbag
