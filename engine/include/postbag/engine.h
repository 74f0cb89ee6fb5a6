#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/error.h"
#include "postbag/hook.h"
#include "postbag/logger.h"
#include "postbag/options.h"
#include "postbag/outcome.h"
#include "postbag/store.h"

namespace postbag {

// The answer to submit(): all hooks of the call are accepted, or none is.
struct SubmitResult {
  Errc error = Errc::ok;
  // Which hook is to blame (0-based), for the errors below Errc::full; whole_call: no single one.
  static constexpr std::size_t whole_call = static_cast<std::size_t>(-1);
  std::size_t index = 0;
  std::string message;         // for people; empty if ok. Holds no payload and no secret
  std::size_t accepted = 0;    // new hooks
  std::size_t duplicates = 0;  // hooks known by id with the same content; accepted before
  // One per hook, in order, if asked for. Null where the producer gave an id of its own.
  std::vector<HookId> ids;

  bool ok() const { return error == Errc::ok; }
};

// Told of every hook of a call as it gets its outcome (HTTP: ?wait=delivered).
class OutcomeListener {
 public:
  virtual ~OutcomeListener() = default;
  // Called on an engine thread; must not block and must not throw. `index` is the hook's place in
  // the call. Return true to take over a failed hook: it is then not kept in the store, unless
  // another call without a listener has meanwhile been told that this hook is accepted. Return
  // false if nobody is listening any more: the hook is kept as a failed row.
  virtual bool hook_done(std::size_t index, const HookOutcome& outcome) = 0;
  // Called after hook_done() returned true for a failed hook, once that is stored (and synced, if
  // the engine's durability is fsync) and, unless the hook is kept, its id is free again. Do not
  // report the hook as given back before this call: after a crash it may still be sent. Never
  // called if the store failed. Otherwise as hook_done().
  virtual void hook_settled(std::size_t index) { (void)index; }
  // Instead of hook_done(), of a hook that an earlier call brought: what became of it is not
  // remembered, and nothing more is told. It was delivered before this engine began, or it failed
  // and was purged, discarded or taken over. On an engine thread; must not block and must not
  // throw.
  virtual void hook_forgotten(std::size_t index) { (void)index; }
  // True once nobody listens any more: it may be let go without a word, before its hooks have their
  // outcome. On an engine thread; must not block.
  virtual bool is_gone() { return false; }
};

struct SubmitOptions {
  // What "accepted" of this call's new hooks survives; empty: the engine's
  // (StoreOptions::durability). By the engine's:
  //   fsync, os  `fsync`: answered after a commit that is synced, whoever else is in its group.
  //              `os`: answered after a commit that is synced only if another call of its group
  //              wants it, or after 0.9 s without a sync; else a sync follows within a second. A
  //              kill loses nothing, a power loss at most the last second.
  //              `memory`: as `os`. A batch does not mix what is stored with what is not.
  //   memory     `fsync`, `os`: refused (Errc::bad_hook), nothing is stored there but failures.
  // In every combination the bags, their order and the batches are the same, and nothing is sent
  // before its commit. A hook that an earlier call brought (a duplicate) has what that call asked
  // for.
  std::optional<Durability> durability;
  bool want_ids = false;
  std::shared_ptr<OutcomeListener> listener;
};

// An exception thrown on an engine thread is logged and swallowed.
using SubmitHandler = std::function<void(SubmitResult)>;

struct EngineStatus {
  std::uint64_t pending = 0;          // accepted, no outcome yet
  double oldest_pending_seconds = 0;  // how long the oldest of them has waited; 0: there is none
  std::uint64_t failed = 0;           // rows in the store
  std::uint64_t delivered = 0;        // since the start
  // Accepted hooks that left without a delivery since the start: attempts used up, cancelled, given
  // up at the end. Each is a failed row, or discarded or handed back.
  std::uint64_t given_up = 0;
  std::uint64_t cancelled = 0;         // of those, by cancel()
  std::uint64_t discarded = 0;         // given up and not kept (keep_failed = false)
  std::uint64_t handed_back = 0;       // given up and taken over by a listener: not kept either
  std::uint64_t retry_delivered = 0;   // failed rows delivered by retry_failed(); `delivered` too
  std::uint64_t retry_failed = 0;      // failed rows that failed again there; not in given_up
  std::uint64_t purged = 0;            // failed rows deleted by purge_failed(), since the start
  std::uint64_t retention_purged = 0;  // failed rows deleted by age or bytes, since the start
  std::uint64_t ids_forgotten = 0;     // producers' ids before the end of id_window, for room
  std::uint64_t accepted = 0, duplicates = 0, refused = 0;
  std::uint64_t attempts = 0, attempts_failed = 0, batches = 0;
  std::uint64_t cut_by_size = 0, cut_by_bytes = 0, cut_by_time = 0, cut_by_request = 0;
  std::uint64_t targets = 0;
  std::uint64_t bags = 0;                     // open: not cut yet
  std::uint64_t batches_held = 0;             // open, cut, on the wire or waiting for a retry
  std::uint64_t in_flight = 0, retrying = 0;  // batches; TargetStatus counts hooks
  std::uint64_t memory_bytes = 0, memory_limit = 0;  // what counts against max_memory, and that
  std::uint64_t store_bytes = 0, store_limit = 0;    // used pages and log, and StoreInfo::max_bytes
  std::uint64_t connections = 0;
  double accepted_per_second = 0, delivered_per_second = 0;  // over about the last 10 s
  Durability durability = Durability::memory;
  double uptime_seconds = 0;
  std::uint32_t shards = 0;  // engine threads
  bool draining = false, recovering = false, healthy = true;
  bool disk_low = false;  // the store has no room for more: submit() answers Errc::disk_low
};

struct TargetStatus {
  std::string url;
  std::string log_name;  // what log lines call it: without its path, which may be a secret
  // "retrying": batches wait for a retry. "failing": none does, but the last attempt failed. "ok":
  // the last attempt delivered, or there was none.
  std::string state;
  std::uint64_t waiting = 0;    // hooks in bags and in cut batches not yet sent
  std::uint64_t in_flight = 0;  // hooks on the wire
  std::uint64_t retrying = 0;   // hooks in batches that wait for a retry
  std::uint64_t delivered = 0, given_up = 0;
  int last_status = 0;
  std::string last_reason;  // empty: the last attempt delivered, or there was none
  WallMs last_attempt_ms = 0;
};

struct HookStatus {
  std::string id;
  std::string target;  // empty of a hook of which no more is known than that it was delivered
  std::string state;   // "waiting", "in_flight", "retrying", "failed", "delivered"
  std::uint32_t attempts = 0;
  std::string reason;  // of a failed hook, or of the last attempt of a retrying one
  int status = 0;
};

struct RetryProgress {
  std::uint64_t delivered = 0, failed = 0, skipped = 0;
  std::uint64_t total = 0;  // rows that match; 0 while not known
  // At the end: the engine failed or began to stop, or the rest could not be read.
  std::error_code error{};
  // At the end: rows that match were left as they are, or their outcome is not counted, because the
  // run was told to stop or had to end with `error`.
  bool stopped = false;
  std::uint64_t claimed = 0;  // rows that match and were left to another run, which has them
};

struct RetryOptions {
  FailedFilter filter;
  std::optional<std::uint64_t> limit;
  std::optional<std::uint32_t> retries;  // instead of the target's own
  // Called about once a second on the thread that runs it, and once at the end. Returns false to
  // stop as `stop` does.
  std::function<bool(const RetryProgress&)> progress;
  // May be requested from any thread. Nothing more is sent, batches in flight are not retried, and
  // the run ends when the last of them is done. Rows that were not sent stay as they are and are
  // not counted.
  std::stop_token stop;
  // As `stop`, but the run ends at once: the outcome of the rows in flight, delivered or failed
  // again, is still stored but no longer counted.
  std::stop_token leave;
};

// What `--dry-run` says.
struct RetryPlan {
  std::uint64_t hooks = 0, targets = 0, requests = 0, bytes = 0, skipped = 0;
  std::error_code error{};  // the rows could not be read; the numbers say nothing then
};

struct DrainReport {
  std::uint64_t left = 0;           // hooks that stay in the store, pending
  std::uint64_t stored_failed = 0;  // memory mode: stored as failed(shutdown)
  std::uint64_t lost = 0;           // memory mode: could not be stored as failed either
  bool timed_out = false;           // ended early: at the timeout, hurried, or by `error`
  std::error_code error{};          // the engine failed
};

struct PurgeResult {
  std::uint64_t purged = 0;
  std::error_code error;      // what ended it; what was purged before stays purged
  std::uint64_t claimed = 0;  // rows that match and stay, as a run of retry_failed() has them
};

struct CancelResult {
  std::uint64_t cancelled = 0;
  std::error_code error;  // the engine failed before it was stored: a restart may send them
};

// The delivery engine. Every member function may be called from any thread, also from callbacks
// unless said otherwise. Those marked *blocks* throw std::logic_error on an engine thread (in a
// callback), which they would wait for.
class Engine {
 public:
  // Starts the threads. Throws std::invalid_argument with validate_options()'s message, or
  // std::system_error if a thread cannot be started or the store cannot be read. Owns the store.
  // Delivers nothing that it finds in the store before recover().
  Engine(Options options, std::unique_ptr<Store> store, Logger logger = {});
  // Ends without a drain if drain() was not called: what is on the wire is aborted; durable hooks
  // stay in the store, those of memory mode are stored as failed(shutdown). *Blocks* until that is
  // done. On an engine thread (in a callback) it returns at once instead and the engine shuts down
  // on a thread of its own; a process that exits before that has finished loses what a kill would
  // lose.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Offers hooks. Checks them all on the caller's thread (URL, policy, headers, JSON, ids),
  // reserves room for the whole call, hands over. `done` is called exactly once: on the caller's
  // thread if refused, else on an engine thread as soon as all are accepted (after the commit in
  // the durable modes). Never blocks on I/O. In the durable modes call recover() first: what an
  // earlier run left in the store waits until then.
  void submit(HookList hooks, SubmitOptions options, SubmitHandler done);
  // The same, *blocks* until the answer is there.
  SubmitResult submit(HookList hooks, SubmitOptions options = {});
  SubmitResult submit(std::string_view target, std::string_view payload);

  // Delivers the pending batches found in the store. *Blocks* until all of them have been read.
  // Until then nothing is sent, and calls and commands wait, so that hooks submitted meanwhile
  // queue behind the recovered ones of their bag. `held` is called as soon as that is guaranteed:
  // start to accept hooks there. `progress` gets the number of hooks found so far. Call at most
  // once. Throws what `held` throws, or std::system_error if the store cannot be read; the engine
  // is stopping then.
  std::uint64_t recover(const std::function<void(std::uint64_t hooks)>& progress = {},
                        const std::function<void()>& held = {});

  // Cuts every bag, or the bags of one target (canonical or not). Returns how many were cut.
  // *Blocks.*
  std::uint64_t flush(std::optional<std::string_view> target = {});
  // Moves the hooks that are not on the wire, of targets that the pattern means (target_matches()),
  // to failed(cancelled). *Blocks* until stored.
  CancelResult cancel(std::string_view target_glob);
  // *Blocks* until every accepted hook has its outcome, or the deadline. True: none is left.
  bool wait_idle(std::optional<Duration> timeout = {});
  // Closes submit(), cuts every bag, gives each unattempted batch one attempt, ends when nothing is
  // on the wire or at the timeout. *Blocks.* Idempotent.
  DrainReport drain(Duration timeout);
  // A second signal: ends a running drain() at once.
  void hurry();

  // retry-failed-hooks: takes failed rows oldest first, through the same bags and policies. A row
  // is never sent by two runs at the same time. *Blocks* until every taken row has its outcome, or
  // the engine has failed, or it is stopped (RetryOptions).
  RetryProgress retry_failed(const RetryOptions& options);
  // What such a run would send now; looks through all rows. *Blocks.* Errors: RetryPlan::error.
  RetryPlan plan_retry(const RetryOptions& options);

  // Failed rows, one slice; see Store::list_failed. *Blocks.* Errc::store_failed, store_corrupt,
  // store_io: `page` is to be ignored then.
  std::error_code list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                              const SliceLimits& limits, FailedPage& page);
  // Deletes what matches, the oldest first and at most `limit`, but not what a retry has under way.
  // *Blocks.*
  PurgeResult purge_failed(const FailedFilter& filter, std::optional<std::uint64_t> limit = {});
  // Copies the store to a new file while the engine keeps running. The copy is `path`.part until it
  // is complete and on disk, then it gets its name. *Blocks.* Errc::store_cannot_create if `path`
  // or `path`.part exists (the latter is a copy under way, or left by one that was killed);
  // Errc::stopping if the engine began to stop meanwhile or `stop` was requested. After any error
  // no file is left behind.
  std::error_code backup(const std::string& path, const std::stop_token& stop = {});

  // Does not block: the numbers that the shards publish, all from about the same moment.
  EngineStatus status() const;
  // Those that are not ok first, then the busiest; at most `limit`. *Blocks* briefly.
  std::vector<TargetStatus> targets(std::size_t limit = 1000) const;
  // By the engine's id or the producer's own. Empty: unknown, or delivered so long ago that it has
  // been forgotten. *Blocks*, as it may have to search the failed rows.
  std::optional<HookStatus> find_hook(std::string_view id) const;

  // Replaces targets, defaults and policies ([[target]] [batch] [retry] [delivery] [network] [tls],
  // keep_failed); other changes are returned as the list of keys that need a restart. Throws
  // std::invalid_argument and changes nothing if invalid. *Blocks* until all shards have them.
  std::vector<std::string> reload(Options options);

  // Called once, on an engine thread (or by on_fatal() itself if it has happened already), when the
  // store failed for good, or when memory ran out where nothing can be undone
  // (std::errc::not_enough_memory): nothing is accepted any more, and the process should end. What
  // is in the store is delivered after the next start.
  void on_fatal(std::function<void(std::error_code)> handler);

 private:
  class Impl;
  friend class RetryJob;
  std::unique_ptr<Impl> impl_;
};

// Library version, "0.1.0".
std::string_view version();

}  // namespace postbag
