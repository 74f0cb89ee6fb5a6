#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/pure/store_part.h"
#include "engine/shell/clock.h"
#include "engine/shell/part_answers.h"
#include "engine/shell/retention.h"
#include "postbag/logger.h"
#include "postbag/options.h"
#include "postbag/store.h"

namespace postbag {

// The one thread that works with the store. It drains what is queued, commits it as one group and
// goes on with the next while that is synced and answered (PartAnswers); the running commit is the
// wait for the next group, so groups grow with the load. Other work is cut into slices that run
// between groups.
class StoreThread {
 public:
  using Answer = PartAnswers::Answer;
  using Job = std::function<void(Store&)>;
  using Clock = std::function<TimePoint()>;

  // `answer` is called for every part, on this thread or that of the syncs; `fatal` once, when the
  // store failed for good, or there is no memory to work with it, on either. Neither throws.
  // `clock`: tests have one of their own; any thread, and never ahead of the steady clock. `shards`
  // push parts.
  StoreThread(Store& store, Durability durability, Answer answer,
              std::function<void(std::error_code)> fatal, Logger logger, Clock clock = steady_now,
              std::size_t shards = 1);
  ~StoreThread();
  // Finishes everything queued; then nothing may be pushed. More than once is as good as once.
  void stop();

  // A shard has at most two parts under way; room for that many is reserved, so this does not
  // allocate.
  void push(std::unique_ptr<StorePart> part);
  // A slice of other work: about 5 ms at most. Runs between groups, in order.
  void push_job(Job job);
  // Runs a slice and waits for its result. While parts keep coming, slices get only a small share
  // of the time. Not to be called on this thread.
  template <class Function>
  auto run(Function function) -> std::invoke_result_t<Function, Store&> {
    std::packaged_task<std::invoke_result_t<Function, Store&>(Store&)> task(std::move(function));
    auto result = task.get_future();
    push_slice([&task](Store& store) { task(store); });
    return result.get();
  }

  // Deletes failed rows by age and bytes from now on; replaces what was set before. `claimed` gives
  // the rows that must stay, on this thread, just before each slice; may be empty.
  void set_retention(RetentionLimits limits, std::function<std::vector<FailedKey>()> claimed = {});
  // Failed rows that it has deleted.
  std::uint64_t retention_purged() const {
    return retention_purged_.load(std::memory_order_relaxed);
  }
  // When the latest of them was.
  TimePoint retention_purged_at() const { return retention_purged_at_.load(); }

  // A range of chunk numbers that nobody else gets. The reservation behind it is persisted in time:
  // before any chunk with such a number is.
  ChunkNumber take_numbers(std::uint64_t count);

  StoreStats stats() const;
  // stats(), and how many failed rows parts have added since the start, including those whose shard
  // has not taken the answer yet.
  std::pair<StoreStats, std::uint64_t> stats_and_rows() const;
  // On this thread, by a job that changed what they say and whose end somebody waits for.
  void refresh_stats(std::uint64_t rows_added = 0);
  // True for a short while after the store had no room for an append. It turns false by itself so
  // that the next call tries again: while nothing is written, nothing else would notice that there
  // is room.
  bool disk_is_low() const;
  // False from a refusal for want of room until a commit found some or the store says that one
  // would; whoever sends nothing while it is refused would never hear of it otherwise.
  bool takes_in() const { return takes_in_.load(std::memory_order_relaxed); }
  // Or that of the syncs.
  bool is_this_thread() const {
    return thread_.get_id() == std::this_thread::get_id() || answers_.is_this_thread();
  }
  bool failed() const { return failed_.load(std::memory_order_relaxed); }

 private:
  struct Work {
    std::vector<std::unique_ptr<StorePart>> parts;
    Job job, slice;
  };
  // What the parts of a group bring, all together; appends only of those that are not refused.
  struct Content {
    bool has_appends = false, wants_sync = false;
    bool has_fails = false, takes_back = false, deletes_rows = false;
  };
  // How much of the parts goes into a group.
  enum class Share { all, rest, rest_without_fails };
  struct Tried {
    std::error_code error;
    bool short_of_memory = false;  // error is Errc::disk_low then
  };

  void push_slice(Job slice);
  void loop();
  // Waits for work, or until it is time for housekeeping. False: there is none, and the end.
  bool take_work(Work& work);
  // Runs `function`; std::bad_alloc counts as a fatal failure of the store.
  template <class Function>
  void or_fail_for_memory(Function function) noexcept;
  void run_job(const Job& job);
  void run_slice(const Job& slice);
  void commit_or_refuse(std::vector<std::unique_ptr<StorePart>>& parts) noexcept;
  // Stores all that it can of the parts, and answers them.
  void commit(std::vector<std::unique_ptr<StorePart>>& parts);
  static Content content_of(const std::vector<std::unique_ptr<StorePart>>& parts);
  Tried try_commit(const std::vector<std::unique_ptr<StorePart>>& parts, Share share,
                   bool wants_sync);
  void note_room_for_appends(const Content& content, std::error_code error);
  void refuse_poisoned(std::vector<std::unique_ptr<StorePart>>& parts);
  std::uint64_t write_answers(const std::vector<std::unique_ptr<StorePart>>& parts,
                              std::error_code append_error, std::error_code error, bool fails_left);
  std::error_code commit_group(StoreGroup& group, bool wants_sync);
  CommitLevel sync_level() const;
  void housekeeping(bool is_busy);
  void check_place(TimePoint now);
  void look_for_room(TimePoint now);
  void run_retention();
  // When the loop wakes though nothing is queued; never: only for work.
  TimePoint wake_time() const;
  void note_room(bool is_low, bool short_of_memory);
  void note_error(std::error_code error) noexcept;
  void sync_if_due();

  Store& store_;
  const Durability durability_;
  const std::uint16_t store_tag_;
  std::function<void(std::error_code)> fatal_;
  Logger logger_;
  const Clock clock_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<StorePart>> parts_;
  std::deque<Job> jobs_, slices_;
  bool stop_ = false;

  Work work_;  // this thread's
  TimePoint next_slice_ = TimePoint::min(), last_group_ = TimePoint::min();

  std::atomic<ChunkNumber> next_number_;
  ChunkNumber reserved_below_;                                 // this thread's
  std::unordered_map<std::uint32_t, std::uint32_t> poisoned_;  // by shard
  bool unsynced_ = false;     // a call was answered whose hooks are not synced yet
  bool awaits_sync_ = false;  // what was committed since parts were answered last
  TimePoint last_sync_{};
  TimePoint last_maintenance_{};
  TimePoint last_forgetting_{};
  bool maintenance_left_ = true;
  TimePoint last_place_check_{};
  Retention retention_{RetentionLimits{}};
  std::function<std::vector<FailedKey>()> claimed_;
  std::atomic<std::uint64_t> retention_purged_{0};
  std::atomic<TimePoint> retention_purged_at_{TimePoint::min()};
  bool room_is_low_ = false;   // as was logged
  bool room_is_back_ = false;  // and is not logged yet
  TimePoint last_room_line_ = TimePoint::min();

  mutable std::mutex stats_mutex_;
  StoreStats stats_;
  std::uint64_t rows_added_ = 0;
  std::atomic<TimePoint> disk_low_until_{TimePoint::min()};
  std::atomic<bool> takes_in_{true};
  std::atomic<bool> failed_ = false;
  PartAnswers answers_;
  std::thread thread_;
};

}  // namespace postbag
