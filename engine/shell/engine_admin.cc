// What operators and owners ask of a running engine.
#include <algorithm>
#include <new>

#include "engine/pure/url.h"
#include "engine/shell/engine_impl.h"
#include "engine/shell/guarded.h"
#include "engine/shell/log_text.h"
#include "postbag/store.h"
#include "postbag/target_match.h"

namespace postbag {
namespace {

std::uint64_t sum(const std::vector<std::uint64_t>& numbers) {
  std::uint64_t total = 0;
  for (const std::uint64_t number : numbers) total += number;
  return total;
}

// Of the rows that matched in a slice that has just been purged: those that are left. `except` is
// sorted.
std::uint64_t count_left(Store& store, const FailedFilter& filter, std::optional<FailedKey> after,
                         std::optional<FailedKey> end, std::span<const FailedKey> except) {
  std::uint64_t left = 0;
  SliceLimits limits;
  limits.bodies = false;
  const FailedKey last = end.value_or(~FailedKey{0});
  for (;;) {
    const auto first = std::upper_bound(except.begin(), except.end(), after.value_or(0));
    FailedPage page;
    if (first == except.end() || *first > last) break;
    if (store.list_failed(filter, after, limits, page)) break;
    for (const FailedHook& row : page.rows) {
      left += row.key <= last && std::binary_search(except.begin(), except.end(), row.key) ? 1 : 0;
    }
    if (!page.next || *page.next >= last) break;
    after = page.next;
  }
  return left;
}

}  // namespace

std::uint64_t Engine::Impl::flush(std::optional<std::string_view> target) {
  std::optional<std::string> url;
  if (target) {
    std::string error;
    const auto parsed = parse_url(*target, error);
    if (!parsed) return 0;
    url = parsed->canonical;
  }
  return sum(ask_shards([url](ShardCore& core, const Now& now) { return core.flush(url, now); }));
}

CancelResult Engine::Impl::cancel(std::string_view target_glob) {
  const std::string glob(target_glob);
  CancelResult result;
  result.cancelled =
      sum(ask_shards([glob](ShardCore& core, const Now& now) { return core.cancel(glob, now); }));
  const bool is_stored = wait_stored(std::nullopt);
  if (!is_stored) result.error = fatal_error().value_or(make_error_code(Errc::store_failed));
  cancelled_.fetch_add(result.cancelled);
  say("cancel: " + std::to_string(result.cancelled) +
          " waiting hooks made failed ones, of target " + log_glob(glob),
      result.error);
  if (!is_stored) return result;
  // One more turn publishes what the shards heard from the store, so that the caller finds the
  // hooks counted.
  ask_shards([](const ShardCore&, const Now&) { return true; });
  return result;
}

// A line about what an operator had done, which no other thing tells of later.
void Engine::Impl::say(const std::string& what, std::error_code error) const {
  call_guarded(logger_, [&] {
    logger_.log(LogLevel::info, what + (error ? "; cut short: " + error.message() : ""));
  });
}

// Waits until everything that the shards decided so far is stored. False: not in time, or it never
// will be.
bool Engine::Impl::wait_stored(std::optional<TimePoint> deadline) {
  const auto left = std::make_shared<std::atomic<std::size_t>>(shards_.size());
  for (auto& shard : shards_) {
    shard->post([this, left](ShardCore& core, const Now&) {
      core.add_barrier([this, left] {
        if (left->fetch_sub(1) == 1) notify();
      });
    });
  }
  std::unique_lock lock(mutex_);
  const auto ended = [&] { return left->load() == 0 || fatal_.has_value(); };
  if (deadline) {
    changed_.wait_until(lock, *deadline, ended);
  } else {
    changed_.wait(lock, ended);
  }
  return left->load() == 0;
}

// Every hook has its outcome, and its listener was told.
bool Engine::Impl::is_idle() const {
  return pending_.load() == 0 &&
         std::none_of(shards_.begin(), shards_.end(), [](const auto& shard) {
           return shard->stats().telling.load(std::memory_order_acquire);
         });
}

bool Engine::Impl::wait_idle(std::optional<Duration> timeout) {
  std::unique_lock lock(mutex_);
  const auto ended = [&] { return is_idle() || fatal_.has_value(); };
  if (timeout) {
    changed_.wait_for(lock, *timeout, ended);
  } else {
    changed_.wait(lock, ended);
  }
  return is_idle();
}

PurgeResult Engine::Impl::purge_failed(const FailedFilter& filter,
                                       std::optional<std::uint64_t> limit) {
  PurgeResult result;
  std::optional<FailedKey> after;
  for (;;) {
    std::uint64_t slice = 0;
    std::optional<FailedKey> next;
    SliceLimits limits;
    if (limit) limits.rows = std::min<std::uint64_t>(limits.rows, *limit - result.purged);
    result.error = store_thread_->run([&](Store& store) {
      std::vector<FailedKey> except;  // here, where no run can claim a row in between
      {
        const std::lock_guard lock(claims_.mutex);
        except.assign(claims_.keys.begin(), claims_.keys.end());
      }
      std::sort(except.begin(), except.end());
      std::error_code purge_error = store.purge_failed(filter, after, limits, except, slice, next);
      if (!purge_error) result.claimed += count_left(store, filter, after, next, except);
      // The scan's last slice is synced; where the limit ends it there is none.
      const bool is_last = limit && result.purged + slice >= *limit;
      if (!purge_error && next && is_last) {
        purge_error = store.commit(StoreGroup{}, CommitLevel::sync);
      }
      store_thread_->refresh_stats();  // whoever hears of the end finds them gone
      if (slice > 0) {  // never back: a reload that discards has it at the far end meanwhile
        const TimePoint now = steady_now();
        TimePoint seen = dropped_at_;
        while (seen < now && !dropped_at_.compare_exchange_weak(seen, now)) {
        }
      }
      return purge_error;
    });
    result.purged += slice;
    purged_.fetch_add(slice);
    if (result.error || !next || (limit && result.purged >= *limit)) break;
    after = next;
  }
  std::string what = "purge: " + std::to_string(result.purged) + " failed hooks deleted (" +
                     log_filter(filter) + (limit ? ", limit " + std::to_string(*limit) : "") + ")";
  if (result.claimed > 0) {
    what += ", " + std::to_string(result.claimed) + " stay: a retry run has them";
  }
  say(what, result.error);
  return result;
}

// What ends the engine does not wait for the end of a copy, which may take minutes.
std::error_code Engine::Impl::backup(const std::string& path, const std::stop_token& stop) {
  const bool was_stopping = is_stopping();
  std::unique_ptr<StoreBackup> copy;
  try {
    std::error_code error =
        store_thread_->run([&](Store& store) { return store.begin_backup(path, copy); });
    for (bool done = false; !error && !done;) {
      const bool is_wanted = !stop.stop_requested() && (was_stopping || !is_stopping());
      error = is_wanted ? store_thread_->run([&](Store&) { return copy->step(done); })
                        : make_error_code(Errc::stopping);
    }
    if (!error) return copy->sync();
    end_backup(copy);
    return error;
  } catch (const std::bad_alloc&) {
    end_backup(copy);
    throw;
  }
}

EngineStatus Engine::Impl::status() const {
  EngineStatus status;
  const TimePoint now = steady_now();
  std::uint64_t accepted = 0;
  std::uint64_t delivered = 0;
  WallMs oldest_ms = ShardStats::none_waits;
  std::unique_lock lock(outcomes_mutex_);
  for (const auto& shard : shards_) {
    const ShardStats& stats = shard->stats();
    for (const PublishedCounter& counter : published_counters) {
      status.*counter.reported += stats.*counter.shown;
    }
    status.in_flight += stats.in_flight;
    status.retrying += stats.retrying;
    status.bags += stats.bags;
    status.batches_held += stats.batches_held;
    status.targets += stats.targets;
    status.connections += stats.connections;
    oldest_ms = std::min(oldest_ms, stats.oldest_ms.load(std::memory_order_relaxed));
    shard->rates().read(now, accepted, delivered);
  }
  const auto uptime = std::chrono::duration<double>(now - started_).count();
  const double seconds = std::clamp(uptime, 1.0, double{RateMeter::window_seconds});
  status.accepted_per_second = static_cast<double>(accepted) / seconds;
  status.delivered_per_second = static_cast<double>(delivered) / seconds;
  status.pending = pending_.load();
  const std::uint64_t rows_told = rows_told_;
  lock.unlock();
  // Of the wall clock, as they may be of an earlier run: it may have been set back.
  const WallMs age_ms = oldest_ms == ShardStats::none_waits ? 0 : wall_now_ms() - oldest_ms;
  status.oldest_pending_seconds = static_cast<double>(std::max<WallMs>(age_ms, 0)) / 1000;
  const auto [store, rows_added] = store_thread_->stats_and_rows();
  status.failed = store.failed_hooks - std::min(store.failed_hooks, rows_added - rows_told);
  status.cancelled = cancelled_.load();
  status.purged = purged_.load();
  status.retry_delivered = claims_.delivered.load();
  status.retry_failed = claims_.failed.load();
  status.retention_purged = store_thread_->retention_purged();
  status.store_bytes = store.used_bytes;
  status.store_limit = store_info_.max_bytes;
  status.duplicates = duplicates_.load();
  status.ids_forgotten = ids_.forgotten_early.load(std::memory_order_relaxed);
  status.refused += refused_.load();
  status.memory_bytes = memory_used();
  status.memory_limit = options_.engine.max_memory;
  status.durability = options_.store.durability;
  status.uptime_seconds = uptime;
  status.shards = static_cast<std::uint32_t>(shards_.size());
  status.draining = stopping_.load();
  status.recovering = recovering_.load();
  status.healthy = !store_thread_->failed() && !has_failed();
  status.disk_low = !store_thread_->takes_in();
  return status;
}

std::vector<TargetStatus> Engine::Impl::targets(std::size_t limit) {
  const auto parts = ask_shards([](const ShardCore& core, const Now&) {
    std::vector<TargetStatus> part;
    core.collect_targets(part);
    return part;
  });
  std::vector<TargetStatus> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  const auto held = [](const TargetStatus& target) {
    return target.waiting + target.in_flight + target.retrying;
  };
  std::sort(all.begin(), all.end(), [&](const TargetStatus& a, const TargetStatus& b) {
    const bool a_is_ok = a.state == "ok", b_is_ok = b.state == "ok";
    if (a_is_ok != b_is_ok) return b_is_ok;
    return held(a) != held(b) ? held(a) > held(b) : a.url < b.url;
  });
  if (all.size() > limit) all.resize(limit);
  for (TargetStatus& target : all) target.log_name = target_log_name(target.url);
  return all;
}

}  // namespace postbag
