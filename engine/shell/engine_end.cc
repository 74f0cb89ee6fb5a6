// How an engine ends: the drain, what is settled or stored when it is over, and what is lost.
#include <algorithm>
#include <new>

#include "engine/shell/engine_impl.h"
#include "engine/shell/guarded.h"
#include "engine/shell/progress_wait.h"
#include "postbag/store.h"

namespace postbag {
namespace {

// How long the end of the engine waits for writes that make no progress.
constexpr Duration close_timeout = std::chrono::seconds(10);
constexpr Duration close_retry_pause = std::chrono::milliseconds(10);
constexpr int close_tries_max = 500;

}  // namespace

DrainReport Engine::Impl::drain(Duration timeout) {
  stopping_ = true;
  const TimePoint deadline = steady_now() + timeout;
  std::unique_lock drain_lock(drain_mutex_);
  if (closed_down_) return drain_report_;
  // Calls that passed the check of stopping_ are handing over right now.
  while (entering_.load() != 0) std::this_thread::yield();
  ask_shards([](ShardCore& core, const Now& now) {
    core.drain(now);
    return true;
  });
  // What that turn did is published: an engine that has nothing to do is drained, however hurried.
  ask_shards([](const ShardCore&, const Now&) { return true; });
  const auto all_drained = [&] {
    return std::all_of(shards_.begin(), shards_.end(), [](const auto& shard) {
      return shard->stats().drained.load(std::memory_order_acquire);
    });
  };
  bool in_time = false;
  {
    std::unique_lock lock(mutex_);
    in_time = changed_.wait_until(lock, deadline, [&] {
      return all_drained() || hurried_.load() || fatal_.has_value();
    }) && all_drained();
  }
  drain_report_.timed_out = !in_time;
  drain_lock.unlock();
  close_down();
  return drain_report_;
}

void Engine::Impl::hurry() {
  hurried_ = true;
  notify();
}

// Runs once. There is nobody to report want of memory to here, so it is tried again: memory comes
// back as attempts end and hooks are stored.
void Engine::Impl::close_down() {
  const std::lock_guard drain_lock(drain_mutex_);
  if (std::exchange(closed_down_, true)) return;
  for (int time = 0; time < close_tries_max; ++time) {
    try {
      return settle_what_is_left();
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(close_retry_pause);
    }
  }
  call_guarded(logger_, [this] {
    logger_.log(LogLevel::error, "no memory to end in order: what is not stored is lost");
  });
  count_lost();
}

// Aborts what is on the wire, then leaves durable hooks in the store and stores those of memory
// mode as failed(shutdown). May be called again after std::bad_alloc.
void Engine::Impl::settle_what_is_left() {
  while (entering_.load() != 0) std::this_thread::yield();
  // No retry may start, and nothing new go out, while the attempts are broken off. The second round
  // sees to it that what the first one did is published.
  for (int round = 0; round < 2; ++round) {
    ask_shards([](ShardCore& core, const Now& now) {
      core.stop_sending(now);
      return true;
    });
  }
  for (auto& shard : shards_) shard->abort_attempts(Reason::shutdown);
  wait_for_stats([](const ShardStats& stats) { return stats.in_flight.load() == 0; });
  wait_stored(steady_now() + close_timeout);  // what the store has under way cannot be abandoned
  const auto left = ask_shards([](ShardCore& core, const Now& now) { return core.abandon(now); });
  for (const auto& [stored, failed] : left) {
    drain_report_.left += stored;
    drain_report_.stored_failed += failed;
  }
  wait_for_stats(
      [](const ShardStats& stats) { return stats.idle.load(std::memory_order_acquire); });
  // If the store failed, what it had stored before may not have been published yet.
  for (int round = 0; round < 2; ++round) {
    ask_shards([](const ShardCore&, const Now&) { return true; });
  }
  count_lost();
}

// The store may not have taken all that it was given, so the report is corrected by what is still
// pending.
void Engine::Impl::count_lost() {
  drain_report_.error = fatal_error().value_or(std::error_code());
  const std::uint64_t pending = pending_.load();
  if (options_.store.durability == Durability::memory) {
    // What an earlier run left is in the store all the same.
    drain_report_.lost = pending - std::min(pending, drain_report_.left);
    drain_report_.stored_failed -= std::min(drain_report_.stored_failed, drain_report_.lost);
  } else if (drain_report_.error) {
    drain_report_.left = pending;  // those in flight are still held by their attempts
  }
  if (drain_report_.lost == 0) return;
  call_guarded(logger_, [this] {
    logger_.log(
        LogLevel::error,
        std::to_string(drain_report_.lost) + " hooks are lost: they could not be stored as failed",
        {{"event", "hooks_lost"}, {"hooks", drain_report_.lost}});
  });
}

bool Engine::Impl::wait_for_stats(const std::function<bool(const ShardStats&)>& reached) {
  std::unique_lock lock(mutex_);
  const auto ended = [&] {
    return fatal_.has_value() ||
           std::all_of(shards_.begin(), shards_.end(),
                       [&](const auto& shard) { return reached(shard->stats()); });
  };
  return wait_while_progress(changed_, lock, close_timeout, ended, [&] { return pending_.load(); });
}

// Destroys the copy on the store's thread, as an unfinished copy still uses the store's connection.
// If there is no memory to get there, waits for some; if none comes back the copy is leaked, which
// is better than destroying it on this thread.
void Engine::Impl::end_backup(std::unique_ptr<StoreBackup>& copy) noexcept {
  for (int time = 0; copy && time < close_tries_max; ++time) {
    try {
      store_thread_->run([&](Store&) { copy.reset(); });
    } catch (const std::exception&) {
      std::this_thread::sleep_for(close_retry_pause);
    }
  }
  (void)copy.release();
}

}  // namespace postbag
