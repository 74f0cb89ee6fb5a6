#pragma once

#include <atomic>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "engine/shell/call_state.h"
#include "engine/shell/clock.h"
#include "engine/shell/shard.h"
#include "engine/shell/store_thread.h"
#include "postbag/engine.h"

namespace postbag {

class HttpShared;
class RetryJob;

// Which failed rows a run of retry-failed-hooks has under way. In memory only: a crash frees them.
struct RetryClaims {
  std::mutex mutex;
  std::unordered_set<FailedKey> keys;
  std::atomic<std::uint64_t> runs{0};                  // so far
  std::atomic<std::uint64_t> delivered{0}, failed{0};  // rows, by all runs
};

class Engine::Impl : public ShardHost {
 public:
  Impl(Options options, std::unique_ptr<Store> store, Logger logger);
  ~Impl() override;

  // submit.cc
  void submit(HookList hooks, SubmitOptions options, SubmitHandler done);

  // recovery.cc
  std::uint64_t recover(const std::function<void(std::uint64_t)>& progress,
                        const std::function<void()>& held);

  // engine_admin.cc
  std::uint64_t flush(std::optional<std::string_view> target);
  CancelResult cancel(std::string_view target_glob);
  bool wait_idle(std::optional<Duration> timeout);
  PurgeResult purge_failed(const FailedFilter& filter, std::optional<std::uint64_t> limit);
  std::error_code backup(const std::string& path, const std::stop_token& stop);
  EngineStatus status() const;
  std::vector<TargetStatus> targets(std::size_t limit);

  // engine_end.cc
  DrainReport drain(Duration timeout);
  void hurry();

  // find_hook.cc
  std::optional<HookStatus> find_hook(std::string_view id);

  // engine.cc
  std::vector<std::string> reload(Options options);

  // ShardHost
  void hooks_ended(std::uint64_t hooks) override;
  std::unique_lock<std::mutex> rows_told(std::uint64_t rows) override;
  void listeners_told() override;
  void memory_released(std::uint64_t reserved) override { reserved_bytes_.fetch_sub(reserved); }
  void shard_settled() override { notify(); }
  std::uint64_t memory_excess(std::uint64_t held) const override;
  void shard_failed(std::error_code error) override { fail(error); }

  // For the retry job and the few calls that are one line in engine.cc.
  StoreThread& store_thread() { return *store_thread_; }
  std::shared_ptr<const PolicyTable> policies() const {
    const std::lock_guard lock(policies_mutex_);
    return policies_;
  }
  Shard& shard_of(std::string_view canonical_url);
  std::vector<std::unique_ptr<Shard>>& shards() { return shards_; }
  RetryClaims& claims() { return claims_; }
  bool is_stopping() const { return stopping_.load(); }
  const Logger& logger() const { return logger_; }
  std::uint64_t max_memory() const { return options_.engine.max_memory; }
  // The store or a shard failed for good: no outcome comes any more.
  std::optional<std::error_code> fatal_error() const {
    const std::lock_guard lock(mutex_);
    return fatal_;
  }
  bool is_engine_thread() const;
  // Returns *this for a public call named `call` that blocks. Throws std::logic_error on an engine
  // thread.
  Impl& blocking(const char* call);
  // Held while hooks are on their way to the shards. Look at is_stopping() only after it is made:
  // what ends the engine sets that first and then waits until none exists, so nothing arrives
  // behind it.
  class Entering {
   public:
    explicit Entering(Impl& engine) : engine_(engine) { engine_.entering_.fetch_add(1); }
    ~Entering() { engine_.entering_.fetch_sub(1); }
    Entering(const Entering&) = delete;
    Entering& operator=(const Entering&) = delete;

   private:
    Impl& engine_;
  };
  void on_fatal(std::function<void(std::error_code)> handler);

  // Runs a function on every shard's thread and gathers the answers of those that have one: a shard
  // that halts, be it in this function, has none. Throws std::bad_alloc: some may have run it then.
  template <class Function>
  auto ask_shards(Function function) {
    using Answer = std::invoke_result_t<Function&, ShardCore&, const Now&>;
    constexpr bool only_looks = std::is_invocable_v<Function&, const ShardCore&, const Now&>;
    std::vector<std::future<Answer>> pending;
    for (auto& shard : shards_) {
      auto answer = std::make_shared<std::promise<Answer>>();
      pending.push_back(answer->get_future());
      shard->post([answer = std::move(answer), function](ShardCore& core, const Now& now) mutable {
        try {
          answer->set_value(function(core, now));
        } catch (...) {
          // Nobody can say what became of the bags: this is for the shard, which halts.
          if (!only_looks) throw;
          answer->set_exception(std::current_exception());
        }
      });
    }
    std::vector<Answer> answers;
    for (auto& one : pending) {
      try {
        answers.push_back(one.get());
      } catch (const std::future_error&) {
        // A shard that halted answers nothing.
      }
    }
    return answers;
  }

 private:
  struct Admission;
  class Recovering;
  class Reservation;
  bool check_hooks(HookList& hooks, const PolicyTable& policies, SubmitResult& result) const;
  bool reserve(std::uint64_t bytes, SubmitResult& result);
  std::uint64_t memory_used() const;
  std::uint64_t shards_bytes(const Shard* but) const;
  std::uint64_t excess_of_shard(std::uint64_t held, std::uint64_t all, std::uint64_t wanted) const;
  void ask_for_room(std::uint64_t bytes);
  void make_room(ShardCore& core, std::uint64_t bytes, const Now& now);
  void note_cut_early(std::uint64_t bags);
  bool take_ids(const HookList& hooks, const std::shared_ptr<CallState>& call, Admission& admission,
                SubmitResult& refused);
  void watch_duplicate(const HookView& hook, std::uint32_t index,
                       const std::shared_ptr<OutcomeListener>& listener);
  struct DuplicateListener;
  void watch_batch(const std::shared_ptr<DuplicateListener>& duplicate, BatchNumber batch);
  void watch_in_store(const std::shared_ptr<DuplicateListener>& duplicate, BatchNumber batch,
                      Store& store);
  std::shared_ptr<CallState> admit(HookList& hooks, SubmitOptions& options, SubmitHandler& done,
                                   SubmitResult& refused);
  void address(const Admission& admission, CallState& call);
  void hand_over(CallState& call, std::optional<Entering>& entering) noexcept;
  void warn_of_waiting() const;
  void say(const std::string& what, std::error_code error) const;
  void fail(std::error_code error);
  bool is_idle() const;
  bool has_failed() const { return fatal_error().has_value(); }
  void notify();
  void end_backup(std::unique_ptr<StoreBackup>& copy) noexcept;
  void close_down();
  void settle_what_is_left();
  void count_lost();
  bool wait_stored(std::optional<TimePoint> deadline);
  bool wait_for_stats(const std::function<bool(const ShardStats&)>& reached);
  std::optional<FailedHook> find_failed(std::string_view own_id);
  enum class Past { open, delivered, forgotten };
  Past past_of(const Hash128& id, FailedKey location, Store& store);
  std::optional<HookStatus> find_in_shards(ChunkNumber chunk, std::uint32_t index,
                                           std::optional<BatchNumber> batch);

  Options options_;          // what does not change at a reload
  std::mutex reload_mutex_;  // one after the other: shards and options are of the same
  mutable std::mutex options_mutex_;
  Logger logger_;
  std::unique_ptr<Store> store_;
  StoreInfo store_info_;
  const TimePoint started_ = steady_now();
  // Not std::atomic<std::shared_ptr>: libstdc++ 12 unlocks it after a load without release, which
  // is a race.
  mutable std::mutex policies_mutex_;
  std::shared_ptr<const PolicyTable> policies_;
  SharedIds ids_;
  RetryClaims claims_;
  std::unique_ptr<HttpShared> http_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<StoreThread> store_thread_;  // after the shards: it answers to them

  std::atomic<std::uint64_t> reserved_bytes_{0};  // handed over, not in a bag yet
  std::atomic<TimePoint> room_asked_{TimePoint::min()}, cut_early_said_{TimePoint::min()};
  std::atomic<std::uint64_t> cut_early_{0};  // bags
  // The store counts a failed hook before the hook's shard hears of it. This lock makes status()
  // show the hook as pending until then, and never as both.
  mutable std::mutex outcomes_mutex_;
  std::uint64_t rows_told_ = 0;
  std::atomic<std::uint64_t> pending_{0};
  std::atomic<std::uint64_t> duplicates_{0}, refused_{0};
  std::atomic<std::uint64_t> purged_{0}, cancelled_{0};
  // When a failed hook was last dropped, or may have been. If the hook of an id taken before that
  // is found nowhere, it may have been dropped rather than delivered. Rows deleted by retention
  // have their own time: StoreThread::retention_purged_at().
  std::atomic<TimePoint> dropped_at_{TimePoint::min()};
  std::atomic<std::uint64_t> entering_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> hurried_{false};
  std::atomic<bool> recovering_{false};
  bool closed_down_ = false;  // under drain_mutex_
  std::mutex drain_mutex_;
  DrainReport drain_report_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void(std::error_code)> fatal_handler_;
  std::optional<std::error_code> fatal_;
};

}  // namespace postbag
