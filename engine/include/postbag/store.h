#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "postbag/outcome.h"
#include "postbag/time.h"

namespace postbag {

// The seam to durable storage. Everything but sync() is blocking and called by one thread at a time
// (the engine's store thread once it runs; the opener before and after). Implementations:
// store/sqlite_store.cc, store/memory_store.cc; both pass tests/store_contract_test.cc.
//
// Words: a *chunk* is one row: the hooks that one batch got in one commit group, in an encoding the
// store does not look into (engine/pure/chunk_codec.h). A *failed row* is one hook whose batch used
// up its attempts.

// Unique for ever within a store, from a persisted reserved block. An id has so many bits for it,
// so a larger one is damage.
using ChunkNumber = std::uint64_t;
inline constexpr unsigned chunk_number_bits = 44;
using BatchNumber = std::uint64_t;  // the number of the batch's first chunk
// Where a failed hook lies: the number of its chunk and its index there, in as many bits as the
// hook's id has for it, so that a row is found by what the id says. Ascending = oldest first.
using FailedKey = std::uint64_t;
inline constexpr unsigned failed_key_index_bits = 14;
constexpr FailedKey failed_key(ChunkNumber chunk, std::uint32_t index) {
  return chunk << failed_key_index_bits | index;
}
constexpr ChunkNumber failed_key_chunk(FailedKey key) {
  return key >> failed_key_index_bits;
}
constexpr std::uint32_t failed_key_index(FailedKey key) {
  return static_cast<std::uint32_t>(key & ((1u << failed_key_index_bits) - 1));
}

// What hooks must have in common to share a batch; also what a stored chunk needs to be sent again.
struct BatchKeyView {
  std::string_view target;  // canonical URL
  std::string_view group;
  std::string_view headers;  // the exact list as "Name: value\r\n"...; empty: none
};

// A chunk to append. Views are valid during commit().
struct ChunkAppend {
  ChunkNumber chunk = 0;
  BatchNumber batch = 0;
  BatchKeyView key;
  WallMs accepted_ms = 0;
  std::uint32_t hooks = 0;
  std::span<const std::string_view> data;  // pieces, to be stored as one blob
};

// Attempts made so far by a batch that waits for its retry; survives a restart.
struct AttemptsUpdate {
  BatchNumber batch = 0;
  std::uint32_t attempts = 0;
  WallMs next_attempt_ms = 0;
};

// One hook of a failed batch.
struct FailedHookView {
  FailedKey key = 0;
  std::string_view id;  // as the producer knows it
  std::string_view event;
  std::string_view content_type;  // empty: application/json
  std::string_view body;
  WallMs accepted_ms = 0;  // kept as first_at
};

// A batch that was given up: its rows are inserted (or, for a row whose key is there already,
// replaced: then attempts are added up and first_at stays). `each_hook` calls the function for
// every hook, in order.
struct FailBatch {
  BatchNumber batch = 0;
  BatchKeyView key;
  Reason reason = Reason::none;
  int status = 0;
  std::uint32_t attempts = 0;
  WallMs last_at = 0;
  std::string_view response_headers;
  std::string_view response_excerpt;
  std::function<void(const std::function<void(const FailedHookView&)>&)> each_hook;
};

// At most this many ids are remembered for repeated calls; beyond that the oldest are forgotten.
inline constexpr std::size_t remembered_ids_max = 1'000'000;

// A producer's id, remembered for the id window, as hashes only. A later one with the same id_hash
// replaces it.
struct RememberedId {
  std::array<std::uint64_t, 2> id_hash{};
  std::array<std::uint64_t, 2> content_hash{};
  FailedKey location = 0;  // chunk and index
  WallMs expires_ms = 0;
};

// One transaction. All of it is done or none.
struct StoreGroup {
  std::vector<ChunkAppend> append;
  // Chunks to delete: delivered, or moved to failed rows by this group.
  std::vector<ChunkNumber> settle;
  std::vector<AttemptsUpdate> attempts;
  std::vector<FailBatch> fail;
  // Delivered by retry-failed-hooks; a missing key is no error.
  std::vector<FailedKey> delete_failed;
  std::vector<RememberedId> remember;
  // Ids to forget, by id_hash; one that is not known is no error.
  std::vector<std::array<std::uint64_t, 2>> forget;
  // Chunk numbers below this may be handed out from now on, also after a crash (0: no change).
  ChunkNumber reserve_below = 0;

  bool empty() const {
    return append.empty() && settle.empty() && attempts.empty() && fail.empty() &&
           delete_failed.empty() && remember.empty() && forget.empty() && reserve_below == 0;
  }
};

// How durable a commit is: `sync` = on disk when commit() returns (SQLite synchronous=FULL);
// `sync_later` = on disk once a Store::sync() that began after it has returned.
enum class CommitLevel : std::uint8_t { no_sync, sync, sync_later };

// A chunk found at start: everything but its hooks.
struct PendingChunk {
  ChunkNumber chunk = 0;
  BatchNumber batch = 0;
  std::string target, group, headers;
  WallMs accepted_ms = 0;
  std::uint32_t hooks = 0;     // 1 to batch_size_max, in a damaged store too
  std::uint64_t bytes = 0;     // of the blob
  std::uint32_t attempts = 0;  // of the batch; stands in its first chunk
  WallMs next_attempt_ms = 0;
};

struct FailedHook {
  FailedKey key = 0;
  std::string id, target, group, event, headers, content_type, body;
  Reason reason = Reason::none;
  int status = 0;
  std::uint32_t attempts = 0;
  WallMs first_at = 0, last_at = 0;
  std::string response_headers, response_excerpt;
};

// Which failed rows. Empty members match everything; several must all hold.
struct FailedFilter {
  std::string target;  // a pattern of target_matches()
  std::optional<std::string> group, event;
  std::optional<int> status;
  std::string reason;                  // a token, "status_503" too
  std::optional<WallMs> since, until;  // by last_at, since <= t < until
  std::vector<std::string> ids;
  bool empty() const {
    return target.empty() && !group && !event && !status && reason.empty() && !since && !until &&
           ids.empty();
  }
};

// One slice of a listing, oldest first. `next` is empty at the end; a page may be empty and still
// have a next.
struct FailedPage {
  std::vector<FailedHook> rows;
  std::optional<FailedKey> next;  // pass as `after`
};

struct SliceLimits {
  std::size_t rows = 1000;      // at most so many in the answer
  std::size_t scan = 20'000;    // at most so many looked at
  std::size_t bytes = 4 << 20;  // about; one row is always returned
  bool bodies = true;           // false: leave body and response fields empty
};

struct StoreInfo {
  ChunkNumber next_number = 1;  // first chunk number never handed out
  std::uint16_t store_tag = 0;  // random part of the store, in every id
  std::uint64_t pending_chunks = 0, pending_hooks = 0, pending_bytes = 0;  // counted at open
  std::uint64_t failed_hooks = 0;
  bool durable = false;               // a commit survives the process
  std::uint64_t max_bytes = 0;        // what StoreStats::used_bytes may reach; 0: no limit
  std::vector<std::string> warnings;  // noticed at open, to be logged; no secrets
};

struct StoreStats {
  std::uint64_t failed_hooks = 0;
  // Of the failed rows and their responses, as failed_max_bytes counts.
  std::uint64_t failed_bytes = 0;
  std::uint64_t used_bytes = 0;  // used pages and WAL
  std::uint64_t file_bytes = 0;
};

// A copy of a store, made while the store is in use. Must be gone before the store is.
class StoreBackup {
 public:
  // Removes the file unless sync() has succeeded. Call it on the store's thread as long as step()
  // has not set `done`.
  virtual ~StoreBackup() = default;
  // A slice, on the store's thread: about 5 ms. What is committed between two may come along.
  // `done`: the copy is whole. After an error there is nothing left of it.
  virtual std::error_code step(bool& done) = 0;
  // Last, once it is whole: puts it on disk. Any thread, as it may take long.
  virtual std::error_code sync() = 0;
};

class Store {
 public:
  virtual ~Store() = default;

  virtual StoreInfo info() const = 0;

  // One transaction. Errors: Errc::disk_low (no room: nothing of the group is stored, later may
  // work), Errc::store_failed (for good: what was in the group may come back after a restart; call
  // nothing but the destructor). A FailBatch with `keep` off is never given to the store. Never
  // throws but std::bad_alloc, which is as disk_low.
  virtual std::error_code commit(const StoreGroup& group, CommitLevel level) = 0;

  // Whether there is sync(); if not, `sync_later` is as `sync`.
  virtual bool syncs_later() const { return false; }
  // Returns when all that was committed before is on disk. The one call that a second thread may
  // make while the first works with the store; one at a time, not during the destructor.
  // Errc::store_failed, for good.
  virtual std::error_code sync() { return {}; }

  // Pending chunks with a number above `after`, ascending, at most `max`; fewer = the end. What
  // `out` held is overwritten, so that its memory is used again.
  virtual std::error_code scan_pending(ChunkNumber after, std::size_t max,
                                       std::vector<PendingChunk>& out) = 0;
  // The blobs of the chunks, in the order asked for. Errc::not_found if one is missing,
  // store_corrupt if one is damaged.
  virtual std::error_code read_chunks(std::span<const ChunkNumber> chunks,
                                      std::vector<std::string>& blobs) = 0;
  // The batch that a chunk belongs to, or nothing.
  virtual std::optional<BatchNumber> find_chunk(ChunkNumber chunk) = 0;

  // Failed rows after `after` (exclusive; nothing = from the oldest).
  virtual std::error_code list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                                      const SliceLimits& limits, FailedPage& page) = 0;
  virtual std::optional<FailedHook> find_failed(FailedKey key) = 0;
  // Deletes one slice of what matches; `next` as in FailedPage. Its own transaction; on disk with
  // the last slice. Rows in `except` (sorted) stay.
  virtual std::error_code purge_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                                       const SliceLimits& limits, std::span<const FailedKey> except,
                                       std::uint64_t& purged, std::optional<FailedKey>& next) = 0;

  // Ids still remembered; forgets those that expired before `now_ms`.
  virtual std::error_code load_ids(WallMs now_ms,
                                   const std::function<void(const RememberedId&)>& each) = 0;
  virtual std::error_code forget_ids(WallMs now_ms) = 0;

  virtual StoreStats stats() = 0;
  // Whether the file that was opened is still the one under its name; cheap, asked every few
  // seconds. Errc::store_failed (for good) if not: nobody would find what is accepted from now on.
  virtual std::error_code check_place() { return {}; }
  // Whether a commit that appends a small chunk would find room now, as far as can be said without
  // one; cheap, asked once in a while where the last one did not.
  virtual bool has_room() { return true; }
  // Which limit refused the commit that ended last with Errc::disk_low, with numbers, for the log.
  // Empty: not known.
  virtual std::string why_no_room() { return {}; }
  // What made it fail for good, for the log: file, operation and what the system says. Empty: it
  // did not, or nothing more is known. Any thread.
  virtual std::string failure() const { return {}; }
  // A bounded piece (about 5 ms) of housekeeping: checkpoint, free pages. True: there is more to
  // do.
  virtual bool maintain() = 0;
  // Begins to copy the store to a new file; the file must not exist.
  virtual std::error_code begin_backup(const std::string& path,
                                       std::unique_ptr<StoreBackup>& backup) = 0;
  // All of it at once. Blocks until done.
  std::error_code backup(const std::string& path) {
    std::unique_ptr<StoreBackup> copy;
    std::error_code error = begin_backup(path, copy);
    for (bool done = false; !error && !done;) error = copy->step(done);
    return error ? error : copy->sync();
  }
};

}  // namespace postbag
