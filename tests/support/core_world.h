#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/pure/shard_core.h"
#include "engine/shell/store_group.h"

namespace postbag::test {

// One hook as a test offers it. `target` must be canonical: the core takes nothing else.
struct WorldHook {
  std::string target, body, event, group, id, content_type;
  HeaderList headers;
};

// What the virtual network answers to an attempt.
struct Reply {
  AttemptResult result;
  Duration latency = std::chrono::milliseconds(1);
};
Reply answer(int status, Duration latency = std::chrono::milliseconds(1));
Reply broken(Reason reason, Duration latency = std::chrono::milliseconds(1));

// One request as it went out, and how it ended.
struct WorldRequest {
  TimePoint started{}, ended{};
  std::string target, group, batch_id, head, body;
  BatchNumber batch = 0;
  std::uint32_t shard = 0, attempt = 0, size = 0, life = 0;
  bool is_retried_rows = false, is_stopped = false;  // of a run that is not to send more
  bool has_ended = false;
  AttemptResult result;
};

// A call, and the answer that its producer gets.
class WorldCall : public CallSink {
 public:
  void hook_bagged(std::size_t index, const HookId& id) override { ids[index] = id; }
  void shard_done(Errc shard_error, std::uint32_t shard) override;
  bool wants_ids() const override { return true; }

  std::size_t number = 0;
  std::size_t hooks = 0;
  std::uint32_t shards = 0, shards_left = 0;
  std::uint32_t life = 0;
  Errc error = Errc::ok;
  bool answered() const { return shards_left == 0; }
  bool accepted() const { return answered() && error == Errc::ok; }
  std::vector<HookId> ids;
  std::function<void(WorldCall&)> on_answer;
};

// A run of retry-failed-hooks.
class WorldRetry : public RetrySink {
 public:
  using RetrySink::RetrySink;
  void rows_done(std::span<const FailedKey> keys, std::uint64_t body_bytes,
                 RowsOutcome outcome) override;
  std::set<FailedKey> claimed;
  std::uint64_t rows = 0, delivered = 0, failed = 0, untouched = 0;
  std::uint64_t body_bytes_left = 0;
};

enum class StoreFault { none, disk_low, full, failed };  // disk_low: appends only; full: everything

struct StoredChunk {
  BatchNumber batch = 0;
  std::string target, group, headers, blob;
  WallMs accepted_ms = 0, next_attempt_ms = 0;
  std::uint32_t hooks = 0, attempts = 0;
};

// What survives a crash.
struct DurableState {
  std::map<ChunkNumber, StoredChunk> chunks;
  std::map<BatchNumber, std::uint32_t> stored_hooks;  // of each batch that has chunks
  std::map<FailedKey, FailedHook> failed;
  std::map<std::array<std::uint64_t, 2>, RememberedId> remembered;
  ChunkNumber next_number = 1;
  std::uint64_t commits = 0;
  std::uint64_t pending_hooks() const;
};

struct WorldConfig {
  Options options;
  std::uint32_t shards = 1;
  bool durable = false;
  std::uint64_t seed = 1;
  std::uint32_t max_connections = 1024;
  std::size_t unpacked_batches = 8192;
  std::uint64_t read_bytes_max = 64 << 20;
  Duration commit_time = std::chrono::milliseconds(2);
  Duration load_time = std::chrono::milliseconds(1);
};

// A deterministic world around shard cores: virtual clock, network and store. Does what the shell
// does, in the order of virtual time and, within a moment, of the causes. The same calls give the
// same trace.
class CoreWorld {
 public:
  explicit CoreWorld(WorldConfig config);
  ~CoreWorld();

  // --- Behaviour; may be changed at any time
  std::function<Reply(const WorldRequest&)> network;  // default: 200 after 1 ms
  std::function<StoreFault()> store_fault;            // asked once a commit
  std::function<std::error_code()> load_fault;        // asked once a read
  std::function<std::error_code()> ahead_fault;       // the same of what is read ahead
  bool damage_loads = false;                          // blobs come back broken
  // --- Observers
  std::function<void(const WorldRequest&)> on_request, on_reply;
  std::function<void(const FailedHook&, bool is_new)> on_failed_row;

  // --- Time
  Now now() const;
  void move_wall_clock(std::int64_t by_ms) { wall_offset_ms_ += by_ms; }
  void after(Duration delay, std::function<void()> then);
  // One event; false: there is none.
  bool step();
  void run_for(Duration duration);
  // Until nothing is left to do. False: still busy after `most` of virtual time.
  bool run_idle(Duration most = std::chrono::hours(24 * 30));

  // --- What producers and operators do
  std::shared_ptr<WorldCall> submit(const std::vector<WorldHook>& hooks,
                                    std::shared_ptr<OutcomeListener> listener = {});
  std::shared_ptr<WorldCall> submit(const std::string& target, const std::string& body);
  std::shared_ptr<WorldRetry> retry_failed(
      const std::function<bool(const FailedHook&)>& wanted = {},
      std::optional<std::uint32_t> retries = {}, std::size_t most = 1000);
  void stop_retry(const std::shared_ptr<WorldRetry>& run);
  void stop_retries();
  std::uint64_t flush(std::optional<std::string_view> target = {});
  std::uint64_t cancel(std::string_view glob);
  // Drops waiting hooks of the store from memory.
  std::uint64_t shed(std::uint64_t bytes);
  // As for a call that was refused: of each shard. Returns how many bags were cut early.
  std::uint64_t make_room(std::uint64_t bytes);
  void drain();
  bool drained() const;
  std::pair<std::uint64_t, std::uint64_t> abandon();
  void reload(const Options& options);
  void add_barrier(std::function<void()> barrier);
  // The process dies; what was not committed is gone (the commit under way is kept or not), then a
  // new one starts and recovers.
  void crash(bool keep_commit = false);

  // --- Looking
  ShardCore& core(std::uint32_t shard = 0) { return *cores_[shard]; }
  std::uint32_t shards() const { return static_cast<std::uint32_t>(cores_.size()); }
  std::uint32_t shard_of(std::string_view target) const;
  // Takes a core's actions after a test called it itself.
  void touch(std::uint32_t shard = 0);
  std::vector<WorldRequest>& requests() { return requests_; }
  DurableState& durable() { return durable_; }
  std::uint64_t hooks_held() const;
  std::uint64_t memory_bytes() const;
  std::uint32_t life() const { return life_; }
  TimePoint last_refusal() const { return last_refusal_; }
  std::uint64_t loads() const { return loads_done_; }  // batches that were read by themselves
  std::uint64_t events() const { return events_done_; }
  std::uint64_t trace_hash() const { return trace_; }
  // What the world itself found wrong: settled twice, a body that changed, a chunk without its
  // batch...
  std::vector<std::string> violations;

 private:
  struct Event {
    enum class Kind { attempt, commit, load, ahead, custom } kind = Kind::custom;
    std::uint32_t shard = 0;
    Batch* batch = nullptr;
    std::size_t request = 0;
    std::vector<ChunkNumber> chunks;
    std::function<void()> then;
  };
  struct Commit {  // the store thread's running commit
    std::vector<std::unique_ptr<StorePart>> parts;
    StoreGroup group, rest;
    StoreGroupMemory memory, rest_memory;
    StoreFault fault = StoreFault::none;
    bool has_appends = false;
    std::uint64_t bytes_hash = 0;
  };

  void schedule(Duration delay, Event event);
  void run_event(Event& event);
  void make_cores();
  void recover();
  void start_attempt(std::uint32_t shard, Batch& batch);
  void end_attempt(Event& event);
  void start_commit();
  void end_commit();
  void apply(const StoreGroup& group);
  void apply_fail(const FailBatch& fail);
  void end_load(Event& event);
  void end_ahead(Event& event);
  void ensure_numbers(std::uint32_t shard, std::size_t hooks);
  void trace(std::uint64_t value);

  WorldConfig config_;
  std::shared_ptr<const PolicyTable> policies_;
  std::uint64_t generation_ = 1;
  std::vector<std::unique_ptr<ShardCore>> cores_;
  TimePoint now_{std::chrono::hours(1)};
  std::int64_t wall_offset_ms_ = 0;
  std::map<std::pair<TimePoint, std::uint64_t>, Event> events_;
  std::uint64_t sequence_ = 0;
  std::uint32_t life_ = 0;
  bool draining_ = false;

  std::vector<std::unique_ptr<StorePart>> store_queue_;
  std::unique_ptr<Commit> commit_;
  std::map<std::uint32_t, std::uint32_t> poisoned_series_;
  TimePoint last_refusal_{};
  DurableState durable_;

  std::vector<WorldRequest> requests_;
  std::size_t calls_made_ = 0;
  std::vector<std::shared_ptr<WorldRetry>> retries_;
  std::uint64_t events_done_ = 0, loads_done_ = 0;
  std::uint64_t trace_ = 0x9e3779b97f4a7c15;
};

}  // namespace postbag::test
