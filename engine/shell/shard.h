#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/pure/shard_core.h"
#include "engine/pure/transport.h"
#include "engine/shell/handler_memory.h"
#include "engine/shell/held_wakes.h"
#include "engine/shell/inbox_parcel.h"
#include "engine/shell/loop_waker.h"
#include "engine/shell/shard_stats.h"
#include "engine/shell/store_thread.h"
#include "postbag/logger.h"

namespace postbag {

// What a shard tells the engine.
class ShardHost {
 public:
  virtual ~ShardHost() = default;
  virtual void hooks_ended(std::uint64_t hooks) = 0;  // no longer pending
  // The failed rows of `rows` hooks are stored. As long as the returned lock is held, status() sees
  // neither them nor anything else that the shard publishes.
  virtual std::unique_lock<std::mutex> rows_told(std::uint64_t rows) = 0;
  virtual void listeners_told() = 0;                         // of hooks that ended
  virtual void memory_released(std::uint64_t reserved) = 0;  // of a parcel that is in its bags now
  // Bytes that a shard which holds so many should drop of what the store has: max_memory is near.
  // 0: none.
  virtual std::uint64_t memory_excess(std::uint64_t held) const = 0;
  virtual void shard_settled() = 0;                      // while ending: look at the stats again
  virtual void shard_failed(std::error_code error) = 0;  // for good
};

using TransportFactory = std::function<std::unique_ptr<Transport>(
    boost::asio::io_context&, AttemptSink&, std::function<void()> wake)>;

// A thread with one io_context, one timer, one ShardCore and one transport. Everything of its
// targets happens here; others hand over through the inbox: one lock and at most one wake for a
// hand-over, however many hooks it has. Where memory runs out inside the core nobody can say what
// became of its bags: the shard halts, which is the end of the engine (ShardHost::shard_failed). A
// halted shard touches no bag any more; it refuses what comes and passes on what the store says of
// the calls that it has.
class Shard : public AttemptSink, public Wakeable {
 public:
  Shard(const ShardCore::Config& config, std::shared_ptr<const PolicyTable> policies,
        ShardHost& host, const TransportFactory& make_transport, Logger logger);
  // stop() first.
  ~Shard() override;
  // The store thread answers to a shard, and a shard hands to the store thread: connected after
  // both exist.
  void start(StoreThread& store);
  // Ends the thread at once; what is in flight is dropped.
  void stop();
  // After stop(), and when the store thread has ended: tells the calls that are left what the store
  // said of their hooks, or that they are refused.
  void answer_rest() noexcept;
  bool is_this_thread() const { return thread_.get_id() == std::this_thread::get_id(); }

  // Any thread. `entry.keep` owns it.
  void post(InboxParcel& entry) noexcept;
  // Any thread. Throw std::bad_alloc and have posted nothing then. A shard that halted drops
  // commands unrun.
  void post(std::function<void(ShardCore&, const Now&)> command);
  void post_answer(std::unique_ptr<StorePart> part);
  // Until end_recovery() parcels and commands wait; only post_recovered() and answers of the store
  // get through. The recovery of a shard that halts has ended.
  void begin_recovery();
  void post_recovered(std::function<void(ShardCore&, const Now&)> command);
  // Ends the core's recovery after everything that was posted by post_recovered(), then lets in
  // what waited. If not `is_sound`, the core sends nothing any more, because chunks of its last
  // batches may be missing.
  void end_recovery(bool is_sound) noexcept;
  // Ends what is in flight with `reason`.
  void abort_attempts(Reason reason);
  void forget_connections();
  const ShardStats& stats() const { return stats_; }
  const RateMeter& rates() const { return rates_; }

  void attempt_done(AttemptToken token, AttemptResult&& result) override;
  void wake_now() override;

 private:
  struct Inbox {
    Inbox() { answers.reserve(parts_under_way_max); }  // so to answer takes no memory
    ~Inbox();
    Inbox(const Inbox&) = delete;
    Inbox& operator=(const Inbox&) = delete;
    void swap(Inbox& other) noexcept;
    InboxParcel* first = nullptr;  // each keeps itself
    InboxParcel* last = nullptr;
    std::vector<std::function<void(ShardCore&, const Now&)>> commands;
    std::vector<std::unique_ptr<StorePart>> answers;
    std::vector<std::function<void(ShardCore&, const Now&)>> recovered;
  };
  enum class RecoveryEnd { none, sound, unsound };
  struct Reads;
  struct InFlight {
    Batch* batch = nullptr;
    std::string head;
    std::vector<std::string_view> pieces;
  };

  template <typename Put>
  void hand_in(Put put);
  bool needs_wake();
  void run();
  void on_wake();
  void let_in(RecoveryEnd end, const Now& now);
  void take_parcel(InboxParcel& entry, const Now& now);
  InboxParcel* next_parcel(std::shared_ptr<void>& keep);
  void halt(const char* what);
  void refuse_inbox() noexcept;
  void need_cycle();
  void cycle(const Now& now);
  void start_attempts();
  InFlight& prepare(Batch& batch);
  void start_loads();
  void read_slice(Store& store, const std::shared_ptr<Reads>& reads);
  void read_ahead(Store& store, Reads& reads);
  void arm_timer();
  void publish(const Now& now);
  void tell();
  void log_outcome(const Batch& batch, const AttemptResult& result, TimePoint now);
  void log_works_again(const TargetState& target, std::uint32_t failures, std::uint32_t for_s);

  ShardHost& host_;
  Logger logger_;
  HandlerMemory wake_memory_;  // before io_, which lets go of it
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  LoopWaker waker_;
  boost::asio::steady_timer timer_;
  TimePoint armed_for_ = time_point_never;
  ShardCore core_;
  std::unique_ptr<Transport> transport_;
  StoreThread* store_ = nullptr;

  std::mutex inbox_mutex_;
  Inbox inbox_;
  // Under inbox_mutex_.
  CoalescedWake wake_;
  bool recovering_ = false;
  RecoveryEnd recovery_end_ = RecoveryEnd::none;

  Inbox taken_;
  bool cycle_pending_ = false;
  Now done_at_{};                        // of the latest outcome
  bool has_done_at_ = false;             // read since the latest cycle
  bool halted_ = false;                  // this thread writes it, under inbox_mutex_
  std::optional<std::uint64_t> adding_;  // while a parcel is bagged: accepted before it

  std::deque<InFlight> slots_;
  std::vector<InFlight*> free_slots_;
  std::vector<InFlight*> starting_;  // scratch
  CoreCounters published_;
  std::uint64_t failed_rows_ = 0;  // stored, not published yet
  ShardStats stats_;
  RateMeter rates_;
  std::thread thread_;
};

}  // namespace postbag
