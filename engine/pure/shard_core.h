#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/pure/batch.h"
#include "engine/pure/batch_pool.h"
#include "engine/pure/chunk_numbers.h"
#include "engine/pure/content_hash.h"
#include "engine/pure/deadline_queue.h"
#include "engine/pure/disk_run.h"
#include "engine/pure/opened_times.h"
#include "engine/pure/packed_run.h"
#include "engine/pure/parcel.h"
#include "engine/pure/policy_table.h"
#include "engine/pure/read_ahead.h"
#include "engine/pure/recent_chunks.h"
#include "engine/pure/segment.h"
#include "engine/pure/store_part.h"
#include "engine/pure/target.h"
#include "engine/pure/target_list.h"

namespace postbag {

// Only grows; the shell publishes the differences.
struct CoreCounters {
  std::uint64_t accepted = 0, refused = 0, delivered = 0, given_up = 0, discarded = 0;
  std::uint64_t handed_back = 0;  // given up and taken over by a listener, so not kept
  std::uint64_t ended = 0;        // hooks that got their outcome or were refused: no longer pending
  std::uint64_t attempts = 0, attempts_failed = 0, batches = 0;
  std::uint64_t cut_by_size = 0, cut_by_bytes = 0, cut_by_time = 0, cut_by_request = 0;
  std::uint64_t shed = 0;        // hooks dropped from memory, kept in the store
  std::uint64_t unsendable = 0;  // hooks given up unsent: damaged, or their target is no URL
};

// One shard's state machine: hooks, bags, cutting, the order of sending, retries, settling. Pure:
// no clock, no I/O, no thread; the same events give the same actions. Events are the member
// functions; after each, the shell takes the actions: sends() and loads(), and take_part() for the
// store. One thread at a time.
class ShardCore {
 public:
  struct Config {
    std::uint32_t shard = 0;
    bool durable = false;
    std::uint16_t store_tag = 0;
    std::uint32_t max_connections = 1024;
    std::uint64_t random_seed = 1;
    // Only while there are more batches than this do waiting ones give up being objects.
    std::size_t unpacked_batches = 8192;
    // Of the bodies that were read from the store and are on the wire, or on their way back there.
    // One batch is read all the same; a few that were cancelled; and in a store that has no room,
    // with nothing on the wire, one at a time of those whose turn it is.
    std::uint64_t read_bytes_max = 64 << 20;
    // Of payload memory that is free at the moment: no number counts it, so it is small beside
    // max_memory.
    std::size_t kept_bytes_max = std::size_t{16} << 20;
  };
  ShardCore(const Config& config, std::shared_ptr<const PolicyTable> policies);
  ~ShardCore();
  ShardCore(const ShardCore&) = delete;
  ShardCore& operator=(const ShardCore&) = delete;

  // --- Chunk numbers are handed in from outside, in ascending ranges. A parcel uses at most one
  // per hook.
  std::uint64_t numbers_left() const { return numbers_.left(); }
  void give_numbers(ChunkNumber first, std::uint64_t count) { numbers_.give(first, count); }

  // --- Events. Parts come back to part_done() in the order they were taken, each as the object it
  // was.
  void add(const Parcel& parcel, const Now& now);
  // What was found in the store at start comes in slices, its chunks in ascending order, between
  // these two. In between nothing is sent: only at the end is the order per target known, and all
  // that waits for a retry and so counts against max_retrying. Commands must wait until then, too:
  // they would miss what is not known yet. Hooks that were added before are newer.
  void begin_recovery();
  // Takes the chunks whose indices are in `which`.
  void add_recovered(std::span<const PendingChunk> chunks, std::span<const std::uint32_t> which,
                     const Now& now);
  void end_recovery();
  void attempt_done(Batch& batch, AttemptResult&& result, const Now& now);
  void loaded(Batch& batch, std::error_code error, std::span<const std::string> blobs,
              const Now& now);
  // The chunks of loads_ahead(), each once, in any parts. Takes the blobs.
  void read_ahead(std::span<ChunkBlob> found, const Now& now);
  void part_done(StorePart& part, const Now& now);
  // Fires what is due. Call when next_deadline() has come; early is harmless.
  void advance(const Now& now);
  void set_policies(std::shared_ptr<const PolicyTable> policies, const Now& now);
  // Cuts every bag, or those of one target. Returns how many.
  std::uint64_t flush(std::optional<std::string_view> target, const Now& now);
  // Cuts the bags of one run of retry-failed-hooks: its input has ended, or must be waited for.
  void flush_retry(const RetrySink* sink, const Now& now);
  // Ends such a run, whose input has ended: only what is on the wire goes on, to its first outcome.
  // The rows of everything else are given back as they are.
  void stop_retry(const RetrySink* sink);
  // Hooks of matching targets that are not on the wire go to failed(cancelled). Returns how many.
  std::uint64_t cancel(std::string_view target_glob, const Now& now);
  // Cuts every bag; from now on each unattempted batch gets one attempt and no retry is started.
  void drain(const Now& now);
  // After a drain: what is left of memory mode becomes failed(shutdown), a part at a time as the
  // store takes it; durable batches just stay stored. Attempts must have ended. Returns {left in
  // the store, stored as failed}.
  std::pair<std::uint64_t, std::uint64_t> abandon(const Now& now);
  // From now on no attempt is started, and what waits to be read for one is not. What is being read
  // comes to loaded() all the same.
  void stop_sending(const Now& now);
  // Drops about so many bytes of waiting hooks that the store has; they are read back when their
  // turn comes. Returns how many there were to drop.
  std::uint64_t shed(std::uint64_t bytes);
  // This shard holds `bytes` too many. Drops what the store has; if that and the batches that are
  // already cut (and so will leave) do not cover it, cuts the fullest open bags. Returns how many
  // bags it cut. Walks all batches.
  std::uint64_t make_room(std::uint64_t bytes, const Now& now);
  // Tells `listener` the outcome of a hook that is here already, as its call's `call_index`. False:
  // it is not here. `batch`: the one that the chunk belongs to, where that is known; without it the
  // later chunks of a batch are not found.
  bool watch(ChunkNumber chunk, std::uint32_t index, std::uint32_t call_index,
             const std::shared_ptr<OutcomeListener>& listener,
             std::optional<BatchNumber> batch = {});
  // For a shard that halts: whether `call` waits here for its hooks to be stored, and the refusal
  // of all that do and are not on their way to the store. Nothing else may be called afterwards.
  bool waits(const CallSink& call) const;
  void forsake_calls(Errc error);
  // Calls back once everything so far is stored.
  void add_barrier(std::function<void()> barrier);

  // --- Actions
  std::vector<Batch*>& sends() { return sends_; }  // to start now; cleared by the shell
  std::vector<Batch*>& loads() { return loads_; }  // to read from the store now
  // To read beside these, in this order, as far as it costs little.
  std::vector<ChunkNumber>& loads_ahead() { return ahead_.wanted(); }
  // The next part for the store, or null: nothing to do, or two are under way already (so that work
  // gathers while the store is busy).
  std::unique_ptr<StorePart> take_part(const Now& now);
  TimePoint next_deadline() const;

  // What listeners wait to hear; told when the counters that go with it are published.
  void tell();

  // --- For whoever sends a batch
  const std::string& head_start(Batch& batch);
  const std::shared_ptr<const Destination>& destination(Batch& batch);
  HookId batch_id(const Batch& batch) const;
  std::uint32_t retries_of(const Batch& batch) const;
  // What attempt_done() will do with a batch whose attempt failed.
  bool gives_up(const Batch& batch, const AttemptResult& failed) const;

  // --- Looking
  std::uint32_t shard() const { return config_.shard; }
  const CoreCounters& counters() const { return counters_; }
  std::uint64_t memory_bytes() const {
    return pool_.live_bytes() + overhead_bytes_ + ahead_.bytes();
  }
  std::uint64_t batches_in_flight() const { return in_flight_; }
  std::uint64_t batches_retrying() const { return retrying_; }
  std::uint64_t open_bags() const { return open_bags_; }
  std::uint64_t batches_held() const { return batches_live_; }  // the open ones included
  // When the oldest hook without an outcome was accepted (OpenedTimes says how precisely); empty:
  // there is none. Hooks of retry-failed-hooks do not count.
  std::optional<WallMs> oldest_ms() const { return opened_.oldest_ms(); }
  std::size_t targets() const { return targets_.size(); }
  std::uint64_t hooks_held() const { return hooks_held_; }  // for tests
  // Draining, nothing on the wire or startable, nothing on its way to the store.
  bool drained() const;
  bool ending() const { return draining_ || stopped_sending_; }
  bool has_to_tell() const { return !notices_.empty(); }
  bool idle() const { return batches_live_ == 0 && parts_out_.empty() && !part_; }
  void collect_targets(std::vector<TargetStatus>& out) const;
  std::optional<HookStatus> find_hook(ChunkNumber chunk, std::uint32_t index,
                                      std::optional<BatchNumber> batch) const;
  // In a bounded memory of these.
  bool delivered_lately(ChunkNumber chunk, std::uint32_t index) const {
    return recent_.find(chunk, index).has_value();
  }

 private:
  // With the hash of its url: most of what is looked for is found, or not, without touching a
  // target, which has left the caches where there are many.
  struct TargetPtr {
    std::uint64_t hash = 0;
    std::unique_ptr<TargetState> state;
    TargetState& operator*() const { return *state; }
    TargetState* operator->() const { return state.get(); }
  };
  struct HashedUrl {
    std::uint64_t hash = 0;
    std::string_view url;
  };
  // Finds one with this hash; whether it is the one that is meant its url says.
  struct OfHash {
    std::uint64_t hash = 0;
  };
  struct UrlHash {
    using is_transparent = void;
    using is_avalanching = void;
    std::size_t operator()(const auto& key) const { return key.hash; }
  };
  struct UrlEqual {
    using is_transparent = void;
    static std::string_view url_of(const HashedUrl& key) { return key.url; }
    static std::string_view url_of(const TargetPtr& target) { return target->url; }
    bool operator()(const OfHash& a, const TargetPtr& b) const { return a.hash == b.hash; }
    bool operator()(const TargetPtr& a, const OfHash& b) const { return a.hash == b.hash; }
    bool operator()(const auto& a, const auto& b) const {
      return a.hash == b.hash && url_of(a) == url_of(b);
    }
  };
  using TargetTable = boost::unordered_flat_set<TargetPtr, UrlHash, UrlEqual>;
  struct Dirty {
    Batch* batch = nullptr;
    BatchMark from;
  };
  enum class Cut : std::uint8_t { size, bytes, time, request };

  // shard_core.cc: targets, bags, adding, cutting
  TargetTable::iterator find_target(std::string_view url);
  TargetState& target_of(std::string_view url);
  TargetState& make_target(const HashedUrl& key);
  void find_targets(const Parcel& parcel, std::size_t first, std::span<TargetState*> found);
  static void fetch_bags(const Parcel& parcel, std::size_t first,
                         std::span<TargetState* const> found);
  Bag& bag_of(TargetState& target, std::string_view group, const std::string& headers,
              const Parcel& parcel);
  FailedKey add_hook(Bag& bag, const HookView& hook, const Parcel& parcel, std::uint32_t call_index,
                     FailedKey row, const Now& now);
  // Whether its hooks are stored when they are accepted (rows of retry-failed-hooks are in the
  // store anyway).
  bool is_stored(const Bag& bag) const { return config_.durable && !bag.is_retry(); }
  void open_batch(Bag& bag, const Now& now);
  void open_chunk(Batch& batch, const Now& now);
  void cut(Bag& bag, Cut why);
  void cut_if_full(Bag& bag);
  std::uint64_t cut_all(TargetState& target, Cut why);
  void free_batch(Batch& batch);
  // Makes the object only. The counts of bag and target also include batches in runs, so they are
  // kept by count_batch().
  Batch& make_batch(Bag& bag);
  // Enters the batch made last into by_number_, now that its number is known. If that finds no
  // memory, the batch is still freed with the core (coming_).
  void enter_batch(Batch& batch);
  void destroy_batch(Batch& batch);
  void count_batch(Bag& bag, WallMs opened_ms);
  void uncount_batch(Bag& bag, WallMs opened_ms);
  void uncount_run(Bag& bag, const DiskRun& run);
  void unuse(Batch& batch);
  void remove_bag_if_unused(Bag& bag);
  void touch_idle(TargetState& target);
  void evict_idle_targets();

  // shard_core_send.cc: whose turn it is, outcomes
  void bag_changed(Bag& bag);
  void push_ready_bag(Bag& bag);
  bool front_can_go(const Bag& bag) const;
  bool may_start_new(const TargetState& target) const;
  bool can_start(const TargetState& target) const;
  Batch* next_batch(TargetState& target);
  void target_changed(TargetState& target);
  void pump();
  void start(Batch& batch);
  void set_state(Batch& batch, BatchState state);
  void wait_for_retry(Batch& batch, const Now& now, bool counted);
  void delivered(Batch& batch);
  void give_up(Batch& batch, AttemptResult&& result, WallMs at);
  void tell_watchers(Batch& batch, const HookOutcome& outcome);
  void forget_taken(const Batch& batch);
  static bool make_destination(TargetState& target);
  void resolved(Batch& batch);

  // shard_core_store.cc: what goes to the store and comes back
  StorePart& part();
  void settle(const Batch& batch);
  void close_chunks(StorePart& part);
  void appended(StorePart& part, const Now& now);
  void append_refused(StorePart& part, const Now& now);
  void all_committed(Batch& batch, const Now& now);
  void cut_back(Batch& batch, const BatchMark& mark);
  void fail_stored(StorePart& part);
  void requeue(StorePart& part, const Now& now);
  void release_barriers(StorePart& part);
  void refuse_dirty(Errc error, const Now& now);
  void after_cut_back(Batch& batch, const Now& now);

  // shard_core_retry.cc
  static std::vector<FailedKey> rows_of(const Batch& batch);
  std::vector<Batch*> batches_of(const RetrySink* sink) const;
  void give_rows_back(Batch& batch);

  // shard_core_spill.cc
  bool can_shed(const Batch& batch) const;
  void note_sheddable(Batch& batch);
  void drop_resident(Batch& batch);
  void queue_insert(Bag& bag, Batch* before, Batch& batch);
  void queue_unlink(Batch& batch);
  void queue_remove(Batch& batch);
  Batch& batch_on_disk(Bag& bag, const DiskBatch& places, BatchNumber number);
  static bool can_fold(const Batch& batch);
  void fold(Batch& batch);
  bool fold_into(Batch& carrier, const DiskBatch& places);
  std::unique_ptr<DiskRun> take_run(Batch& carrier);
  void give_run(Batch& carrier, std::unique_ptr<DiskRun> run);
  Batch* unfold_batch(ChunkNumber chunk, std::uint32_t index, std::uint32_t& index_in_batch);
  const Bag* find_in_runs(ChunkNumber chunk, std::uint32_t index, bool& is_cancelled) const;
  Batch* unfold_cancelled(ChunkNumber chunk, std::uint32_t index, std::uint32_t& index_in_batch);
  Batch& read_cancelled(Bag& bag, const DiskBatch& places);
  std::uint64_t cancel_run(Batch& carrier);
  void cancel_more();
  std::uint64_t leave_runs();

  // shard_core_room.cc
  static bool can_drop_front(const Batch& batch);
  void note_droppable(Batch& batch);
  void drop_front(Batch& batch);
  void shed_open(std::uint64_t bytes);

  // shard_core_recovery.cc
  struct RecoveredBag {
    Batch* tail = nullptr;   // the last batch found that is in the bag's queue, maybe with a run
    BatchNumber number = 0;  // of the last batch found: a chunk may be its next
    Batch* batch = nullptr;  // that batch; null: it is the last of the tail's run
    std::uint64_t body_bytes = 0;  // of that batch, at most
  };
  void add_recovered_chunk(const PendingChunk& found, const Now& now);
  void extend_recovered(const RecoveredBag& bag, ChunkInfo chunk);
  Batch& add_recovered_retry(Bag& bag, const PendingChunk& found, const DiskBatch& places,
                             const Now& now);

  // shard_core_pack.cc
  bool can_pack(const Batch& batch) const;
  void pack(Batch& batch);
  ChunkNumber add_packed(Bag& bag, const HookFields& hook, const Now& now);
  void give_packed(Batch& carrier, std::unique_ptr<PackedRun> run);
  std::unique_ptr<PackedRun> take_packed(Batch& carrier);
  Batch& unpack_front(Bag& bag, PackedRun& run);
  void unpack_next(Batch& carrier);
  Batch* unpack_batch(ChunkNumber chunk, std::uint32_t index);
  const Bag* find_packed(ChunkNumber chunk, std::uint32_t index, bool& is_cancelled) const;
  std::uint64_t cancel_packed(Batch& carrier, Reason reason, const Now& now);
  void cancel_more_packed(std::size_t batches_max);
  std::uint64_t abandon_packed(const Now& now);

  // shard_core_load.cc
  void load(Batch& batch);
  void want_load(Batch& batch);
  void ask_loads();
  Batch* next_load();
  static std::uint64_t read_bytes_bound(const Batch& batch);
  bool may_read(std::uint64_t bytes, bool for_rows) const;
  std::size_t fails_under_way() const;
  void move_cancelled_loads();
  void take_loaded(Batch& batch, std::error_code error, std::span<const std::string> blobs,
                   const Now& now);
  void end_read(Batch& batch);
  bool decode_chunks(Batch& batch, std::span<const std::string> blobs);
  void load_failed(Batch& batch, const Now& now);
  bool take_ahead(Batch& batch);
  void plan_ahead(const Bag& bag);

  // shard_core_admin.cc
  void cancel_batch(Batch& batch, const Now& now);
  void cancel_ended(std::uint64_t batches = 1);
  void take_out(Batch& batch);
  static void note_cancelled(Batch& batch);
  void renew_open(Bag& bag, const BatchPolicy& before, const Now& now);
  void remember_delivered(const Batch& batch);
  Batch* batch_with(BatchNumber number, ChunkNumber chunk, std::uint32_t index,
                    std::uint32_t& index_in_batch) const;

  Config config_;
  std::shared_ptr<const PolicyTable> policies_;
  SegmentPool pool_;
  BatchPool batches_;
  DeadlineQueue deadlines_;
  std::mt19937_64 random_;
  TargetTable targets_;
  boost::unordered_flat_map<BatchNumber, Batch*> by_number_;
  Batch* coming_ = nullptr;                     // made, but not in by_number_ yet
  TargetList ready_{TargetState::List::ready};  // can send, in turn
  TargetList idle_{TargetState::List::idle};    // without a batch, idle longest first

  struct Notice {
    std::shared_ptr<OutcomeListener> listener;
    std::uint32_t call_index = 0;
    std::optional<HookOutcome> outcome;  // empty: settled
  };
  std::vector<Notice> notices_, telling_;
  std::vector<Batch*> sends_;
  std::vector<Batch*> loads_;
  // Until there is room: those whose turn it is, and the cancelled ones whose rows want the hooks.
  std::deque<Batch*> wanted_loads_, wanted_rows_;
  bool is_rows_turn_ = true;
  std::uint64_t reads_out_ = 0;   // asked for and not answered
  std::uint64_t read_bytes_ = 0;  // see Config; of those asked for, what they may have
  ReadAhead ahead_;
  std::vector<Dirty> dirty_;
  std::vector<std::shared_ptr<CallSink>> waiting_calls_;  // for the commit of what is dirty
  bool waiting_sync_ = false;                             // one of them wants it synced
  std::unique_ptr<StorePart> part_;                       // gathers until taken
  std::vector<const StorePart*> parts_out_;               // oldest first; answered in this order
  std::uint32_t refusal_series_ = 0;
  std::vector<BatchNumber> sheddable_;  // in the order they began to wait; may have gone since
  std::deque<BatchNumber> droppable_;   // open, in the order of their commits; may be cut since
  TimePoint store_pause_until_{};
  bool store_failed_ = false;
  std::uint64_t cancels_open_ = 0;  // batches that wait for their commit or their hooks
  std::uint64_t cancel_loads_ = 0;  // of these, being read
  struct CancelledRun {
    Bag* bag = nullptr;
    std::unique_ptr<DiskRun> run;
  };
  std::deque<CancelledRun> cancelled_runs_;           // out of their queues, read a part at a time
  std::vector<Batch*> carriers_;                      // every batch with a run
  std::vector<std::function<void()>> held_barriers_;  // until there are none

  std::vector<PackedRun*> packed_;  // every one that a batch carries
  std::string meta_;                // scratch, of a hook that is packed at once
  struct CancelledPacked {
    Bag* bag = nullptr;
    std::unique_ptr<PackedRun> run;
    WallMs at = 0;
    Reason reason = Reason::none;
  };
  std::deque<CancelledPacked> cancelled_packed_;  // out of their queues, on their way to `fail`

  ChunkNumbers numbers_;
  std::uint64_t overhead_bytes_ = 0;
  OpenedTimes opened_;  // of all batches but those of retry-failed-hooks
  std::uint64_t batches_live_ = 0, open_bags_ = 0, in_flight_ = 0, retrying_ = 0, hooks_held_ = 0;
  bool draining_ = false;
  bool stopped_sending_ = false;
  using RecoveredBags = boost::unordered_flat_map<Bag*, RecoveredBag>;
  std::unique_ptr<RecoveredBags> recovered_;  // while recovery lasts
  CoreCounters counters_;

  RecentChunks recent_;
};

}  // namespace postbag
