#include "engine/shell/store_thread.h"

#include <pthread.h>

#include <algorithm>
#include <new>
#include <utility>

#include "engine/shell/store_group.h"
#include "postbag/error.h"

namespace postbag {
namespace {

// How many numbers a reservation covers; a restart skips what was not used of it.
constexpr std::uint64_t reservation = 1 << 22;
// Whoever is answered without a sync was promised to lose at most the last second.
constexpr Duration os_sync_interval = std::chrono::milliseconds(900);
constexpr Duration maintenance_interval = std::chrono::milliseconds(20);
constexpr Duration forgetting_interval = std::chrono::seconds(1);
// Beside a load, slices get one part of so many of the time. It is quiet when no group came so
// long.
constexpr int slice_share = 5;
constexpr Duration quiet_after = std::chrono::milliseconds(50);
constexpr Duration disk_low_pause = std::chrono::milliseconds(500);
constexpr Duration place_check_interval = std::chrono::seconds(10);
constexpr Duration room_line_interval = std::chrono::seconds(10);

// Want of memory is like want of room: nothing of the group is stored, and later may work.
template <typename Work>
std::error_code unless_short_of_memory(Work work, bool* was_short = nullptr) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    if (was_short != nullptr) *was_short = true;
    return Errc::disk_low;
  }
}

Errc to_errc(std::error_code error) {
  if (!error) return Errc::ok;
  return error == Errc::disk_low ? Errc::disk_low : Errc::store_failed;
}

}  // namespace

StoreThread::StoreThread(Store& store, Durability durability, Answer answer,
                         std::function<void(std::error_code)> fatal, Logger logger, Clock clock,
                         std::size_t shards)
    : store_(store),
      durability_(durability),
      store_tag_(store.info().store_tag),
      fatal_(std::move(fatal)),
      logger_(std::move(logger)),
      clock_(std::move(clock)),
      next_number_(store.info().next_number),
      reserved_below_(store.info().next_number),
      last_place_check_(clock_()),
      stats_(store.stats()),
      answers_(store, shards * parts_under_way_max, std::move(answer),
               [this](std::error_code error) { note_error(error); }) {
  // Of a memory engine only failed rows come here: it takes in where they find room, too.
  if (durability_ != Durability::memory) takes_in_ = store.has_room();
  parts_.reserve(shards * parts_under_way_max);
  work_.parts.reserve(shards * parts_under_way_max);
  for (const std::string& warning : store.info().warnings) {
    logger_.log(LogLevel::warning, warning);
  }
  thread_ = std::thread([this] { loop(); });
  pthread_setname_np(thread_.native_handle(), "postbag-store");
}

StoreThread::~StoreThread() {
  stop();
}

void StoreThread::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
  answers_.stop();
}

void StoreThread::push(std::unique_ptr<StorePart> part) {
  {
    const std::lock_guard lock(mutex_);
    parts_.push_back(std::move(part));
  }
  wake_.notify_one();
}

void StoreThread::push_job(Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void StoreThread::push_slice(Job slice) {
  {
    const std::lock_guard lock(mutex_);
    slices_.push_back(std::move(slice));
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
  return until != TimePoint::min() && clock_() < until;
}

StoreStats StoreThread::stats() const {
  const std::lock_guard lock(stats_mutex_);
  return stats_;
}

std::pair<StoreStats, std::uint64_t> StoreThread::stats_and_rows() const {
  const std::lock_guard lock(stats_mutex_);
  return {stats_, rows_added_};
}

bool StoreThread::take_work(Work& work) {
  std::unique_lock lock(mutex_);
  const auto slice_is_due = [&] { return !slices_.empty() && (stop_ || clock_() >= next_slice_); };
  while (parts_.empty() && jobs_.empty() && !slice_is_due()) {
    if (stop_) return false;
    const TimePoint until = slices_.empty() ? wake_time() : std::min(wake_time(), next_slice_);
    if (until == time_point_never) {
      wake_.wait(lock);
    } else if (wake_.wait_until(lock, until) == std::cv_status::timeout) {
      break;
    }
  }
  const auto take_first = [](std::deque<Job>& from, Job& to) {
    to = std::move(from.front());
    from.pop_front();
  };
  work.parts.swap(parts_);
  if (!jobs_.empty()) take_first(jobs_, work.job);
  if (slice_is_due()) take_first(slices_, work.slice);
  return true;
}

void StoreThread::loop() {
  while (take_work(work_)) {
    const bool is_busy = !work_.parts.empty() || work_.job || work_.slice;
    if (!work_.parts.empty()) commit_or_refuse(work_.parts);
    if (work_.job) run_job(work_.job);
    if (work_.slice) run_slice(work_.slice);
    try {
      sync_if_due();
      housekeeping(is_busy);
    } catch (const std::bad_alloc&) {
      // All of it is tried again.
    }
    work_.parts.clear();
    work_.job = work_.slice = nullptr;
  }
  if (unsynced_) {
    last_sync_ = {};
    or_fail_for_memory([&] { sync_if_due(); });
  }
}

template <class Function>
void StoreThread::or_fail_for_memory(Function function) noexcept {
  try {
    function();
  } catch (const std::bad_alloc&) {
    note_error(std::make_error_code(std::errc::not_enough_memory));
  }
}

// Whatever happens before it, somebody may wait for the job.
void StoreThread::run_job(const Job& job) {
  if (next_number_.load() + reservation / 2 > reserved_below_) {
    StoreGroup group;
    note_error(unless_short_of_memory([&] { return commit_group(group, false); }));
  }
  or_fail_for_memory([&] { job(store_); });
  maintenance_left_ = true;
}

void StoreThread::run_slice(const Job& slice) {
  const TimePoint begin = clock_();
  run_job(slice);
  const TimePoint end = clock_();
  const bool is_quiet = last_group_ == TimePoint::min() || begin - last_group_ > quiet_after;
  next_slice_ = is_quiet ? end : end + (end - begin) * (slice_share - 1);
}

TimePoint StoreThread::wake_time() const {
  if (failed()) return time_point_never;
  if (unsynced_ || maintenance_left_ || retention_.is_running()) {
    return clock_() + maintenance_interval;
  }
  const TimePoint next = std::min(last_place_check_ + place_check_interval, retention_.next_run());
  return takes_in_ ? next : std::min(next, clock_() + disk_low_pause);
}

// A part whose shard had a failed append in the same series: its chunks may follow hooks that are
// not there.
void StoreThread::refuse_poisoned(std::vector<std::unique_ptr<StorePart>>& parts) {
  for (auto& part : parts) {
    const auto poisoned = poisoned_.find(part->shard);
    if (poisoned != poisoned_.end() && part->refusal_series <= poisoned->second) {
      part->append_error = failed() ? Errc::store_failed : Errc::disk_low;
    }
  }
}

// What became of a group that found no memory halfway nobody can say; its parts are refused, and no
// other is committed behind it.
void StoreThread::commit_or_refuse(std::vector<std::unique_ptr<StorePart>>& parts) noexcept {
  const PartAnswers::Group under_way(answers_);
  if (!under_way.may_be_read()) {
    for (const auto& part : parts) part->append_error = part->error = Errc::store_failed;
    answers_.push(parts, false);
    return;
  }
  or_fail_for_memory([&] {
    try {
      commit(parts);
    } catch (const std::bad_alloc&) {
      for (auto& part : parts) {
        if (part) part->append_error = part->error = Errc::store_failed;
      }
      answers_.push(parts, std::exchange(awaits_sync_, false));
      throw;
    }
  });
}

void StoreThread::commit(std::vector<std::unique_ptr<StorePart>>& parts) {
  refuse_poisoned(parts);
  const Content content = content_of(parts);
  // Losing a settle at power loss costs a repeat, losing a failure of memory mode costs a hook; and
  // what a producer took back it must not find sent again.
  const bool syncs_failures = durability_ != Durability::os;
  const bool syncs_taken = syncs_failures && content.takes_back;
  const bool syncs_rest = syncs_taken || (syncs_failures && content.has_fails);
  const Tried all = try_commit(parts, Share::all, content.wants_sync || syncs_rest);
  // At once: the store knows the cause of its last refusal only.
  if (all.error == Errc::disk_low) note_room(true, all.short_of_memory);
  std::error_code error = all.error;
  // Deliveries go on where intake cannot: what only takes away still has room.
  if (error == Errc::disk_low && content.has_appends) {
    error = try_commit(parts, Share::rest, syncs_rest).error;
  }
  // Nor must what frees room wait for failed rows that find none.
  bool fails_left = false;
  if (error == Errc::disk_low && content.has_fails) {
    error = try_commit(parts, Share::rest_without_fails, syncs_taken).error;
    fails_left = !error;
  }
  note_room_for_appends(content, all.error);
  note_error(all.error);
  note_error(error);
  const std::uint64_t rows_added = write_answers(parts, all.error, error, fails_left);
  // Whoever learns that a hook failed finds it counted.
  if (rows_added > 0 || content.has_fails || content.deletes_rows) refresh_stats(rows_added);
  answers_.push(parts, std::exchange(awaits_sync_, false));
  last_group_ = clock_();
}

StoreThread::Content StoreThread::content_of(const std::vector<std::unique_ptr<StorePart>>& parts) {
  Content content;
  for (const auto& part : parts) {
    content.has_fails = content.has_fails || !part->fail.empty();
    content.takes_back = content.takes_back || !part->taken.empty();
    content.deletes_rows = content.deletes_rows || !part->delivered_rows.empty();
    if (part->append_error != Errc::ok) continue;
    content.has_appends = content.has_appends || !part->append.empty();
    content.wants_sync = content.wants_sync || part->sync;
  }
  return content;
}

StoreThread::Tried StoreThread::try_commit(const std::vector<std::unique_ptr<StorePart>>& parts,
                                           Share share, bool wants_sync) {
  StoreGroup group;
  StoreGroupMemory memory;
  const auto half =
      share == Share::rest_without_fails ? PartHalf::rest_without_fails : PartHalf::rest;
  Tried tried;
  tried.error = unless_short_of_memory(
      [&] {
        if (share == Share::all) {
          for (const auto& part : parts) {
            if (part->append_error != Errc::ok) continue;
            add_to_group(*part, PartHalf::appends, store_tag_, group, memory);
          }
        }
        for (const auto& part : parts) add_to_group(*part, half, store_tag_, group, memory);
        // A store without room is not asked for more than what the parts need.
        if (share != Share::all && group.empty()) return std::error_code();
        return commit_group(group, wants_sync);
      },
      &tried.short_of_memory);
  return tried;
}

// A group that only takes away says nothing about room for more. In memory mode failed rows are all
// that ever comes.
void StoreThread::note_room_for_appends(const Content& content, std::error_code error) {
  const bool brings =
      content.has_appends || (durability_ == Durability::memory && content.has_fails);
  if (error == Errc::disk_low) {
    disk_low_until_ = clock_() + disk_low_pause;
    takes_in_ = false;
  } else if (brings && !error) {
    disk_low_until_ = TimePoint::min();
    takes_in_ = true;
    note_room(false, false);
  }
}

// Returns how many failed rows there are more.
std::uint64_t StoreThread::write_answers(const std::vector<std::unique_ptr<StorePart>>& parts,
                                         std::error_code append_error, std::error_code error,
                                         bool fails_left) {
  std::uint64_t rows_added = 0;
  for (const auto& part : parts) {
    if (part->append_error == Errc::ok) part->append_error = to_errc(append_error);
    const bool has_hooks = !part->append.empty() || !part->calls.empty();
    if (part->append_error != Errc::ok && has_hooks) poisoned_[part->shard] = part->refusal_series;
    part->error = to_errc(error);
    part->fails_left = fails_left && !part->fail.empty();
    if (!error && !part->fails_left) rows_added += failed_rows(*part);
  }
  return rows_added;
}

std::error_code StoreThread::commit_group(StoreGroup& group, bool wants_sync) {
  if (failed()) return Errc::store_failed;
  const ChunkNumber next = next_number_.load();
  ChunkNumber reserve = 0;
  if (next + reservation / 2 > reserved_below_) reserve = group.reserve_below = next + reservation;
  if (group.empty()) return {};
  const bool syncs_soon = unsynced_ || durability_ == Durability::os || !group.append.empty();
  const bool is_due = syncs_soon && clock_() - last_sync_ >= os_sync_interval;
  const bool syncs = wants_sync || is_due;
  const std::error_code error = store_.commit(group, syncs ? sync_level() : CommitLevel::no_sync);
  if (error) return error;
  if (reserve != 0) reserved_below_ = reserve;
  if (syncs) last_sync_ = clock_();
  awaits_sync_ = awaits_sync_ || (syncs && sync_level() == CommitLevel::sync_later);
  unsynced_ = syncs_soon && !syncs;
  maintenance_left_ = true;
  return {};
}

CommitLevel StoreThread::sync_level() const {
  return store_.syncs_later() ? CommitLevel::sync_later : CommitLevel::sync;
}

void StoreThread::sync_if_due() {
  if (unsynced_ && clock_() - last_sync_ >= os_sync_interval) {
    StoreGroup group;  // a small write, so that there is something to sync
    group.reserve_below = reserved_below_;
    note_error(commit_group(group, true));
  }
  std::vector<std::unique_ptr<StorePart>> none;
  if (std::exchange(awaits_sync_, false)) answers_.push(none, true);
}

void StoreThread::housekeeping(bool is_busy) {
  if (failed()) return;
  const TimePoint now = clock_();
  if (is_busy && now - last_maintenance_ < maintenance_interval) return;
  last_maintenance_ = now;
  if (durability_ != Durability::memory && now - last_forgetting_ >= forgetting_interval) {
    last_forgetting_ = now;
    note_error(store_.forget_ids(wall_now_ms()));
  }
  const bool had_work = std::exchange(maintenance_left_, store_.maintain());
  refresh_stats();
  run_retention();
  // What maintain() did may have ended the store, which it cannot say.
  if (had_work || now - last_place_check_ >= place_check_interval) check_place(now);
  if (room_is_back_) note_room(false, false);
  look_for_room(now);
}

void StoreThread::look_for_room(TimePoint now) {
  if (takes_in_ || now < disk_low_until_.load()) return;
  takes_in_ = store_.has_room();
}

void StoreThread::set_retention(RetentionLimits limits,
                                std::function<std::vector<FailedKey>()> claimed) {
  push_job([this, limits, claimed = std::move(claimed)](Store&) mutable {
    retention_ = Retention(limits);
    claimed_ = std::move(claimed);
  });
}

void StoreThread::run_retention() {
  const Now now{clock_(), wall_now_ms()};
  const bool is_due = retention_.is_due(now, stats());
  if (retention_.clock_jumped()) {
    logger_.log(LogLevel::warning,
                "the clock went forward by hours: failed hooks are not deleted by age for a day");
  }
  if (!is_due) return;
  std::vector<FailedKey> claimed;
  if (claimed_) claimed = claimed_();
  std::sort(claimed.begin(), claimed.end());
  const Retention::Slice slice = retention_.run_slice(store_, now, claimed);
  note_error(slice.error);
  if (slice.purged > 0) {
    retention_purged_.fetch_add(slice.purged, std::memory_order_relaxed);
    retention_purged_at_ = now.steady;
    maintenance_left_ = true;
    refresh_stats();
  }
  if (!slice.done || retention_.purged_in_run() == 0) return;
  logger_.log(LogLevel::info,
              "retention: " + std::to_string(retention_.purged_in_run()) + " failed hooks deleted",
              {{"event", "retention"}, {"hooks", retention_.purged_in_run()}});
}

void StoreThread::check_place(TimePoint now) {
  if (failed()) return;
  last_place_check_ = now;
  note_error(store_.check_place());
}

// Once per change, so that a disk at its mark does not fill the log too. That there is room again
// is said later where it is too early now: no other call may come to say it.
void StoreThread::note_room(bool is_low, bool short_of_memory) {
  const TimePoint now = clock_();
  room_is_back_ = room_is_low_ && !is_low;
  if (is_low == room_is_low_ ||
      (last_room_line_ != TimePoint::min() && now - last_room_line_ < room_line_interval)) {
    return;
  }
  room_is_low_ = is_low;
  room_is_back_ = false;
  last_room_line_ = now;
  if (!is_low) {
    return logger_.log(LogLevel::info, "there is room again", {{"event", "room"}});
  }
  try {
    const std::string cause =
        short_of_memory ? "the system has no memory left" : store_.why_no_room();
    std::string line = "no room, nothing new is accepted until there is some, deliveries go on";
    if (!cause.empty()) line += ": " + cause;
    logger_.log(LogLevel::warning, line, {{"event", "no_room"}, {"cause", cause}});
  } catch (const std::bad_alloc&) {
    // Nor for the line.
  }
}

void StoreThread::refresh_stats(std::uint64_t rows_added) {
  const StoreStats fresh = store_.stats();
  const std::lock_guard lock(stats_mutex_);
  stats_ = fresh;
  rows_added_ += rows_added;
}

void StoreThread::note_error(std::error_code error) noexcept {
  if (!error || error == Errc::disk_low || failed_.exchange(true)) return;
  try {
    std::string line = "the store failed, nothing is accepted any more";
    const std::string cause = error == Errc::store_failed ? store_.failure() : error.message();
    if (!cause.empty()) line += ": " + cause;
    logger_.log(LogLevel::error, line, {{"event", "store_failed"}, {"cause", cause}});
  } catch (const std::bad_alloc&) {
    // No memory for the line either.
  }
  if (fatal_) fatal_(error);
}

}  // namespace postbag
