#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/pure/content_hash.h"
#include "engine/pure/id_table.h"
#include "engine/pure/sinks.h"
#include "engine/shell/inbox_parcel.h"
#include "postbag/engine.h"
#include "postbag/logger.h"

namespace postbag {

// The message of Errc::disk_low. Which of them it is only the store's thread could say in time.
inline constexpr const char* no_room_text =
    "the store has no room for more (disk, [store] max_bytes or memory: the log says which)";

// The id table with its lock, shared by the producers' threads and the shards that finish calls.
struct SharedIds {
  std::mutex mutex;
  IdTable table;
  const Logger& logger;  // for callbacks that throw
  // Of the table; any thread.
  std::atomic<std::uint64_t> bytes{0}, forgotten_early{0};
  // Call after taking ids. Ids freed since the last call stay counted until then.
  void publish() {
    bytes.store(table.memory_bytes(), std::memory_order_relaxed);
    forgotten_early.store(table.forgotten_early(), std::memory_order_relaxed);
  }
};

// One submit() call on its way through several shards. Whoever finishes its last part answers. If
// the call has both a listener and ids, it also stands between the core and that listener, because
// a hook that is taken over must free its id.
class CallState : public CallSink,
                  public OutcomeListener,
                  public std::enable_shared_from_this<CallState> {
 public:
  struct GivenId {
    Hash128 id;
    std::uint32_t index = 0;
    std::uint32_t shard = 0;
    FailedKey location = 0;  // once accepted; under the ids' lock
  };

  explicit CallState(SharedIds& ids) : ids_(ids) {}

  // Before the hand-over, on the producer's thread.
  SubmitResult& result() { return result_; }
  void want_ids(bool wanted) { wants_ids_ = wanted; }
  std::vector<GivenId>& given() { return given_; }  // by index, ascending
  // Returns the listener to put into the shards' parcels, given the call's own.
  std::shared_ptr<OutcomeListener> listen(std::shared_ptr<OutcomeListener> listener);
  void expect(std::uint32_t parts) { parts_left_.fetch_add(parts, std::memory_order_relaxed); }
  // True: `other` will be told when this call is accepted or refused. False: that has just
  // happened. The caller holds the ids' lock.
  bool add_dependent(std::shared_ptr<CallState> other);

  // `handler` is called when all hooks are accepted, before the answer, on whichever thread
  // finishes the call.
  void on_accepted(std::function<void()> handler) { accepted_handler_ = std::move(handler); }
  // One entry for each shard, empty; they live as long as this.
  std::span<InboxParcel> make_inbox_parcels(std::size_t shards);
  std::span<InboxParcel> inbox_parcels() { return parcels_; }
  // The last step before the hand-over: from now on this answers.
  void answer_to(SubmitHandler handler) noexcept { handler_ = std::move(handler); }
  // Instead of a hand-over, for want of memory: frees the ids, and refuses the calls that wait for
  // them. The handler was not given and is not called.
  void abandon() noexcept;

  // CallSink
  void hook_bagged(std::size_t index, const HookId& id) override { result_.ids[index] = id; }
  bool wants_ids() const override { return wants_ids_ || !given_.empty(); }
  void shard_done(Errc error, std::uint32_t shard) override;
  // Ends a part of the call that is not a shard's (the submitting thread, or a call that this one
  // waits for). On an error the call is refused, but hooks that shards have stored stay known by
  // their ids.
  void part_done(Errc error);

  // OutcomeListener
  bool hook_done(std::size_t index, const HookOutcome& outcome) override;
  void hook_settled(std::size_t index) override;
  bool is_gone() override { return listener_->is_gone(); }

 private:
  const GivenId* given_at(std::size_t index) const;
  void finish();
  void set_message(Errc error) noexcept;
  void tell_accepted() noexcept;
  void answer() noexcept;

  InboxParcel only_parcel_;
  std::unique_ptr<InboxParcel[]> more_parcels_;
  std::span<InboxParcel> parcels_;
  SubmitHandler handler_;
  std::function<void()> accepted_handler_;
  std::shared_ptr<OutcomeListener> listener_;
  SharedIds& ids_;
  SubmitResult result_;
  bool wants_ids_ = false;
  bool abandoned_ = false;
  std::vector<GivenId> given_;
  std::atomic<std::uint32_t> parts_left_{0};
  std::atomic<Errc> error_{Errc::ok};
  bool finished_ = false;                               // under the ids' lock
  std::vector<std::shared_ptr<CallState>> dependents_;  // under the ids' lock
};

}  // namespace postbag
